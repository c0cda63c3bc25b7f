# SPDX-License-Identifier: GPL-2.0-only
"""What makes answers void, and what does not."""

import pytest

from controlplane.cache_key import Key
from tests import packets
from tests.bpf.cache.cached import ELSEWHERE, LONG, NARROW, OUT, SHORT, VIA, families, mac_of, now
from tests.bpf.network import PORTS, SECOND_NEXT_HOP_MAC, destination

pytestmark = pytest.mark.usefixtures("one_cpu")


@families
@pytest.mark.parametrize("kind", ["", "unreachable", "blackhole"])
def test_a_route_voids_the_answers_around_it(router, family, kind):
    """Before the command that adds or removes it has returned."""
    ours, others, other_family = (packets.udp(a) for a in (OUT[family], ELSEWHERE[family], OUT[10 - family]))
    way = "" if kind else VIA[family]
    for command in (f"add {kind} {LONG[family]} {way}", f"replace prohibit {LONG[family]}", f"del {LONG[family]}"):
        router.warm(ours, others, other_family)
        router.ns.ip(f"route {command}", family=family)
        assert not router.recalls(ours), command
        assert router.recalls(others), command
        assert router.recalls(other_family), command


@families
def test_a_short_prefix_voids_the_whole_family(router, family):
    ours, others, other_family = (packets.udp(a) for a in (OUT[family], ELSEWHERE[family], OUT[10 - family]))
    for command in ("add", "del"):
        router.warm(ours, others, other_family)
        router.ns.ip(f"route {command} {SHORT[family]} {VIA[family]}", family=family)
        assert not router.recalls(ours)
        assert not router.recalls(others)
        assert router.recalls(other_family)


BOUNDARIES = {
    4: [("10.0.0.0/11", True), ("10.16.0.0/12", True), ("10.0.0.0/12", False), ("0.0.0.0/0", True)],
    6: [("2001:c00::/23", True), ("2001:d00::/24", True), ("2001:e00::/24", False), ("::/0", True)],
}


@pytest.mark.parametrize(("family", "prefix", "concerned"), [(f, *case) for f in BOUNDARIES for case in BOUNDARIES[f]])
def test_the_length_from_which_on_a_prefix_lies_in_one_block(router, family, prefix, concerned):
    """The address lies in the second half of the shortest prefix."""
    packet = packets.udp(destination("six", 4) if family == 4 else OUT[6])
    router.warm(packet)
    router.ns.ip(f"route add unreachable {prefix} metric 999", family=family)
    try:
        assert router.recalls(packet) is not concerned
    finally:
        router.ns.ip(f"route del unreachable {prefix} metric 999", family=family)


@families
def test_a_host_route_takes_effect_at_once(router, family):
    """On the wire: the next packet has the new next hop's MAC, and after the deletion the old one's."""
    host = f"{OUT[family]}/{32 if family == 4 else 128}"
    packet = packets.udp(OUT[family])
    second = "via 10.0.1.3 dev out0" if family == 4 else "via 2001:db8:0:1::3 dev out0"
    router.warm(packet)
    router.ns.ip(f"route add {host} {second}", family=family)
    assert mac_of(router, packet) == SECOND_NEXT_HOP_MAC
    router.warm(packet)
    router.ns.ip(f"route del {host} {second}", family=family)
    assert mac_of(router, packet) == PORTS["out0"].next_hop_mac


@families
def test_a_neighbours_new_mac_is_used_at_once(router, family):
    neighbour = "10.0.1.2" if family == 4 else "2001:db8:0:1::2"
    old, new = PORTS["out0"].next_hop_mac, "02:00:00:00:77:77"
    packet, others = packets.udp(OUT[family]), packets.udp(ELSEWHERE[family])
    for mac in (new, old):
        router.warm(packet, others)
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {mac}", family=family)
        assert mac_of(router, packet) == mac
        assert router.recalls(others)


@families
def test_a_neighbour_that_goes_is_not_used(router, family):
    neighbour = "10.0.1.2" if family == 4 else "2001:db8:0:1::2"
    packet, others = packets.udp(OUT[family]), packets.udp(ELSEWHERE[family])
    router.warm(packet, others)
    router.ns.ip(f"neigh del {neighbour} dev out0", family=family)
    try:
        assert not router.recalls(packet, verdict="pass_no_neighbour")
        assert router.recalls(others)
    finally:
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {PORTS['out0'].next_hop_mac}", family=family)


@families
@pytest.mark.parametrize("state", ["stale", "reachable", "delay", "probe", "noarp", "permanent"])
def test_a_neighbour_that_is_only_confirmed_voids_nothing(router, family, state):
    neighbour = "10.0.1.2" if family == 4 else "2001:db8:0:1::2"
    mac, packet = PORTS["out0"].next_hop_mac, packets.udp(OUT[family])
    router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {mac}", family=family)
    router.warm(packet)
    voided = router.cache.invalidations
    try:
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {mac} nud {state}", family=family)
        assert router.cache.invalidations == voided
        assert router.recalls(packet)
    finally:
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {mac} nud permanent", family=family)


def test_what_the_daemon_tells_the_data_plane_voids_everything(router):
    both = [packets.udp(OUT[family]) for family in (4, 6)]
    router.warm(*both)
    router.cache.invalidate()
    assert [router.recalls(packet) for packet in both] == [False, False]


VOID_ALL = {
    "a link's MTU": ("link set side0 mtu 1400", "link set side0 mtu 1500"),
    "a link down": ("link set idle0p down", "link set idle0p up"),
    "a nexthop": ("nexthop add id 7 via 10.0.1.2 dev out0", "nexthop del id 7"),
}


@pytest.mark.parametrize("what", VOID_ALL)
def test_what_may_concern_any_route_voids_everything(router, what):
    both = [packets.udp(OUT[family]) for family in (4, 6)]
    for command in VOID_ALL[what]:
        router.warm(*both)
        router.ns.ip(command)
        assert [router.recalls(packet) for packet in both] == [False, False], command


@families
def test_an_address_voids_its_family(router, family):
    address = "192.0.2.1/32" if family == 4 else "2001:db8:ffff::1/128"
    ours, other_family = packets.udp(OUT[family]), packets.udp(OUT[10 - family])
    for command in ("add", "del"):
        router.warm(ours, other_family)
        router.ns.ip(f"addr {command} {address} dev side0 {'nodad' if family == 6 and command == 'add' else ''}",
                     family=family)  # fmt: skip
        assert not router.recalls(ours)
        assert router.recalls(other_family)


UNSEEN = {
    "a rule": (
        lambda ns: ns.ip("rule add pref 50 from 192.0.2.1 lookup 100"), lambda ns: ns.ip("rule del pref 50"),
    ),
    "an IPv6 rule": (
        lambda ns: ns.ip("rule add pref 50 from 2001:db8::1 lookup 100", family=6),
        lambda ns: ns.ip("rule del pref 50", family=6),
    ),
    "forwarding": (
        lambda ns: ns.sysctl(ipv4__conf__idle0__forwarding=0), lambda ns: ns.sysctl(ipv4__conf__idle0__forwarding=1),
    ),
    "IPv6 forwarding": (
        lambda ns: ns.sysctl(ipv6__conf__idle0__forwarding=0), lambda ns: ns.sysctl(ipv6__conf__idle0__forwarding=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSEEN)
def test_nothing_is_recalled_until_the_daemon_has_seen_what_the_key_may_depend_on(router, what):
    """Nor remembered: what was asked before stays unknown after."""
    both = [packets.udp(OUT[family]) for family in (4, 6)]
    for change in UNSEEN[what]:
        router.warm(*both)
        change(router.ns)
        router.state.unsettled[:] = [now() - 1] * 2  # or an answer would hardly live until the second packet
        for _ in range(2):
            assert [router.recalls(packet) for packet in both] == [False, False]
        router.settle()
        assert [router.recalls(packet) for packet in both] == [False, False]


@families
def test_a_nexthop_group_is_such_a_change_if_the_key_does_not_reckon_with_it(router, family):
    packet = packets.udp(OUT[family])
    router.ns.ip("nexthop add id 7 via 10.0.1.2 dev out0", "nexthop add id 8 via 10.0.1.3 dev out0")
    try:
        for key, seen in ((NARROW, True), (Key(), False)):
            router.warm(packet, key=key)
            router.ns.ip("nexthop add id 9 group 7/8", family=0)
            assert not router.recalls(packet)
            assert (router.state.changes == router.state.seen) is seen
            router.ns.ip("nexthop del id 9", family=0)
    finally:
        router.ns.ip("nexthop flush")
