# SPDX-License-Identifier: GPL-2.0-only
"""bpf/census.h beside a plain dump that Python counts: the same routes, the same notes, and next to nothing read."""

import ipaddress
import socket
from collections import Counter

import pytest

from controlplane import census
from controlplane.census import PROTOCOLS, RouteDump
from controlplane.netlink import HEADER, NetlinkSocket, messages
from controlplane.notes import BY_SOURCE, BY_TOS, MULTIPATH, RTMSG, RouteNotes
from tests.bpf.network import Namespace
from xdprouter.bench.routes import RouteMessages, RouteSocket

ROUTES = {4: 30_000, 6: 3_000}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
METRICS = "mtu lock 1300 window 9 rtt 9ms rttvar 9ms ssthresh 9 cwnd 9 advmss 900 reordering 9 hoplimit 9 initcwnd 9"


@pytest.fixture(scope="module")
def ns():
    ns = Namespace()
    try:
        ns.sysctl(ipv6__conf__default__addr_gen_mode=1)
        ns.ip("link set lo up", "link add a0 type veth peer name b0", "link set a0 up", "link set b0 up")
        ns.ip("addr add 10.0.0.1/24 dev a0")
        ns.ip("addr add fd00::1/64 dev a0 nodad", family=6)
        with ns.entered(), RouteSocket() as sock:
            device = socket.if_nametoindex("a0")
            for family, gateway in ((4, "10.0.0.2"), (6, "fd00::2")):
                made = RouteMessages(family, [gateway], device)
                prefixes = [(0x20 << 24 | n << 8, 24) if family == 4 else ((0x20010DB8 << 32 | n) << 64, 64)
                            for n in range(ROUTES[family])]  # fmt: skip
                sock.send_all(made.add(prefix) for prefix in prefixes)
        yield ns
    finally:
        ns.delete()


ODD = {
    "nothing else": (4, [], 0),
    "every type": (4, [f"route add {kind} 198.51.{n}.0/24" for n, kind in
                       enumerate(("blackhole", "unreachable", "prohibit", "throw"))] +
                      ["route add local 198.51.5.0/24 dev lo", "route add broadcast 198.51.6.0 dev a0"], 0),
    "protocols": (4, [f"route add 198.51.{n}.0/24 via 10.0.0.2 proto {n}" for n in (12, 16, 42, 77, 186, 196, 255)], 0),
    "another table": (4, ["route add 198.51.100.0/24 via 10.0.0.2 table 1000 metric 7 src 10.0.0.1"], 0),
    "several next hops": (4, ["route add 198.51.100.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.3"], MULTIPATH),
    "several next hops behind long metrics": (
        4, [f"route add 198.51.100.0/24 {METRICS} nexthop via 10.0.0.2 nexthop via 10.0.0.3"], MULTIPATH),
    "many next hops": (
        4, ["route add 198.51.100.0/24 " + " ".join(f"nexthop via 10.0.0.{n}" for n in range(2, 26))], MULTIPATH),
    "tos": (4, ["route add 198.51.100.0/24 tos 4 via 10.0.0.2"], BY_TOS),
    "mtu": (4, ["route add 198.51.100.0/24 via 10.0.0.2 mtu 1300"], 0),
    "locked mtu": (4, [f"route add 198.51.100.0/24 via 10.0.0.2 {METRICS}"], 0),
    "IPv6 mtu and blackhole": (
        6, ["route add 2001:db9::/48 via fd00::2 mtu 1300", "route add blackhole 2001:dba::/48"], 0),
    "IPv6 source": (6, ["route add 2001:db9::/48 from fd00::/48 via fd00::2"], BY_SOURCE),
    "IPv6 next hops": (6, ["route add 2001:db9::/48 nexthop via fd00::2 nexthop via fd00::3"], MULTIPATH),
    "IPv6 next hops and mtu": (
        6, [f"route add 2001:db9::/48 {METRICS} nexthop via fd00::2 nexthop via fd00::3"], MULTIPATH),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_the_kernel_counts_as_python_does(dataplane, ns, case):
    family, commands, reasons = ODD[case]
    ns.ip(*commands, family=family)
    try:
        with ns.entered():
            found = dataplane.route_dump.count()
            routes, by_protocol, notes = _counted_in_python()
    finally:
        ns.ip(*(command.replace("add", "del", 1) for command in commands), family=family)
    assert (found.ipv4, found.ipv6, found.by_protocol) == (routes[4], routes[6], by_protocol)
    assert found.notes == notes
    assert found.notes.reasons == reasons


def _counted_in_python():
    routes, by_protocol, notes = Counter(), Counter(), RouteNotes()
    for version, family in FAMILIES.items():
        with NetlinkSocket() as sock:
            for data in sock.stream(census.RTM_GETROUTE, RTMSG.pack(family, *bytes(8))):
                for offset, kind, _, length in messages(data):
                    if kind != census.RTM_NEWROUTE:
                        continue
                    notes.take(data, offset, length)
                    _, _, _, _, table, protocol, _, route_type, _ = RTMSG.unpack_from(data, offset + HEADER.size)
                    if table != 255 and route_type in (1, 6, 7, 8, 9):
                        routes[version] += 1
                        by_protocol[PROTOCOLS.get(protocol, f"protocol_{protocol}")] += 1
    return routes, by_protocol, notes


def test_which_tables_are_empty(dataplane, ns):
    """What is not unicast ends a lookup, and leads nowhere: a VRF's table has such a route to be on the safe side."""
    commands = {
        4: ["route add 198.51.100.0/24 via 10.0.0.2 table 1000", "route add blackhole default table 1001"],
        6: ["route add 2001:db9::/48 via fd00::2 table 1002", "route add unreachable default table 1001"],
    }
    for family, of_family in commands.items():
        ns.ip(*of_family, family=family)
    try:
        with ns.entered():
            assert dataplane.route_dump.count().empty_tables == frozenset()
            assert dataplane.route_dump.count((254, 1000, 1001, 1002, 1003)).empty_tables == {1001, 1003}
    finally:
        for family, of_family in commands.items():
            ns.ip(*(command.replace("add", "del", 1) for command in of_family), family=family)


def test_ordinary_routes_stay_in_the_kernel(dataplane, ns, monkeypatch):
    sizes = []
    note = census._note
    monkeypatch.setattr(census, "_note", lambda data, notes: (sizes.append(len(data)), note(data, notes)))
    with ns.entered():
        dataplane.route_dump.count()
    assert len(sizes) > 50
    assert sizes.count(HEADER.size) >= len(sizes) - 6, "all but the ends of two dumps, and the local routes"


def test_blackholes_beyond_the_room_are_not_passed_on(dataplane, ns, monkeypatch):
    """Neither by a dump nor when they are announced, lest a million of them drown the daemon."""
    monkeypatch.setattr(census, "limits", lambda: {"MAX_BLACKHOLES": 3})
    monkeypatch.setattr(RouteDump, "ANNOUNCED_BLACKHOLES", 2)
    holes = [f"blackhole 198.51.{n}.0/24" for n in range(5)]
    ns.ip(*(f"route add {hole}" for hole in holes))
    try:
        with ns.entered():
            assert dataplane.route_dump.count().notes.blackholes != set()
            before = dataplane.route_dump.count()
            with NetlinkSocket() as sock:
                sock.attach_filter(dataplane.route_filter_fd)
                sock.join(7)  # RTNLGRP_IPV4_ROUTE
                ns.ip(*(f"route add {hole.replace('198', '203')}" for hole in holes))
                heard = 0
                while (data := sock.receive()) is not None:
                    heard += len(list(messages(data)))
        assert heard == 2
        assert before.ipv4 >= ROUTES[4] + 5
        # A buffer comes through whole: more may be found in it, but no more buffers come.
        assert all(ipaddress.ip_network(str(hole)).prefixlen == 24 for hole in before.notes.blackholes)
    finally:
        for hole in holes:
            ns.ip(f"route del {hole}")
            ns.ip(f"route del {hole.replace('198', '203')}")
