# SPDX-License-Identifier: GPL-2.0-only
"""What a hit is, what is remembered, and what is asked of each packet though its way was recalled."""

import pytest

from controlplane.counters import Traffic
from controlplane.reconcile import StopTransmit, Transmit
from tests import packets
from tests.bpf.cache.cached import OUT, XDP_REDIRECT, families, keys, mac_of
from tests.bpf.network import PORTS, SECOND_NEXT_HOP_MAC, destination
from tests.bpf.network import rise as difference

XDP_PASS = 2
pytestmark = pytest.mark.usefixtures("one_cpu")


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
