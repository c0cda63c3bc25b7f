# SPDX-License-Identifier: GPL-2.0-only
"""Reasons in words, and heads of frames."""

import socket

import pytest

from controlplane import frame as heads
from controlplane import source
from controlplane.circumstances import Circumstances
from controlplane.explain import Step, Trace, Way
from controlplane.interface import InterfaceFlag
from controlplane.neighbour import FAILED, Details, Owner
from controlplane.next_hop import NextHop
from controlplane.route_get import Answer, Route
from controlplane.settings import Settings
from controlplane.why import cache_state, fib_code, why
from tests import packets

HOP = NextHop(3, socket.AF_INET, bytes([10, 0, 1, 2]))
NAMES = {2: "left", 3: "right"}


def trace(verdict: str, **fields) -> Trace:
    known = dict(
        steps=Step.CACHE | Step.FIB, verdict=verdict, action="pass", slot=1, ifindex=2, flags=InterfaceFlag(0),
        frame_len=100, datagram_len=86, tags=0, vrf=0, version=4, protocol=17, sport=1, dport=2, fib_code=0, fib_mtu=0,
        fib_hop=HOP, reverse_code=None, reverse_ifindex=0, way=None, frame=b"",
    )  # fmt: skip
    return Trace(**{**known, **fields})


def about(packet=None, **fields) -> Circumstances:
    head = heads.read(bytes(packet or packets.udp("10.9.0.1")))
    known = dict(port="left", head=head, mac=packets.ROUTER_MAC, names=NAMES, ports={"left": "", "right": ""})
    return Circumstances(**{**known, **fields})


WAY = Way(HOP, 2, "", "", 0, 1500)
ROUTE = Route("unicast", "10.9.0.1", ifindex=3)


@pytest.mark.parametrize(
    ("found", "circumstances", "text", "remedy"),
    [
        (trace("drop_blackhole"), about(blackhole="10.9.0.0/16"), "10.9.0.0/16 is a blackhole", "ip route del blackhole 10.9.0.0/16"),
        (trace("drop_blackhole"), about(), "a route in some table, or a policy rule", ""),
        (trace("pass_local_or_no_route"), about(kernel=Answer(None, "x")), "no route to 10.9.0.1", "ip route add 10.9.0.1 via GATEWAY"),
        (trace("pass_local_or_no_route"), about(kernel=Answer(Route("broadcast", "x"))), "is broadcast to this machine", ""),
        (trace("pass_forwarding_off"), about(), "net.ipv4.conf.left.forwarding is 0", "sysctl -w net.ipv4.conf.left.forwarding=1"),
        (trace("pass_forwarding_off", version=6), about(), "off for all devices", "sysctl -w net.ipv6.conf.all.forwarding=1"),
        (trace("pass_forwarding_off", version=6), about(settings=Settings(ipv6_forwarding=True)), "net.ipv6.conf.left", "sysctl -w net.ipv6.conf.left.forwarding=1"),
        (trace("pass_no_neighbour", fib_code=7), about(), "next hop 10.0.1.2 on right is absent", "ping -c 1 -I right 10.0.1.2"),
        (trace("pass_no_neighbour", fib_code=7), about(neighbour=Details(FAILED, Owner.NOBODY, "", 0)), "is failed: it does not answer", "ping"),
        (trace("pass_too_big", fib_code=8, fib_mtu=80), about(kernel=Answer(ROUTE)), "has 86 bytes, the path takes 80", "ip link set right mtu 86"),
        (trace("pass_too_big", fib_code=8, fib_mtu=80), about(kernel=Answer(ROUTE, matched=Route("unicast", "10.9.0.0/16", mtu=80))), "the `mtu` of the route 10.9.0.0/16 is 80", ""),
        (trace("pass_too_big", way=Way(HOP, 2, "", "", 0, 80)), about(), "the MTU of right is 80", "ip link set right mtu 86"),
        (trace("pass_too_big", way=WAY), about(), "more than the `mtu` of a route", ""),
        (trace("pass_ttl"), about(packets.with_ttl("10.9.0.1", 1)), "its TTL is 1", ""),
        (trace("pass_ttl", version=6), about(packets.with_ttl("fd00::1", 0)), "its hop limit is 0", ""),
        (trace("pass_not_ip", version=0), about(packets.arp_request("10.0.0.1")), "EtherType 0x0806", ""),
        (trace("pass_vlan_tag"), about(packets.vlan(packets.udp("10.9.0.1"), 10)), "802.1Q 10 belongs to no interface on left", "ip link add link left name left.10 type vlan protocol 802.1Q id 10"),
        (trace("pass_vlan_tag"), about(packets.vlan(packets.udp("10.9.0.1"), 0)), "priority tag", ""),
        (trace("pass_vlan_tag"), about(packets.qinq(packets.udp("10.9.0.1"), 100, 10)), "802.1ad 100, then 802.1Q 10", ""),
        (trace("pass_not_ours"), about(packets.udp("10.9.0.1", dst_mac=packets.OTHER_MAC)), packets.OTHER_MAC, ""),
        (trace("pass_martian"), about(), "is an address of this machine", ""),
        (trace("pass_martian"), about(packets.udp("10.9.0.1", src="127.0.0.1")), "not forwarded blindly", ""),
        (trace("pass_hairpin"), about(), "leaves by left", "net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.left.send_redirects=0"),
        (trace("pass_hairpin", version=6), about(), "always in IPv6", ""),
        (trace("pass_egress_unavailable"), about(ports={"left": ""}, option=" --netns a"), "right, which is no port", "xdprouter attach --netns a right"),
        (trace("pass_egress_unavailable"), about(ports={"right": "no carrier"}), "redirected to the port right: no carrier", ""),
        (trace("pass_egress_unavailable"), about(), "takes no frames of several buffers", ""),
        (trace("pass_guarded"), about(findings=("nft chain x",)), "nft chain x", "guard = \"warn\""),
        (trace("pass_guarded"), about(), "have just changed", ""),
        (trace("pass_reverse_path", reverse_code=0, reverse_ifindex=3), about(), "the way back to 10.0.0.9 is by right", "net.ipv4.conf.left.rp_filter=0"),
        (trace("pass_reverse_path", reverse_code=4), about(), "no way back to 10.0.0.9 (not forwarded)", "rp_filter=0"),
        (trace("pass_unsure"), about(), "net.ipv4.fib_multipath_hash_policy is 2", "sysctl -w net.ipv4.fib_multipath_hash_policy=1"),
        (trace("pass_unsure", version=6), about(settings=Settings(hash_policy6=1)), "suppress_prefixlength", ""),
        (trace("pass_vlan_tag"), about(packets.vlan(packets.udp("10.9.0.1"), 10), owner="left.10", vlan=True, slow="its egress-qos-map sets priorities"), "802.1Q 10: frames of left.10 are not on the fast path: its egress-qos-map", ""),
        (trace("pass_vlan_tag"), about(packets.vlan(packets.udp("10.9.0.1"), 10), owner="br0"), "belongs to no interface on br0", "ip link add link br0 name br0.10 type vlan protocol 802.1Q id 10"),
        (trace("pass_vlan_tag"), about(packets.vlan(packets.qinq(packets.udp("10.9.0.1"), 100, 10), 7)), "more than 2 tags: 802.1Q 7, then 802.1ad 100, then 802.1Q 10", ""),
        (trace("pass_not_ours"), about(packets.udp("10.9.0.1", dst_mac=packets.OTHER_MAC), bridge="br0"), "is bridged by br0", ""),
        (trace("pass_bridge", fib_code=None), about(bridge="br0", bridged_mac="02::1"), "br0 has yet to learn 02::1", ""),
        (trace("pass_bridge", fib_code=None), about(bridge="br0", bridged_mac="02::1", learned_on="right"), "knows 02::1 on right, not on left", ""),
        (trace("pass_bridge", fib_code=None), about(bridge="br0", bridged_mac="02::1", learned_on="left"), "is due to be seen by br0 again", ""),
        (trace("pass_bridge"), about(bridge="br0", bridged_mac="02::1"), "br0 has yet to learn behind which member 02::1 is", ""),
        (trace("pass_bridge"), about(bridge="br0", bridged_mac="02::1", learned_on="tap0", option=" --netns a"), "behind tap0 of br0, which is no port", "xdprouter attach --netns a tap0"),
        (trace("pass_unknown_port"), about(port="eth9"), "eth9 is no port", "xdprouter attach eth9"),
        (trace("pass_unknown_port"), about(port="eth9", owner="eth9.10", slow="eth9, below it, is no port"), "eth9.10 is not on the fast path: eth9, below it, is no port", ""),
        (trace("pass_unknown_port"), about(ports={"left": "down"}), "the port left is not served: down", ""),
        (trace("pass_egress_unavailable"), about(egress_slow="reorder_hdr is off"), "right, which is not on the fast path: reorder_hdr is off", ""),
        (trace("pass_egress_unavailable", way=WAY), about(way_out="trunk", ports={"trunk": "down"}), "the port trunk of right: down", ""),
        (trace("pass_too_big", way=Way(HOP, 2, "", "", 0x0005_1064, 80)), about(way_out="trunk", egress_mtu=84), "by the port trunk of right go 80, which has room for one tag", "ip link set trunk mtu 90"),
        (trace("pass_too_big", way=Way(HOP, 2, "", "", 0, 80)), about(way_out="member", egress_mtu=84), "by the port member of right go 80", "ip link set member mtu 86"),
        (trace("pass_fib_refused", fib_code=-22), about(), "-22", ""),
        (trace("pass_fib_other", fib_code=9), about(), "9 (no source address)", ""),
    ],
)  # fmt: skip
def test_reason(found, circumstances, text, remedy):
    (reason,) = why(found, circumstances)
    assert text in reason.text
    assert remedy in reason.remedy and bool(remedy) == bool(reason.remedy)


def test_what_is_forwarded_needs_no_reason():
    assert why(trace("forward"), about()) == []


@pytest.mark.parametrize("verdict", [name for name in source.verdicts() if name != "forward"])
@pytest.mark.parametrize("version", [0, 4, 6])
def test_every_verdict_has_a_reason_whatever_is_known(verdict, version):
    bare = trace(verdict, version=version, ifindex=0, fib_hop=None, fib_code=None)
    for packet in (None, packets.lldp()):
        assert all(reason.text for reason in why(bare, about(packet, ports={}, names={})))
        assert why(bare, about(packet, ports={}, names={}))


def test_states_of_the_cache():
    wanted = {
        Step(0): "not asked", Step.CACHE: "at rest", Step.CACHE | Step.LEASED: "not remembered",
        Step.CACHE | Step.LEASED | Step.FOUND: "void", Step.CACHE | Step.LEASED | Step.FOUND | Step.HIT: "recalled",
    }  # fmt: skip
    assert {steps: cache_state(trace("forward", steps=steps), True) for steps in wanted} == wanted
    assert cache_state(trace("forward", steps=Step.CACHE), False) == "off"


def test_codes_have_names():
    assert [fib_code(code) for code in (-22, 0, 7, 99)] == ["refused", "success", "no neighbour", "unknown"]


def test_heads():
    head = heads.read(bytes(packets.qinq(packets.udp("fd00::1", tc=0xB8, hlim=9), 100, 10)))
    assert head.tags == (("802.1ad", 100), ("802.1Q", 10))
    assert (head.addresses, head.tos, head.ttl) == ((packets.HOST6, "fd00::1"), 0xB8, 9)
    assert (head.source_mac, head.destination_mac) == (packets.HOST_MAC, packets.ROUTER_MAC)


@pytest.mark.parametrize("packet", [packets.udp("10.0.0.1"), packets.qinq(packets.udp("fd00::1"), 1, 2)])
def test_heads_of_truncated_frames(packet):
    for length in range(14, len(packet)):
        assert heads.read(bytes(packet)[:length]).source_mac == packets.HOST_MAC
