# SPDX-License-Identifier: GPL-2.0-only
"""When an answer is recalled, and when it must not be. What becomes of the packets then is in
test_cached_packet_table.py."""

import struct
from collections.abc import Iterator

import pytest
from scapy.packet import Packet

from controlplane import cache as cache_module
from controlplane.cache_key import Key
from controlplane.counters import Traffic
from controlplane.netlink import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, NetlinkSocket
from controlplane.notes import MULTIPATH
from controlplane.pins import PinDirectory
from controlplane.reconcile import StopTransmit, Transmit
from controlplane.source import limits
from lab.wait import wait_until
from tests import packets
from tests.bpf.network import PORTS, SECOND_NEXT_HOP_MAC, Namespace, Router, build_links, build_routes, destination
from tests.bpf.network import rise as difference

pytestmark = pytest.mark.usefixtures("one_cpu")

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
OUT = {4: destination("out", 4), 6: destination("out", 6)}
ELSEWHERE = {4: "10.99.0.5", 6: "2a00:1::5"}
"""Another next hop, port and block"""
NARROW = Key(reasons=MULTIPATH)
WIDE = Key(True, True, True, True, True, True, MULTIPATH)
families = pytest.mark.parametrize("family", [4, 6])
keys = pytest.mark.parametrize("key", [NARROW, WIDE], ids=["narrow", "wide"])
BLOCK = struct.Struct("=II")  # struct block of bpf/maps.h
FAR = 15 * cache_module.HZ
"""A life in the units of the data plane's clock that no test outlasts"""


class Cached(Router):
    """A router with a cache and with all that makes its answers void, but no daemon that follows."""

    def __init__(self, ns: Namespace, pins: PinDirectory, cache_sets: int = 1024):
        super().__init__(ns, pins, cache_sets=cache_sets)
        self.alive = True
        self.cache = self.dataplane.cache
        Cached.clock = self.dataplane._jiffies
        with ns.entered():
            self.routes = NetlinkSocket()
        self.routes.attach_filter(self.dataplane.route_filter_fd)
        for group in (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE):
            self.routes.join(group)

    @property
    def state(self):
        return self.cache._state

    def close(self) -> None:
        self.routes.close()
        super().close()

    def recalls(self, packet: Packet, ingress: str = "in0", verdict: str = "forward") -> bool:
        """Whether its way was recalled. False: the FIB was asked; and nothing else was."""
        before = self.counters()
        self.run(bytes(packet), ingress)
        found = difference(before, self.counters())[ingress]
        assert found.ingress.keys() == {verdict}
        assert found.cache_hits + sum(found.fib_codes.values()) == 1
        return bool(found.cache_hits)

    def settle(self) -> None:
        """As the daemon does when it has looked."""
        self.cache.settle(self.cache.changes)
        self.alive = True

    def run(self, frame: bytes, ingress: str = "in0") -> tuple[int, bytes]:
        """With the lease that a daemon would have renewed meanwhile."""
        if self.alive:
            self.cache.renew()
        return super().run(frame, ingress)

    def calm(self, key: Key = NARROW) -> None:
        """As if nothing had been announced for long, and nothing is remembered."""
        self.grant(key)
        self.settle()
        self.state.unsettled[:] = [now() - 1] * 2
        for family in (4, 6):
            self.write_blocks(family, [(generation, now() - 1) for generation, _ in self.blocks(family)])
        self.state.life = FAR
        self.cache.invalidate()

    def blocks(self, family: int) -> list[tuple[int, int]]:
        """(generation, unsettled) of each."""
        return list(BLOCK.iter_unpack(self.dataplane._memory.view(f"blocks{family}")[:]))

    def write_blocks(self, family: int, blocks: list[tuple[int, int]]) -> None:
        self.dataplane._memory.view(f"blocks{family}")[:] = b"".join(BLOCK.pack(*block) for block in blocks)

    def warm(self, *packets_: Packet, key: Key = NARROW, **more) -> None:
        """Have their ways remembered."""
        self.calm(key)
        for packet in packets_:
            assert not self.recalls(packet, **more)
            assert self.recalls(packet, **more)


def now() -> int:
    """In jiffies, as the data plane has them."""
    return Cached.clock()


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Cached]:
    """A router of this file's own, whose network the tests may change for a moment."""
    ns, pins = Namespace(), PinDirectory(tmp_path_factory.mktemp("pins"))
    try:
        build_links(ns)
        build_routes(ns)
        ns.ip("route add 10.99.0.0/16 via 10.0.2.2 dev big0")
        ns.ip("route add 2a00:1::/32 via 2001:db8:0:2::2 dev big0", family=6)
        router = Cached(ns, pins)
        yield router
        router.close()
    finally:
        pins.remove()
        ns.delete()


@pytest.fixture
def router(shared) -> Cached:
    shared.calm()
    return shared


@pytest.fixture(scope="module")
def one_set(shared, tmp_path_factory) -> Iterator[Cached]:
    """All packets meet in one set: only the key tells them apart."""
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    try:
        router = Cached(shared.ns, pins, cache_sets=1)
        yield router
        router.close()
    finally:
        pins.remove()


# --- a hit ------------------------------------------------------------------------------------------


@families
@keys
def test_the_first_packet_asks_and_the_others_recall(router, family, key):
    router.calm(key)
    packet = packets.udp(OUT[family])
    assert [router.recalls(packet) for _ in range(4)] == [False, True, True, True]


def test_neighbours_on_a_subnet_have_each_their_own_entry(router):
    """Connected destinations, each of which is a next hop of its own."""
    router.warm(packets.udp("10.0.1.2"), packets.udp("10.0.1.3"), packets.udp("2001:db8:0:1::2"))
    for address, mac in (("10.0.1.2", PORTS["out0"].next_hop_mac), ("10.0.1.3", SECOND_NEXT_HOP_MAC)):
        assert mac_of(router, packets.udp(address)) == mac


@families
def test_checks_of_each_packet_are_made_on_a_hit(router, family):
    ttl = "ttl" if family == 4 else "hlim"
    router.warm(packets.udp(OUT[family]))
    before = router.counters()
    for packet, action in (
        (packets.udp(OUT[family], **{ttl: 1}), XDP_PASS),
        (packets.udp(OUT[family], **{ttl: 2}), XDP_REDIRECT),
        (packets.udp_of_length(OUT[family], 1500), XDP_REDIRECT),
        (packets.udp_of_length(OUT[family], 1501), XDP_PASS),
    ):
        frame = bytes(packet)
        found, after = router.run(frame)
        assert found == action
        if action == XDP_PASS:
            assert after == frame
        else:
            assert after == packets.forwarded(packet, PORTS["out0"].mac, PORTS["out0"].next_hop_mac)
    counted = difference(before, router.counters())["in0"]
    assert {verdict: traffic.packets for verdict, traffic in counted.ingress.items()} == {
        "pass_ttl": 1, "forward": 2, "pass_too_big": 1,
    }  # fmt: skip
    assert (counted.cache_hits, counted.fib_codes) == (3, {})


@families
def test_the_path_mtu_is_remembered(router, family):
    """Of a route with `mtu lock`, where the FIB itself says that a packet is too large."""
    target = destination("narrow", family)
    router.warm(packets.udp_of_length(target, 1400))
    assert router.recalls(packets.udp_of_length(target, 1401), verdict="pass_too_big")


@pytest.mark.parametrize("target", ["10.41.0.5", "2001:db8:41::5"])
def test_a_routes_unlocked_mtu_is_asked_for_each_packet(router, target):
    limit = 1000 if "." in target else 1300
    router.warm(packets.udp_of_length(target, limit))
    assert router.recalls(packets.udp_of_length(target, limit + 1), verdict="pass_too_big")


@families
def test_a_hit_does_not_leave_by_its_ingress(router, family):
    """With the destination as the key, an answer serves the packets of all ports."""
    target = destination("back", family)
    router.warm(packets.udp(target))
    back = packets.udp(target, dst_mac=PORTS["hairpin0"].mac)
    assert router.recalls(back, "hairpin0", "forward" if family == 4 else "pass_hairpin")
    out = packets.udp("10.0.1.2" if family == 4 else "2001:db8:0:1::2", dst_mac=PORTS["out0"].mac)
    router.warm(packets.udp("10.0.1.2" if family == 4 else "2001:db8:0:1::2"))
    assert router.recalls(out, "out0", "pass_hairpin")


def test_rp_filter_is_asked_for_each_packet(router):
    router.warm(packets.udp(OUT[4]))
    mac = PORTS["strict0"].mac
    assert router.recalls(packets.udp(OUT[4], dst_mac=mac), "strict0", "pass_reverse_path")
    assert router.recalls(packets.udp(OUT[4], dst_mac=mac, src="10.0.8.2"), "strict0")


@families
def test_an_egress_that_stops_transmitting_is_not_used(router, family):
    """The devmap is asked for each packet."""
    packet = packets.udp(OUT[family])
    router.warm(packet)
    slot, ifindex = router.slots["out0"], router.indexes["out0"]
    router.dataplane.apply(StopTransmit(slot))
    try:
        assert router.recalls(packet, verdict="pass_egress_unavailable")
    finally:
        with router.ns.entered():
            router.dataplane.apply(Transmit(slot, ifindex))
    assert router.recalls(packet)


@families
def test_a_multi_buffer_frame_needs_an_egress_that_takes_it(router, family):
    target = destination("plain", family)
    router.warm(packets.udp(target))
    assert router.recalls(packets.udp_of_length(target, 8000), verdict="pass_egress_unavailable")


@families
@keys
def test_a_blackhole_is_remembered_and_counted(router, family, key):
    packet = packets.udp(destination("blackhole", family))
    (prefix,) = (p for p in router.dataplane.notes.blackholes() if str(p).startswith(("10.30.", "2001:db8:30:"))
                 and len(p.address) == (4 if family == 4 else 16))  # fmt: skip
    router.calm(key)
    before = router.dataplane.notes.blackholes()[prefix]
    assert [router.recalls(packet, verdict="drop_blackhole") for _ in range(3)] == [False, True, True]
    assert router.dataplane.notes.blackholes()[prefix] - before == Traffic(3, 3 * len(bytes(packet)))


@families
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("unreachable", "pass_unreachable"), ("prohibit", "pass_prohibit"), ("unresolved", "pass_no_neighbour"),
        ("failed", "pass_no_neighbour"), ("side", "pass_egress_unavailable"),
    ],
)  # fmt: skip
def test_what_the_kernel_must_see_is_not_remembered(router, family, kind, verdict):
    packet = packets.udp(destination(kind, family))
    assert [router.recalls(packet, verdict=verdict) for _ in range(3)] == [False] * 3


@families
def test_the_hosts_of_one_subnet_do_not_push_each_other_out(router, family):
    """A quarter of the table's places: nearly all of them stay."""
    prefix = OUT[family].removesuffix("5")
    frames = [packets.udp(f"{prefix}{n:x}" if family == 6 else f"{prefix}{n}") for n in range(256)]
    for packet in frames:
        router.recalls(packet)
    assert sum(router.recalls(packet) for packet in frames) > 240


# --- the key ----------------------------------------------------------------------------------------

OTHERS = {
    "source": lambda f: packets.udp(OUT[f], src="10.0.0.10" if f == 4 else "2001:db8::a"),
    "first byte of the source": lambda f: packets.udp(OUT[f], src="9.0.0.9" if f == 4 else "3001:db8::9"),
    "second word of the source": lambda f: packets.udp(OUT[f], src="10.0.1.9" if f == 4 else "2001:db8:0:1::9"),
    "third word of the source": lambda f: packets.udp(OUT[f], src="10.1.0.9" if f == 4 else "2001:db8::1:0:9"),
    "sport": lambda f: packets.udp(OUT[f], sport=1025),
    "dport": lambda f: packets.udp(OUT[f], dport=2049),
    "tos": lambda f: packets.udp(OUT[f], **{"tos" if f == 4 else "tc": 0x20}),
    "protocol": lambda f: packets.ports_only(OUT[f], packets.IPPROTO_DCCP),
    "label": lambda f: packets.udp(OUT[6], fl=0x12345),
    "ingress": lambda f: packets.udp(OUT[f], dst_mac=PORTS["big0"].mac),
}
PART_OF = {"sport": "ports", "dport": "ports"} | {what: "source" for what in OTHERS if what.endswith("the source")}
other_packets = pytest.mark.parametrize(
    ("what", "family"), [(what, family) for what in OTHERS for family in (4, 6) if (what, family) != ("label", 4)]
)


def ingress_of(what: str) -> str:
    return "big0" if what == "ingress" else "in0"


@other_packets
def test_with_the_destination_as_the_key_nothing_else_matters(router, family, what):
    router.warm(packets.udp(OUT[family]))
    assert router.recalls(OTHERS[what](family), ingress_of(what))


@other_packets
@pytest.mark.parametrize("key", ["alone", "with all others"])
def test_what_is_in_the_key_makes_another_entry(one_set, family, what, key):
    part = PART_OF.get(what, what)
    one_set.warm(packets.udp(OUT[family]), key=WIDE if key != "alone" else Key(**{part: True}))
    assert not one_set.recalls(OTHERS[what](family), ingress_of(what))
    assert one_set.recalls(OTHERS[what](family), ingress_of(what))


@other_packets
def test_what_is_not_in_the_key_does_not(router, family, what):
    part = PART_OF.get(what, what)
    others = {name: True for name in ("source", "ports", "protocol", "tos", "ingress", "label") if name != part}
    router.warm(packets.udp(OUT[family]), key=Key(**others))
    assert router.recalls(OTHERS[what](family), ingress_of(what))


@families
@keys
def test_another_destination_is_another_entry(one_set, family, key):
    """Whichever word of it differs."""
    one_set.warm(packets.udp(OUT[family]), key=key)
    for other in ("10.10.0.4", "10.10.128.5", "10.11.0.5") if family == 4 else (
        "2001:db8:10::4", "2001:db8:10::8000:0:0:5", "2001:db8:10::1:0:5", "2001:db8:11::5",
    ):  # fmt: skip
        assert not one_set.recalls(packets.udp(other))


@families
def test_flows_over_several_next_hops_keep_their_way(router, family):
    """With all of it in the key, each flow goes where the FIB sends it."""
    flows = [packets.udp(destination("ecmp", family), sport=port) for port in range(1000, 1064)]
    router.cache.withdraw("to see what the FIB says")
    by_fib = [mac_of(router, flow) for flow in flows]
    assert set(by_fib) == {PORTS["out0"].next_hop_mac, SECOND_NEXT_HOP_MAC}
    router.calm(WIDE)
    before = router.counters()
    for _ in range(3):
        assert [mac_of(router, flow) for flow in flows] == by_fib
    assert difference(before, router.counters())["in0"].cache_hits > len(flows)


@families
def test_another_key_finds_nothing_of_the_old_one(router, family):
    router.warm(packets.udp(OUT[family]))
    router.calm(WIDE)
    assert not router.recalls(packets.udp(OUT[family]))
    router.calm(NARROW)
    assert not router.recalls(packets.udp(OUT[family]))


# --- what makes answers void ------------------------------------------------------------------------

LONG, SHORT = {4: "10.10.64.0/18", 6: "2001:db8:10:4000::/50"}, {4: "10.0.0.0/8", 6: "2000::/8"}
VIA = {4: "via 10.0.1.2 dev out0", 6: "via 2001:db8:0:1::2 dev out0"}


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
def test_a_mac_that_changes_while_the_daemon_reads_them_is_the_kernels_word(router, family, monkeypatch):
    """What the daemon has read is older than what the filter has noted since: the way back is a change too."""
    neighbour = "10.0.1.2" if family == 4 else "2001:db8:0:1::2"
    old, new = PORTS["out0"].next_hop_mac, "02:00:00:00:77:77"
    packet, read = packets.udp(OUT[family]), cache_module.neighbour.details

    def read_and_change(sock):
        found = read(sock)
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {new}", family=family)
        return found

    monkeypatch.setattr(cache_module.neighbour, "details", read_and_change)
    router.cache.__exit__()
    try:
        with router.ns.entered():
            router.cache.__enter__()
        router.warm(packet)
        assert mac_of(router, packet) == new
    finally:
        router.ns.ip(f"neigh replace {neighbour} dev out0 lladdr {old}", family=family)
    assert mac_of(router, packet) == old


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


# --- time -------------------------------------------------------------------------------------------


@families
@keys
def test_an_answer_expires(router, family, key):
    packet = packets.udp(OUT[family])
    router.warm(packet, key=key)
    router.state.life = 8
    router.cache.invalidate()
    assert not router.recalls(packet)
    after = now() + 8
    wait_until(lambda: passed(after), 5, "eight units of time")
    router.state.life = FAR
    assert not router.recalls(packet)
    after = now() + 8
    wait_until(lambda: passed(after), 5, "eight units of time")
    assert router.recalls(packet), "with a longer life it is still there"


@families
@pytest.mark.parametrize("where", ["block", "family"])
def test_an_answer_does_not_live_long_while_the_fib_is_unsettled(router, family, where):
    packet, others = packets.udp(OUT[family]), packets.udp(ELSEWHERE[family])
    index = index_of_block(router, family)

    def asked_in_time() -> bool:
        """False on a machine so slow that the time was over."""
        router.calm()
        until = (now() + UNSETTLED) & 0xFFFFFFFF
        if where == "block":
            unsettle_block(router, family, index, until)
        else:
            router.state.unsettled[family == 6] = until
        assert not router.recalls(packet)
        assert not router.recalls(others)
        return not passed(until)

    wait_until(asked_in_time, 5, "two packets within the time")
    after = now() + 1
    wait_until(lambda: passed(after), 5, "a tick")
    assert not router.recalls(packet)
    assert router.recalls(others) is (where == "block")


@families
@pytest.mark.parametrize("where", ["block", "family"])
def test_an_announcement_unsettles_for_a_while(router, family, where):
    prefix = LONG[family] if where == "block" else SHORT[family]
    index = index_of_block(router, family)

    def until() -> int:
        return router.blocks(family)[index][1] if where == "block" else router.state.unsettled[family == 6]

    for command in ("add", "del"):
        before = now()
        router.ns.ip(f"route {command} {prefix} {VIA[family]}", family=family)
        assert before + UNSETTLED <= until() <= now() + UNSETTLED, command


@families
def test_without_a_lease_nothing_is_recalled_or_remembered(router, family):
    packet = packets.udp(OUT[family])
    router.warm(packet)
    for end in (lambda: lapse(router, now()), lambda: router.cache.withdraw("a reason")):
        end()
        assert [router.recalls(packet) for _ in range(3)] == [False] * 3
        router.settle()
        assert router.recalls(packet), "what was remembered before is good still"
    router.cache.invalidate()
    lapse(router, now())
    assert not router.recalls(packet)
    router.settle()
    assert not router.recalls(packet)


@families
def test_times_of_long_ago_are_not_in_the_future(router, family):
    """The clock has 32 bits. A daemon may be gone for months, and a block without a route event for longer."""
    packet = packets.udp(OUT[family])
    router.warm(packet)
    for days in (99, 100, 150, 198):
        long_ago = (now() - round(days * 86400 * UNITS_PER_S)) & 0xFFFFFFFF
        lapse(router, long_ago)
        assert not router.recalls(packet), f"{days} days without a daemon"
        router.settle()
        assert router.recalls(packet)


@families
@pytest.mark.parametrize("days", [99, 100, 150, 198])
def test_what_was_unsettled_long_ago_is_settled(router, family, days):
    packet = packets.udp(OUT[family])
    long_ago = (now() - round(days * 86400 * UNITS_PER_S)) & 0xFFFFFFFF
    unsettle_block(router, family, index_of_block(router, family), long_ago)
    router.state.unsettled[:] = [long_ago] * 2
    assert not router.recalls(packet)
    after = now() + 2
    wait_until(lambda: passed(after), 5, "two ticks")
    assert router.recalls(packet)


UNSETTLED = cache_module.HZ // 8
UNITS_PER_S = cache_module.HZ


def lapse(router: Cached, until: int) -> None:
    """A daemon that is gone, and its last lease."""
    router.alive = False
    router.state.lease = until


def passed(moment: int) -> bool:
    """So that an answer that expired then is no longer valid."""
    return (now() - moment) & 0xFFFFFFFF < 1 << 31


def index_of_block(router: Cached, family: int) -> int:
    """Of the block that OUT lies in: found by what an announcement changes."""
    before = router.blocks(family)
    router.ns.ip(f"route add {LONG[family]} {VIA[family]} metric 77", family=family)
    after = router.blocks(family)
    router.ns.ip(f"route del {LONG[family]} {VIA[family]} metric 77", family=family)
    router.calm()
    (index,) = (number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1])
    return index


def unsettle_block(router: Cached, family: int, index: int, until: int) -> None:
    blocks = router.blocks(family)
    blocks[index] = (blocks[index][0], until)
    router.write_blocks(family, blocks)


# --- adjacencies ------------------------------------------------------------------------------------


def test_more_next_hops_than_places_never_send_a_packet_to_another_ones_mac(router):
    """Answers stay in the cache while the adjacencies that they name are taken by others."""
    places = limits()["ADJACENCY_SETS"] * limits()["ADJACENCY_WAYS"]
    macs = {f"10.200.{n >> 8}.{n & 255}": struct.pack(">HI", 0x0200, n) for n in range(256, 256 + 2 * places)}
    with_macs = [f"neigh add {a} dev out0 lladdr {mac.hex(':')}" for a, mac in macs.items()]
    router.ns.ip("addr add 10.200.0.1/16 dev out0")
    try:
        router.ns.ip(*with_macs)
        # As many as the cache can hold beside each other.
        busy = [*macs][:: len(macs) // 1500]
        frames = {address: bytes(packets.udp(address)) for address in macs}
        router.calm()
        before, wrong = router.counters(), []
        with router.ns.entered():
            ifindex, run = router.indexes["in0"], router.dataplane.test_run
            for part in range(8):
                router.settle()
                for address in [*busy, *busy, *[*macs][part::8]]:
                    action, after = run(frames[address], ifindex)
                    if (action, after[:6]) != (XDP_REDIRECT, macs[address]):
                        wrong.append((address, action, after[:6].hex(":")))
        assert wrong == []
        hits = difference(before, router.counters())["in0"].cache_hits
        assert hits > 8 * len(busy) / 2, "most of the second time"
    finally:
        router.ns.ip("addr del 10.200.0.1/16 dev out0", "neigh flush to 10.200.0.0/16 dev out0 nud permanent")


def mac_of(router: Router, packet: Packet) -> str:
    action, after = router.run(bytes(packet))
    assert action == XDP_REDIRECT
    return after[:6].hex(":")
