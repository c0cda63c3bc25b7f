# SPDX-License-Identifier: GPL-2.0-only
"""The filter on the route socket: every announcement is counted, and only routes of note come through. And what else
the kernel announces of that on which forwarding depends."""

import asyncio

import pytest

from controlplane import settings
from controlplane.churn import ChurnMeter
from controlplane.dataplane import Dataplane
from controlplane.events import LinkGone, LinkSet, RoutesNoted, SettingsChanged, Synced
from controlplane.guard import GuardWatch
from controlplane.monitor import NetlinkMonitor
from controlplane.netlink import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, NetlinkSocket, messages
from controlplane.notes import BY_SOURCE, BY_TOS, MULTIPATH, RouteNotes
from controlplane.notices import ChurnRate
from tests.bpf.network import Namespace


class Listener:
    """A route socket behind the filter. The filter runs within the system call that makes the change, so what it
    lets through is there when that has returned."""

    def __init__(self, ns: Namespace, dataplane: Dataplane):
        self.ns = ns
        self.dataplane = dataplane
        with ns.entered():
            self.socket = NetlinkSocket()
        self.socket.attach_filter(dataplane.route_filter_fd)
        self.socket.join(RTNLGRP_IPV4_ROUTE)
        self.socket.join(RTNLGRP_IPV6_ROUTE)

    def noted(self) -> tuple[RouteNotes, int]:
        """What has come since the last call: the notes, and how many messages they were."""
        notes, number = RouteNotes(), 0
        while (data := self.socket.receive()) is not None:
            for offset, _, _, length in messages(data):
                notes.take(data, offset, length)
                number += 1
        return notes, number

    def after(self, command: str, family: int = 4) -> tuple[RouteNotes, int]:
        before = self.dataplane.route_changes()[0]
        self.noted()
        self.ns.ip(command, family=family)
        assert self.dataplane.route_changes()[0] > before, "the change is counted"
        return self.noted()


@pytest.fixture
def listener(dataplane):
    ns = Namespace()
    try:
        # An IPv6 address would be announced whenever the kernel gets round to it.
        ns.sysctl(ipv6__conf__default__addr_gen_mode=1)
        ns.ip("link set lo up", "link add a0 type veth peer name b0", "link set a0 up", "link set b0 up")
        ns.ip("addr add 10.0.0.1/24 dev a0")
        made = Listener(ns, dataplane)
        try:
            yield made
        finally:
            made.socket.close()
    finally:
        ns.delete()


def _names(notes: RouteNotes) -> dict:
    out = {"own": {str(p) for p in notes.own}, "blackholes": {str(p) for p in notes.blackholes}}
    out["narrow"] = {str(p): mtu for p, mtu in notes.narrow.items()}
    out["reasons"] = notes.reasons
    return {kind: found for kind, found in out.items() if found}


LET_THROUGH = {
    "local": (4, "route add local 10.77.0.0/16 dev lo", {"own": {"10.77.0.0/16"}}),
    "local in another table": (4, "route add local 10.77.0.0/16 dev lo table 100", {"own": {"10.77.0.0/16"}}),
    "broadcast": (4, "route add broadcast 10.0.0.77 dev a0", {"own": {"10.0.0.77/32"}}),
    "anycast": (4, "route add anycast 10.0.0.77 dev a0", {"own": {"10.0.0.77/32"}}),
    "blackhole": (4, "route add blackhole 198.51.100.0/24", {"blackholes": {"198.51.100.0/24"}}),
    "default blackhole": (4, "route add blackhole default metric 999", {"blackholes": {"0.0.0.0/0"}}),
    "IPv6 blackhole": (6, "route add blackhole 2001:db8:9::/48", {"blackholes": {"2001:db8:9::/48"}}),
    "mtu": (4, "route add 198.51.100.0/24 via 10.0.0.2 mtu 1300", {"narrow": {"198.51.100.0/24": 1300}}),
    "mtu behind other attributes": (
        4, "route add 198.51.100.0/24 via 10.0.0.2 src 10.0.0.1 metric 7 table 100 mtu 1300 advmss 1200",
        {"narrow": {"198.51.100.0/24": 1300}},
    ),
    "IPv6 mtu": (6, "route add 2001:db8:9::/48 dev a0 mtu 1300", {"narrow": {"2001:db8:9::/48": 1300}}),
    "default with mtu": (4, "route add default via 10.0.0.2 mtu 1300", {"narrow": {"0.0.0.0/0": 1300}}),
    "mtu of several next hops": (
        4, "route add 198.51.100.0/24 mtu 1300 nexthop via 10.0.0.2 nexthop via 10.0.0.3",
        {"narrow": {"198.51.100.0/24": 1300}, "reasons": MULTIPATH},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LET_THROUGH)
def test_routes_of_note_come_through(listener, case):
    family, command, expected = LET_THROUGH[case]
    notes, number = listener.after(command, family)
    assert (_names(notes), number) == (expected, 1)


@pytest.mark.parametrize("case", LET_THROUGH)
def test_a_removal_does_not(listener, case):
    """A count misses them soon enough; and the kernel tells of a removal before it is done."""
    family, command, _ = LET_THROUGH[case]
    listener.ns.ip(command, family=family)
    assert listener.after(command.replace("add", "del", 1), family) == (RouteNotes(), 0)


BY_MORE_THAN_THE_DESTINATION = {
    "several next hops": (4, "route add 198.51.100.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.3", MULTIPATH),
    "several IPv6 next hops": (
        6, "route add 2001:db8:9::/48 nexthop via fe80::2 dev a0 nexthop via fe80::3 dev a0", MULTIPATH,
    ),
    "a tos": (4, "route add 198.51.100.0/24 tos 0x10 via 10.0.0.2", BY_TOS),
    "a source prefix": (6, "route add 2001:db8:9::/48 from 2001:db8:8::/48 dev a0", BY_SOURCE),
}  # fmt: skip


@pytest.fixture
def knowing(dataplane):
    """`knowing(MULTIPATH)`: routes of these kinds are reckoned with, by the key of the cache."""
    yield lambda reasons: setattr(dataplane.cache._state, "known_reasons", reasons)
    dataplane.cache._state.known_reasons = 0


@pytest.mark.parametrize("case", BY_MORE_THAN_THE_DESTINATION)
def test_a_route_that_the_key_must_reckon_with_comes_through(listener, case):
    """And stops the cache, until the daemon has seen to it."""
    family, command, reason = BY_MORE_THAN_THE_DESTINATION[case]
    before = listener.dataplane.cache.changes
    notes, number = listener.after(command, family)
    assert (notes, number) == (RouteNotes(reasons=reason), 1)
    assert listener.dataplane.cache.changes == before + 1


@pytest.mark.parametrize("case", BY_MORE_THAN_THE_DESTINATION)
def test_a_route_that_the_key_reckons_with_already_does_not(listener, knowing, case):
    family, command, reason = BY_MORE_THAN_THE_DESTINATION[case]
    knowing(reason)
    before = listener.dataplane.cache.changes
    assert listener.after(command, family) == (RouteNotes(), 0)
    assert listener.dataplane.cache.changes == before
    listener.after(command.replace("add", "del", 1), family)
    knowing(0)
    assert listener.after(command.replace("add", "append", 1), family)[1] == 1
    assert listener.after(command.replace("add", "del", 1), family) == (RouteNotes(), 0)
    assert listener.dataplane.cache.changes == before + 1, "a removal needs no other key"


KEPT_OUT = {
    "unicast": (4, "route add 198.51.100.0/24 via 10.0.0.2"),
    "IPv6 unicast": (6, "route add 2001:db8:9::/48 dev a0"),
    "source, metric and table": (4, "route add 198.51.100.0/24 via 10.0.0.2 src 10.0.0.1 metric 7 table 100"),
    "unreachable": (4, "route add unreachable 198.51.100.0/24"),
    "prohibit": (4, "route add prohibit 198.51.100.0/24"),
    "throw": (4, "route add throw 198.51.100.0/24 table 100"),
}


@pytest.mark.parametrize("case", KEPT_OUT)
def test_other_routes_are_counted_and_kept_out(listener, case):
    family, command = KEPT_OUT[case]
    assert listener.after(command, family) == (RouteNotes(), 0)


def test_a_locked_mtu_comes_through_and_is_not_noted(listener):
    """Its metrics look the same from the kernel's side of the socket."""
    notes, number = listener.after("route add 198.51.100.0/24 via 10.0.0.2 mtu lock 1300")
    assert (notes, number) == (RouteNotes(), 1)


def test_a_replaced_route_is_announced_with_its_new_mtu(listener):
    listener.ns.ip("route add 198.51.100.0/24 via 10.0.0.2")
    notes, _ = listener.after("route replace 198.51.100.0/24 via 10.0.0.2 mtu 1300")
    assert _names(notes) == {"narrow": {"198.51.100.0/24": 1300}}


def test_a_changed_route_is_announced_with_its_new_type(listener):
    listener.ns.ip("route add 198.51.100.0/24 via 10.0.0.2")
    notes, _ = listener.after("route replace blackhole 198.51.100.0/24")
    assert _names(notes) == {"blackholes": {"198.51.100.0/24"}}


def test_an_address_is_announced_by_its_routes(listener):
    notes, _ = listener.after("addr add 192.0.2.1/24 dev a0")
    assert _names(notes) == {"own": {"192.0.2.1/32", "192.0.2.255/32"}}


@pytest.mark.parametrize(("family", "text"), [(4, "198.51.100.0/24"), (6, "2001:db8:9::/48")])
def test_a_blackhole_by_nexthop_object_is_one(listener, family, text):
    """As FRR installs them."""
    listener.ns.ip("nexthop add id 99 blackhole", family=family)
    notes, _ = listener.after(f"route add {text} nhid 99", family)
    assert _names(notes) == {"blackholes": {text}}


def test_a_thousand_routes_leave_the_socket_empty(listener):
    before = listener.dataplane.route_changes()[0]
    listener.ns.ip(*(f"route add 198.18.{n // 256}.{n % 256}/32 via 10.0.0.2" for n in range(1000)))
    assert listener.noted() == (RouteNotes(), 0)
    assert listener.dataplane.route_changes()[0] - before == 1000


@pytest.mark.parametrize("family", [4, 6])
def test_routes_are_counted_by_protocol_as_they_come_and_go(listener, family):
    prefix = "198.18.{}.0/24" if family == 4 else "2001:db8:{:x}::/48"
    add = [f"route add blackhole {prefix.format(n)} proto bgp" for n in range(20)]
    replace = [f"route replace unreachable {prefix.format(n)} proto bgp" for n in range(3)]
    delete = [f"route del {prefix.format(n)} proto bgp" for n in range(3, 8)]
    other = [f"route add blackhole {prefix.format(99)} proto 77"]
    meter = ChurnMeter(listener.dataplane._memory.view("route_churn"))
    meter.sample(0.0)
    listener.ns.ip(*add, *replace, *delete, *other, family=family)
    churn = meter.sample(1.0)
    assert churn.rates == {"bgp": ChurnRate(23.0, 5.0), "protocol_77": ChurnRate(1.0, 0.0)}


# --- the monitor's events ---------------------------------------------------------------------------

BOUND_S = 10


async def _next(monitor: NetlinkMonitor, kind: type):
    async with asyncio.timeout(BOUND_S):
        while True:
            await monitor.wait()
            if found := [event for event in monitor.take() if isinstance(event, kind)]:
                return found[0]


def test_events_keep_their_order_whoever_takes_them(listener):
    """One waits and another takes them meanwhile, as the engine and a command do."""

    async def run():
        async with NetlinkMonitor(1 << 20, listener.dataplane.route_filter_fd, GuardWatch({})) as monitor:
            await _next(monitor, Synced)
            waiting = asyncio.create_task(monitor.wait())
            listener.ns.ip("link add passing type veth peer name passingp", "link set passing up")
            async with asyncio.timeout(BOUND_S):
                await waiting
            listener.ns.ip("link del passing")
            told = [event for event in monitor.read_now() if isinstance(event, LinkSet | LinkGone)]
            assert told[0].link.name in ("passing", "passingp")
            last = {event.link.ifindex if isinstance(event, LinkSet) else event.ifindex: event for event in told}
            assert len(last) == 2
            assert all(isinstance(event, LinkGone) for event in last.values())
            assert not monitor.take()

    with listener.ns.entered():
        asyncio.run(run())


def test_the_monitor_tells_of_routes_of_note(listener):
    async def run():
        async with NetlinkMonitor(1 << 20, listener.dataplane.route_filter_fd, GuardWatch({})) as monitor:
            await _next(monitor, Synced)
            listener.ns.ip("route add 198.18.0.0/16 via 10.0.0.2", "route add blackhole 198.51.100.0/24")
            assert _names((await _next(monitor, RoutesNoted)).notes) == {"blackholes": {"198.51.100.0/24"}}

    with listener.ns.entered():
        asyncio.run(run())


SETTINGS = {
    "an address": lambda ns: ns.ip("addr add 192.0.2.1/32 dev a0"),
    "an IPv6 address": lambda ns: ns.ip("addr add 2001:db8::1/64 dev a0 nodad", family=6),
    "a rule": lambda ns: ns.ip("rule add sport 77 lookup 100"),
    "an IPv6 rule": lambda ns: ns.ip("rule add sport 77 lookup 100", family=6),
    "rp_filter of a device": lambda ns: ns.sysctl(ipv4__conf__a0__rp_filter=2),
    "rp_filter of all": lambda ns: ns.sysctl(ipv4__conf__all__rp_filter=2),
    "IPv6 forwarding": lambda ns: ns.sysctl(ipv6__conf__all__forwarding=1),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_the_monitor_tells_of_settings(listener, what):
    async def run():
        async with NetlinkMonitor(1 << 20, listener.dataplane.route_filter_fd, GuardWatch({})) as monitor:
            await _next(monitor, Synced)
            assert not monitor.take()
            SETTINGS[what](listener.ns)
            await _next(monitor, SettingsChanged)

    with listener.ns.entered():
        asyncio.run(run())


def test_rules_on_protocol_or_ports_are_found(listener):
    for family in (4, 6):
        for selector in ("ipproto udp", "sport 77", "dport 77-99"):
            listener.ns.ip(f"rule add pref 50 {selector} lookup 100", family=family)
            with listener.ns.entered():
                found = settings.read([], {}).rules6_by_protocol
            assert (family, selector, found) == (family, selector, family == 6)
            listener.ns.ip("rule del pref 50", family=family)
    listener.ns.ip("rule add pref 50 from 2001:db8::/32 tos 0x10 lookup 100", family=6)
    with listener.ns.entered():
        assert not settings.read([], {}).rules6_by_protocol


def test_rules_that_suppress_are_found(listener):
    with listener.ns.entered():
        assert not settings.read([], {}).rules6_suppress
    listener.ns.ip("rule add pref 50 lookup main suppress_prefixlength 0", family=6)
    with listener.ns.entered():
        assert settings.read([], {}).rules6_suppress
