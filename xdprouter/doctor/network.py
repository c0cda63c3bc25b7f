# SPDX-License-Identifier: GPL-2.0-only
"""What the namespace's settings, firewall and memory mean for forwarding."""

from collections.abc import Iterator

from xdprouter.doctor.facts import Facts, Family
from xdprouter.doctor.finding import Finding, Group, Severity

_SWITCHES = {"IPv4": "net.ipv4.ip_forward", "IPv6": "net.ipv6.conf.all.forwarding"}
ROUTE_BYTES = {"ipv4_routes": 200, "ipv6_routes": 500}
"""Kernel memory of a route, about: fib_alias, leaf and its share of the trie; fib6_info, node and per-CPU pointer"""
_OWN_DECISION = (
    "no tool should advise to take a firewall away: if it is not wanted, remove what the reason names; "
    'to go past it knowingly, set guard = "warn" in the configuration'
)


def examine(facts: Facts) -> Iterator[Finding]:
    anywhere = any(family.forwarding for family in facts.families)
    for family in facts.families:
        yield _forwarding(family, anywhere)
        for port in family.closed:
            name = f"net/{family.name.lower()}/conf/{port}/forwarding"  # with slashes: a port's name may have dots
            yield Finding(
                f"{family.name.lower()}-forwarding", Group.PORT, Severity.WARNING,
                f"{family.name} packets that come in here are not forwarded", f"sysctl -w {name}=1", port=port,
            )  # fmt: skip
    yield from _guard(facts)
    yield _memory(facts)


def _forwarding(family: Family, anywhere: bool) -> Finding:
    key = f"{family.name.lower()}-forwarding"
    if family.forwarding:
        return _say(key, Severity.OK, f"{family.name} is forwarded")
    command = f"sysctl -w {_SWITCHES[family.name]}=1"
    if not anywhere:
        return _say(key, Severity.ERROR, f"{family.name} is not forwarded, nor anything else", command)
    if family.addressed:
        reason = (
            f"{family.name} is not forwarded, though ports have {family.name} addresses: {_names(family.addressed)}"
        )
        return _say(key, Severity.WARNING, reason, command)
    return _say(key, Severity.INFO, f"{family.name} is not forwarded, and no port has an address of it", command)


def _guard(facts: Facts) -> Iterator[Finding]:
    if facts.guard_policy == "off":
        yield _say("guard", Severity.INFO, 'guard = "off": nobody looks for a firewall that packets would go past')
        return
    if not facts.guard:
        yield _say("guard", Severity.OK, "forwarded packets meet no firewall, traffic control or IPsec")
    for device, text in facts.guard:
        held = "stay on the slow path" if facts.guard_policy == "refuse" else "go past it all the same"
        yield Finding(
            "guard", Group.NETWORK if device is None else Group.PORT, Severity.WARNING,
            f"packets {held}: {text}", no_command=_OWN_DECISION, port=device,
        )  # fmt: skip


def _memory(facts: Facts) -> Finding:
    free = facts.available_bytes
    if facts.status is None:
        if facts.cache_bytes > free:
            reason = (
                f"cache_entries = {facts.cache_entries} takes {facts.cache_bytes // 10**6} MB on {facts.cpus} CPUs, and "
                f"{free // 10**6} MB are available"
            )
            fits = 1 << max(0, (facts.cache_entries * free // (2 * facts.cache_bytes)).bit_length() - 1)
            return _say("memory", Severity.ERROR, reason, no_command=f"set cache_entries = {fits} in the configuration")
        return _say(
            "memory", Severity.OK, f"{free // 10**6} MB available, {facts.cache_bytes // 10**6} MB for the cache"
        )
    fib = facts.status["fib"]
    routes = sum(fib[family] * size for family, size in ROUTE_BYTES.items())
    number = fib["ipv4_routes"] + fib["ipv6_routes"]
    if routes > free:
        return _say(
            "memory", Severity.WARNING,
            f"{number} routes take about {routes // 10**6} MB in the kernel, and only {free // 10**6} MB are left: "
            "a second copy, as while a routing daemon restarts, does not fit",
            no_command="more memory, or fewer routes",
        )  # fmt: skip
    return _say("memory", Severity.OK, f"{free // 10**6} MB available; {number} routes take about {routes // 10**6} MB")


def _say(key: str, severity: Severity, reason: str, command: str = "", no_command: str = "") -> Finding:
    return Finding(key, Group.NETWORK, severity, reason, command, no_command)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names)
