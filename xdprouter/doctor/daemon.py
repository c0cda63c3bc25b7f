# SPDX-License-Identifier: GPL-2.0-only
"""What a running daemon says of itself."""

from collections.abc import Iterator

from xdprouter.doctor.facts import Facts
from xdprouter.doctor.finding import Finding, Group, Severity

_NEED_NO_CARE = {"permanent", "noarp"}
_WITHOUT_ADDRESS = {"failed", "incomplete", "absent"}
_RECENT_S = 10.0


def examine(facts: Facts) -> Iterator[Finding]:
    if facts.mute:
        yield _say(
            "daemon",
            Severity.ERROR,
            f"it does not answer: {facts.mute}",
            no_command="its log says more; then restart it",
        )
        return
    if facts.status is None:
        yield _absent(facts)
        return
    status = facts.status
    yield _say(
        "daemon", Severity.OK, f"xdprouter {status['version']}, pid {status['pid']}, instance {status['instance']}"
    )
    if status["in_sync"]:
        yield _say("in-sync", Severity.OK, "the data plane is as the configuration wants it")
    for reason in status["out_of_sync_reasons"]:
        yield _say("in-sync", Severity.WARNING, f"out of sync: {reason}", no_command="see the port's own findings")
    yield _cache(status["cache"])
    yield from _neighbours(facts)


def _absent(facts: Facts) -> Finding:
    if facts.forwarding_alone:
        return _say(
            "daemon", Severity.WARNING,
            f"none, and {facts.forwarding_alone} port(s) go on forwarding alone: no change of ports or firewall is followed",
            no_command="start it as it was started before (`systemctl start xdprouter`, or `xdprouter run`)",
        )  # fmt: skip
    return _say("daemon", Severity.INFO, f"none runs in instance {facts.instance}")


def _cache(cache: dict) -> Finding:
    if cache["enabled"]:
        if cache["lease_ok"]:
            return _say("cache", Severity.OK, f"answers are remembered by {cache['key']}")
        return _say(
            "cache", Severity.WARNING, "nothing is recalled: the daemon was late to renew its lease",
            no_command="the machine, or the daemon's share of it, is overloaded",
        )  # fmt: skip
    if "cache_entries" in cache["reason"]:
        return _say("cache", Severity.INFO, f"off: {cache['reason']}")
    return _say(
        "cache", Severity.WARNING, f"withdrawn, so the FIB is asked for each packet: {cache['reason']}",
        no_command="the reason names the setting",
    )  # fmt: skip


def _neighbours(facts: Facts) -> Iterator[Finding]:
    """Next hops that carry traffic, and whose address the kernel does not keep fresh or does not have."""
    found = False
    for hop in facts.next_hops:
        what = f"{hop['address']} on {hop['device']}"
        if hop["state"] in _WITHOUT_ADDRESS and hop["idle_s"] < _RECENT_S:
            found = True
            yield _say(
                "neighbours", Severity.WARNING, f"next hop {what} carries traffic and is {hop['state']}",
                no_command="it does not answer: look at it, or at the link to it",
            )  # fmt: skip
        elif not hop["managed"] and hop["state"] not in _NEED_NO_CARE | _WITHOUT_ADDRESS:
            found = True
            yield _say(
                "neighbours", Severity.INFO, f"next hop {what} is {hop['state']}, and not kept fresh by xdprouter",
                no_command="somebody else looks after it, or the next round of a second does",
            )  # fmt: skip
    if not found:
        yield _say("neighbours", Severity.OK, f"{len(facts.next_hops)} next hops carry traffic, all kept fresh")


def _say(key: str, severity: Severity, reason: str, command: str = "", no_command: str = "") -> Finding:
    return Finding(key, Group.DAEMON, severity, reason, command, no_command)
