# SPDX-License-Identifier: GPL-2.0-only
"""Packets in; verdict, counters and the exact packet out.

What is passed or dropped must be byte for byte what came in; what is forwarded must be the frame that
scapy builds for the next link. Each case checks that nothing but its own verdict was counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from scapy.packet import Packet

from controlplane.counters import PortCounters, Traffic
from controlplane.source import verdicts
from tests import packets
from tests.bpf import test_packets_below, test_tagged_packets
from tests.bpf.network import (
    POLICY_PORT,
    POLICY_PROTOCOL,
    POLICY_SOURCE4,
    POLICY_SOURCE6,
    POLICY_TOS,
    PORTS,
    destination,
    rise,
)

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
FIB_CODES = {
    "forward": 0, "drop_blackhole": 1, "pass_unreachable": 2, "pass_prohibit": 3, "pass_local_or_no_route": 4,
    "pass_forwarding_off": 5, "pass_encap": 6, "pass_no_neighbour": 7, "pass_too_big": 8, "pass_hairpin": 0,
    "pass_egress_unavailable": 0, "pass_fib_refused": 15, "pass_fib_other": 9,
}  # fmt: skip
"""The answer of bpf_fib_lookup() behind a verdict; the other verdicts fall before it is asked."""
NOT_ASKED = -1


@dataclass(frozen=True)
class Case:
    description: str
    packet: Packet
    verdict: str
    ingress: str = "in0"
    egress: str = "out0"
    """Where it goes if it is forwarded"""
    fib_code: int | None = None
    """If not the one of FIB_CODES; NOT_ASKED if the verdict fell before the lookup"""
    router: str = "router"
    """Fixture"""


OUT4, OUT6 = destination("out", 4), destination("out", 6)
PORT_PROTOCOLS = (packets.IPPROTO_DCCP, packets.IPPROTO_UDPLITE)


def to(kind: str, family: int, **fields) -> Packet:
    return packets.udp(destination(kind, family), **fields)


def both(description: str, verdict: str, build, **more) -> list[Case]:
    """The same case for IPv4 and IPv6; `build` is called with the family."""
    return [Case(f"ipv{family} {description}", build(family), verdict, **more) for family in (4, 6)]


def out(family: int) -> str:
    return OUT4 if family == 4 else OUT6


def source(family: int, ipv4: str, ipv6: str) -> Packet:
    return packets.udp(out(family), src=ipv4 if family == 4 else ipv6)


FORWARD = [
    *both("udp", "forward", lambda f: packets.udp(out(f))),
    *both("tcp", "forward", lambda f: packets.tcp(out(f))),
    *both("sctp", "forward", lambda f: packets.sctp(out(f))),
    *[
        c
        for p in PORT_PROTOCOLS
        for c in both(f"protocol {p}", "forward", lambda f, p=p: packets.ports_only(out(f), p))
    ],
    *both("ping", "forward", lambda f: packets.ping(out(f))),
    *both("esp", "forward", lambda f: packets.of_protocol(out(f), 50, bytes(40))),
    *both("ah", "forward", lambda f: packets.of_protocol(out(f), 51, bytes(40))),
    *both("tunnel", "forward", lambda f: packets.of_protocol(out(f), 47, bytes(40))),
    *both("echo reply", "forward", lambda f: packets.icmp(out(f), 0 if f == 4 else 129)),
    *both("protocol without a payload", "forward", lambda f: packets.of_protocol(out(f), packets.IPPROTO_NONE, b"")),
    *both("udp without a payload", "forward", lambda f: packets.udp(out(f), size=0)),
    *both("ports and nothing behind them", "forward", lambda f: packets.of_protocol(out(f), 17, b"\1\2\3\4")),
    *both("other tos", "forward", lambda f: packets.udp(out(f), **{"tos" if f == 4 else "tc": 0xB8})),
    *both("ecn bits", "forward", lambda f: packets.udp(out(f), **{"tos" if f == 4 else "tc": 0x03})),
    *both("to a port that takes multi-buffer frames", "forward", lambda f: to("big", f), egress="big0"),
    *both("small frame to a port without multi-buffer", "forward", lambda f: to("plain", f), egress="plain0"),
    Case("ipv6 flow label", packets.udp(OUT6, fl=0xFFFFF), "forward"),
    Case("ipv4 with don't fragment", packets.udp(OUT4, flags="DF"), "forward"),
    Case("ipv4 with the reserved flag", packets.udp(OUT4, flags="evil"), "forward"),
    Case("ipv4 via an ipv6 next hop", packets.udp("10.40.0.5"), "forward"),
]
FRAGMENTS = [
    *both("first fragment", "forward", lambda f: packets.fragment(out(f), 0, True, bytes(64))),
    *both("middle fragment", "forward", lambda f: packets.fragment(out(f), 64, True, bytes(64))),
    *both("last fragment", "forward", lambda f: packets.fragment(out(f), 128, False, bytes(13))),
    *both("fragment too short for ports", "forward", lambda f: packets.fragment(out(f), 64, False, b"\1")),
    Case("ipv6 atomic fragment", packets.fragment(OUT6, 0, False, bytes(64)), "forward"),
]
TTL = [
    *both("ttl 0 is passed", "pass_ttl", lambda f: packets.with_ttl(out(f), 0)),
    *both("ttl 1 is passed", "pass_ttl", lambda f: packets.with_ttl(out(f), 1)),
    *both("ttl 2 is forwarded", "forward", lambda f: packets.with_ttl(out(f), 2)),
    *both("ttl 255 is forwarded", "forward", lambda f: packets.with_ttl(out(f), 255)),
]
ROUTED = [
    *both("blackhole route", "drop_blackhole", lambda f: to("blackhole", f)),
    *both("unreachable route", "pass_unreachable", lambda f: to("unreachable", f)),
    *both("prohibit route", "pass_prohibit", lambda f: to("prohibit", f)),
    *both("no route", "pass_local_or_no_route", lambda f: packets.udp("192.0.2.1" if f == 4 else "2001:db9::1")),
    *both("address of the ingress port", "pass_local_or_no_route",
          lambda f: packets.udp("10.0.0.1" if f == 4 else "2001:db8::1")),
    *both("address of another port", "pass_local_or_no_route",
          lambda f: packets.udp("10.0.1.1" if f == 4 else "2001:db8:0:1::1")),
    Case("directed broadcast", packets.udp("10.0.1.255"), "pass_local_or_no_route"),
    Case("subnet-router anycast", packets.udp("2001:db8:0:1::"), "pass_local_or_no_route"),
    *both("forwarding off at the ingress", "pass_forwarding_off",
          lambda f: packets.udp(out(f), dst_mac=PORTS["closed0"].mac), ingress="closed0"),
    *both("next hop never resolved", "pass_no_neighbour", lambda f: to("unresolved", f)),
    *both("next hop failed", "pass_no_neighbour", lambda f: to("failed", f)),
    *both("connected but silent host", "pass_no_neighbour",
          lambda f: packets.udp("10.0.1.99" if f == 4 else "2001:db8:0:1::99")),
    *both("back out of the ingress port", "pass_hairpin", lambda f: to("hairpin", f)),
    *both("neighbour behind the ingress port", "pass_hairpin",
          lambda f: packets.udp(packets.HOST4 if f == 4 else packets.HOST6,
                                src="10.0.0.8" if f == 4 else "2001:db8::8")),
    *both("egress is no port", "pass_egress_unavailable", lambda f: to("side", f)),
    *both("egress port is not in the devmap", "pass_egress_unavailable", lambda f: to("idle", f)),
    *both("ingress is no port", "pass_unknown_port", lambda f: packets.udp(out(f), dst_mac=PORTS["side0"].mac),
          ingress="side0"),
]  # fmt: skip
POLICY = [
    *both("rule on a udp destination port", "drop_blackhole", lambda f: packets.udp(out(f), dport=POLICY_PORT)),
    *both("rule on a udp source port", "drop_blackhole", lambda f: packets.udp(out(f), sport=POLICY_PORT)),
    *both("rule on a tcp destination port", "drop_blackhole", lambda f: packets.tcp(out(f), dport=POLICY_PORT)),
    *both("rule on a tcp source port", "drop_blackhole", lambda f: packets.tcp(out(f), sport=POLICY_PORT)),
    *both("rule on an sctp port", "drop_blackhole", lambda f: packets.sctp(out(f), dport=POLICY_PORT)),
    *[c for p in PORT_PROTOCOLS for c in both(f"rule on a port of protocol {p}", "drop_blackhole",
      lambda f, p=p: packets.ports_only(out(f), p, dport=POLICY_PORT))],
    *both("rule on the protocol", "drop_blackhole", lambda f: packets.of_protocol(out(f), POLICY_PROTOCOL, bytes(40))),
    *both("fragment of a protocol with a rule", "drop_blackhole",
          lambda f: packets.fragment(out(f), 0, True, bytes(64), protocol=POLICY_PROTOCOL)),
    *both("rule on the source", "drop_blackhole", lambda f: source(f, POLICY_SOURCE4, POLICY_SOURCE6)),
    *both("rule on the tos", "drop_blackhole",
          lambda f: packets.udp(out(f), **{"tos" if f == 4 else "tc": POLICY_TOS})),
    *both("first fragment has no ports for rules", "forward",
          lambda f: packets.fragment(out(f), 0, True, POLICY_PORT.to_bytes(2) * 2 + bytes(60))),
    *both("payload of a later fragment is no port", "forward",
          lambda f: packets.fragment(out(f), 64, False, POLICY_PORT.to_bytes(2) * 2 + bytes(60))),
    *both("ping payload is no port", "forward",
          lambda f: packets.of_protocol(out(f), 1 if f == 4 else 58, b"\x80\0" + POLICY_PORT.to_bytes(2) + bytes(28))),
    *both("spi of esp where a port would be", "drop_blackhole",
          lambda f: packets.of_protocol(out(f), 50, POLICY_PORT.to_bytes(2) + bytes(38))),
    *both("spi of ah where a port would be", "drop_blackhole",
          lambda f: packets.of_protocol(out(f), 51, bytes(6) + POLICY_PORT.to_bytes(2) + bytes(32))),
]  # fmt: skip


def lengths(kind: str, mtu: int, egress: str, over: str = "pass_too_big", fib_code: int | None = None) -> list[Case]:
    """Datagrams around an MTU. The IPv6 one counts with its header."""
    cases = []
    for offset in (-1, 0, 1, 40):
        fits = offset <= 0
        cases += both(
            f"{kind} MTU {mtu}{offset:+d}",
            "forward" if fits else over,
            lambda f, length=mtu + offset: packets.udp_of_length(destination(kind, f), length),
            egress=egress,
            fib_code=None if fits else fib_code,
        )
    return cases


TOO_BIG = [
    *lengths("out", 1500, "out0"),
    *lengths("narrow", 1400, "out0"),
    *lengths("big", 9000, "big0"),
    *lengths("plain", 9000, "plain0", over="pass_too_big")[4:],  # the smaller ones are MULTI_BUFFER
    *lengths("small", 1200, "small0", fib_code=0),
    *both("too big with don't fragment", "pass_too_big",
          lambda f: packets.udp_of_length(out(f), 1501, **({"flags": "DF"} if f == 4 else {}))),
    *both("too big for a path into a blackhole", "drop_blackhole",
          lambda f: packets.udp_of_length(destination("blackhole", f), 1501)),
    Case("ipv6 payload length beyond 16 bits of datagram", packets.udp(OUT6, plen=0xFFD8), "pass_too_big",
         fib_code=NOT_ASKED),
]  # fmt: skip
MULTI_BUFFER = [
    *both("multi-buffer frame to a port that takes it", "forward",
          lambda f: packets.udp_of_length(destination("big", f), 8000), egress="big0"),
    *both("multi-buffer frame to a port that does not", "pass_egress_unavailable",
          lambda f: packets.udp_of_length(destination("plain", f), 8000)),
    *both("multi-buffer frame of 64 KiB", "pass_too_big",
          lambda f: packets.udp_of_length(destination("big", f), 65535)),
    *both("multi-buffer frame of 64 KiB into a blackhole", "drop_blackhole",
          lambda f: packets.udp_of_length(destination("blackhole", f), 65535)),
    *both("multi-buffer frame into a blackhole", "drop_blackhole",
          lambda f: packets.udp_of_length(destination("blackhole", f), 8000)),
    *both("multi-buffer frame with a trailer", "pass_trailer",
          lambda f: packets.trailer(packets.udp_of_length(destination("big", f), 8000), 4)),
]  # fmt: skip
ETHERNET = [
    Case("arp request", packets.arp_request("10.0.0.1"), "pass_not_ip"),
    Case("lldp", packets.lldp(), "pass_not_ip"),
    Case("pppoe", packets.other_ethertype(0x8864), "pass_not_ip"),
    Case("mpls", packets.other_ethertype(0x8847), "pass_not_ip"),
    Case("llc length field", packets.other_ethertype(0x0026), "pass_not_ip"),
    *both("vlan tag", "pass_vlan_tag", lambda f: packets.vlan(packets.udp(out(f)), 10)),
    *both("priority tag", "pass_vlan_tag", lambda f: packets.vlan(packets.udp(out(f)), 0)),
    *both("qinq tags", "pass_vlan_tag", lambda f: packets.qinq(packets.udp(out(f)), 100, 10)),
    *both("someone else's mac", "pass_not_ours", lambda f: packets.udp(out(f), dst_mac=packets.OTHER_MAC)),
    *both("another port's mac", "pass_not_ours", lambda f: packets.udp(out(f), dst_mac=PORTS["out0"].mac)),
    *[c for i in range(6) for c in both(f"mac that differs in byte {i}", "pass_not_ours", lambda f, i=i: packets.udp(
        out(f), dst_mac=":".join(f"{b ^ (0x80 if n == i else 0):02x}" for n, b in
                                 enumerate(bytes.fromhex(packets.ROUTER_MAC.replace(":", ""))))))],
    *both("broadcast mac", "pass_multicast", lambda f: packets.udp(out(f), dst_mac="ff:ff:ff:ff:ff:ff")),
    *both("group bit on the port's mac", "pass_multicast", lambda f: packets.udp(out(f), dst_mac="03:00:00:00:00:01")),
    Case("ipv4 multicast", packets.udp("224.0.0.5", dst_mac="01:00:5e:00:00:05", ttl=1), "pass_multicast"),
    Case("ipv4 multicast to a unicast mac", packets.udp("239.1.2.3"), "pass_multicast"),
    Case("ipv6 multicast", packets.udp("ff02::5", dst_mac="33:33:00:00:00:05", hlim=1), "pass_multicast"),
    Case("ipv6 multicast to a unicast mac", packets.udp("ff0e::5"), "pass_multicast"),
]  # fmt: skip
MARTIANS = [
    *[Case(f"ipv4 source {a}", packets.udp(OUT4, src=a), "pass_martian")
      for a in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
                "255.255.255.255")],
    *[Case(f"ipv4 destination {a}", packets.udp(a), "pass_martian")
      for a in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "240.0.0.1", "255.255.255.255")],
    *[Case(f"ipv6 source {a}", packets.udp(OUT6, src=a), "pass_martian")
      for a in ("::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "febf::1", "ff02::1", "ff0e::1")],
    *[Case(f"ipv6 destination {a}", packets.udp(a), "pass_martian")
      for a in ("::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "febf::1")],
    *[Case(f"ipv4 source {a} is no martian", packets.udp(OUT4, src=a), "forward")
      for a in ("1.0.0.1", "126.1.1.1", "128.0.0.1", "223.255.255.254", "169.254.1.1")],
    *[Case(f"ipv6 source {a} is no martian", packets.udp(OUT6, src=a), "forward")
      for a in ("fec0::1", "fd00::1", "fe7f::1", "64:ff9b::1", "::1:0:0:0:1", "::fffe:0:1")],
]  # fmt: skip
HEADERS = [
    Case("ipv4 options", packets.ipv4_options(OUT4), "pass_options"),
    Case("ipv6 hop-by-hop options", packets.hop_by_hop(OUT6), "pass_options"),
    Case("ipv6 routing header", packets.routing_header(OUT6), "pass_options"),
    Case("ipv6 destination options", packets.destination_options(OUT6), "pass_options"),
    Case("ipv6 jumbogram header", packets.jumbogram(OUT6), "pass_trailer"),
    *[Case(f"ipv4 ihl {n}", packets.udp(OUT4, ihl=n), "pass_malformed") for n in range(5)],
    *[Case(f"ipv4 version {n}", packets.udp(OUT4, version=n), "pass_malformed") for n in (0, 3, 5, 6, 15)],
    *[Case(f"ipv6 version {n}", packets.udp(OUT6, version=n), "pass_malformed") for n in (0, 4, 5, 7, 15)],
    Case("ipv4 under the ipv6 ethertype", packets.with_ethertype(packets.udp(OUT4), 0x86DD), "pass_malformed"),
    Case("ipv6 under the ipv4 ethertype", packets.with_ethertype(packets.udp(OUT6), 0x0800), "pass_malformed"),
    Case("ipv4 bad checksum", packets.udp(OUT4, chksum=0x1234), "pass_malformed"),
    Case("ipv4 checksum zero", packets.udp(OUT4, chksum=0), "pass_malformed"),
    Case("ipv4 total length beyond the frame by one", packets.udp_of_length(OUT4, 100, len=101), "pass_malformed"),
    Case("ipv4 total length 65535", packets.udp(OUT4, len=65535), "pass_malformed"),
    Case("ipv4 total length 0", packets.udp(OUT4, len=0), "pass_malformed"),
    Case("ipv4 total length 19", packets.udp(OUT4, len=19), "pass_malformed"),
    Case("ipv6 payload length beyond the frame by one", packets.udp_of_length(OUT6, 100, plen=61), "pass_malformed"),
    *both("no room for the spi of ah", "pass_malformed", lambda f: packets.of_protocol(out(f), 51, bytes(7))),
    *both("no room for an icmp type", "pass_malformed", lambda f: packets.of_protocol(out(f), 1 if f == 4 else 58, b"")),
    *both("no room for ports", "pass_malformed", lambda f: packets.of_protocol(out(f), 17, b"\1\2\3")),
    *both("no ports, though padding would do for them", "pass_malformed",
          lambda f: packets.padded(packets.of_protocol(out(f), 6, b"\1\2\3"))),
]  # fmt: skip
LENGTHS = [
    *both("padding up to 60 bytes", "forward", lambda f: packets.padded(packets.of_protocol(out(f), 89, b"\1"))),
    Case("ipv4 padding of an empty datagram", packets.padded(packets.of_protocol(OUT4, 89, b"")), "forward"),
    *both("60 bytes of frame without padding", "forward", lambda f: packets.of_protocol(
        out(f), 50, bytes(46 - (20 if f == 4 else 40)))),
    *both("61 bytes, one of them behind the datagram", "pass_trailer", lambda f: packets.trailer(
        packets.of_protocol(out(f), 50, bytes(46 - (20 if f == 4 else 40))), 1)),
    *both("trailer of one byte", "pass_trailer", lambda f: packets.trailer(packets.udp(out(f)), 1)),
    *both("trailer of a thousand bytes", "pass_trailer", lambda f: packets.trailer(packets.udp(out(f)), 1000)),
]  # fmt: skip
ICMP = [
    *[Case(f"ipv4 icmp error {kind}", packets.icmp(OUT4, kind), "pass_icmp") for kind in (3, 4, 5, 11, 12)],
    *[Case(f"ipv6 icmp error {kind}", packets.icmp(OUT6, kind), "pass_icmp") for kind in (1, 2, 3, 4, 127)],
    *[Case(f"ipv6 neighbour discovery {kind}", packets.icmp(OUT6, kind), "pass_icmp") for kind in range(133, 138)],
    *[Case(f"ipv4 icmp {kind} is no error", packets.icmp(OUT4, kind), "forward") for kind in (0, 8, 13, 255)],
    *[Case(f"ipv6 icmp {kind} is no error", packets.icmp(OUT6, kind), "forward") for kind in (128, 129, 132, 138)],
    Case("ipv4 first fragment of an icmp error", packets.fragment(OUT4, 0, True, b"\3" + bytes(63), protocol=1),
         "pass_icmp"),
    Case("ipv4 later fragment of icmp", packets.fragment(OUT4, 64, False, b"\3" + bytes(63), protocol=1), "forward"),
]  # fmt: skip
OWN_SOURCES = [
    Case("ipv4 source is the router's own address", packets.udp(OUT4, src="10.0.1.1"), "pass_martian"),
    Case("ipv4 source is the ingress port's address", packets.udp(OUT4, src="10.0.0.1"), "pass_martian"),
    Case("ipv4 source is a subnet's broadcast address", packets.udp(OUT4, src="10.0.1.255"), "pass_martian"),
    Case("ipv4 source is in a local prefix", packets.udp(OUT4, src="10.60.7.8"), "pass_martian"),
    Case("ipv4 source beside the router's own address", packets.udp(OUT4, src="10.0.1.3"), "forward"),
    Case("ipv4 own source into a blackhole", to("blackhole", 4, src="10.0.1.1"), "pass_martian"),
]
ROUTE_MTU = [
    Case("ipv4 up to the unlocked mtu of a route", packets.udp_of_length("10.41.0.5", 1000), "forward"),
    Case("ipv4 over the unlocked mtu of a route", packets.udp_of_length("10.41.0.5", 1001), "pass_too_big",
         fib_code=0),
    Case("ipv6 up to the unlocked mtu of a route", packets.udp_of_length("2001:db8:41::5", 1300), "forward"),
    Case("ipv6 over the unlocked mtu of a route", packets.udp_of_length("2001:db8:41::5", 1301), "pass_too_big",
         fib_code=0),
    Case("ipv4 as large beside that route", packets.udp_of_length(OUT4, 1001), "forward"),
    Case("ipv6 up to the ipv6 mtu of the egress", packets.udp_of_length(destination("six", 6), 1300), "forward",
         egress="narrow_six0"),
    Case("ipv6 over the ipv6 mtu of the egress", packets.udp_of_length(destination("six", 6), 1301), "pass_too_big",
         fib_code=0),
    Case("ipv4 over the ipv6 mtu of the egress", packets.udp_of_length(destination("six", 4), 1301), "forward",
         egress="narrow_six0"),
]  # fmt: skip


def into(ingress: str, packet: Callable[..., Packet], *arguments, **fields) -> dict:
    """Arguments of a Case for a packet that comes in on another port."""
    return {"packet": packet(*arguments, dst_mac=PORTS[ingress].mac, **fields), "ingress": ingress}


BEHIND_STRICT, BEHIND_LOOSE = "10.0.8.2", "10.0.9.2"
FLAGS = [
    Case("strict: source behind the ingress", verdict="forward", **into("strict0", packets.udp, OUT4, src=BEHIND_STRICT)),
    Case("strict: source behind another port", verdict="pass_reverse_path", fib_code=0,
         **into("strict0", packets.udp, OUT4)),
    Case("strict: source behind the egress", verdict="pass_reverse_path", fib_code=0,
         **into("strict0", packets.udp, OUT4, src="10.0.1.2")),
    Case("strict: source without a route", verdict="pass_reverse_path", fib_code=0,
         **into("strict0", packets.udp, OUT4, src="192.0.2.1")),
    Case("strict: into a blackhole", verdict="drop_blackhole",
         **into("strict0", packets.udp, destination("blackhole", 4), src="192.0.2.1")),
    Case("strict: unresolved source behind the ingress", verdict="forward",
         **into("strict0", packets.udp, OUT4, src="10.0.8.77")),
    Case("strict: ipv6 has no rp_filter", verdict="forward", **into("strict0", packets.udp, OUT6)),
    Case("loose: source behind the ingress", verdict="forward", **into("loose0", packets.udp, OUT4, src=BEHIND_LOOSE)),
    Case("loose: source behind another port", verdict="forward", **into("loose0", packets.udp, OUT4)),
    Case("loose: source without a route", verdict="pass_reverse_path", fib_code=0,
         **into("loose0", packets.udp, OUT4, src="192.0.2.1")),
    Case("loose: source in a blackhole", verdict="pass_reverse_path", fib_code=0,
         **into("loose0", packets.udp, OUT4, src=destination("blackhole", 4))),
    *both("guarded ingress", "pass_guarded", lambda f: into("guarded0", packets.udp, out(f))["packet"],
          ingress="guarded0"),
    Case("guarded: arp", packets.arp_request("10.0.33.1"), "pass_guarded", ingress="guarded0"),
    Case("ipv4 back out of the ingress without redirects", verdict="forward", egress="hairpin0",
         **into("hairpin0", packets.udp, destination("back", 4))),
    Case("ipv6 back out of the ingress without redirects", verdict="pass_hairpin",
         **into("hairpin0", packets.udp, destination("back", 6))),
    Case("ipv6 forwarding off for all", verdict="pass_forwarding_off", fib_code=NOT_ASKED,
         **into("no_six0", packets.udp, OUT6)),
    Case("ipv4 where ipv6 forwarding is off for all", verdict="forward", **into("no_six0", packets.udp, OUT4)),
    *[Case(f"ipv{f} where the hash policy for ipv{n} is unsure", verdict="pass_unsure" if f == n else "forward",
           **into(f"unsure{n}", packets.udp, out(f))) for f in (4, 6) for n in (4, 6)],
    Case("ipv6 where its rules are unsure", verdict="pass_unsure", **into("rules6", packets.udp, OUT6)),
    Case("ipv4 where the rules for ipv6 are unsure", verdict="forward", **into("rules6", packets.udp, OUT4)),
    Case("ipv6 fragment that no lookup describes", verdict="pass_options",
         **into("deep0", packets.fragment, OUT6, 0, True, bytes(64))),
    Case("icmpv6 that is hashed in a way of its own", verdict="pass_icmp", **into("deep0", packets.ping, OUT6)),
    Case("icmp where icmpv6 is passed", verdict="forward", **into("deep0", packets.ping, OUT4)),
    Case("ipv4 fragment where those of ipv6 are passed", verdict="forward",
         **into("deep0", packets.fragment, OUT4, 0, True, bytes(64))),
    Case("ipv6 fragment looked up by its header's number", verdict="forward",
         **into("split0", packets.fragment, OUT6, 0, True, bytes(64), protocol=POLICY_PROTOCOL)),
]  # fmt: skip
FIB_ANSWERS = [
    *both("fib lookup refused", "pass_fib_refused", lambda f: packets.udp(out(f)), router="fib_refused"),
    Case("fib answer of no meaning here", packets.udp(OUT6), "pass_fib_other", router="fib_other"),
]
ENCAP = both(
    "route that encapsulates", "pass_encap", lambda f: packets.udp("10.50.0.5" if f == 4 else "2001:db8:50::5")
)
SHARED_TABLES = [
    *FORWARD, *FRAGMENTS, *TTL, *ROUTED, *POLICY, *TOO_BIG, *MULTI_BUFFER, *ETHERNET, *MARTIANS, *HEADERS, *LENGTHS,
    *ICMP, *OWN_SOURCES, *ROUTE_MTU, *FLAGS, *FIB_ANSWERS,
]  # fmt: skip


def described(cases: list[Case]):
    return pytest.mark.parametrize("case", cases, ids=[_id(case) for case in cases])


def _id(case: Case) -> str:
    """Without `::`, which separates the parts of a test's name on pytest's command line."""
    return case.description.replace(" ", "-").replace(":", ".")


def check(case: Case, router) -> None:
    frame = bytes(case.packet)
    before = router.counters()
    action, after = router.run(frame, case.ingress)
    assert rise(before, router.counters()) == expected_counts(case, len(frame))
    assert (action, after.hex(" ")) == (expected_action(case.verdict), expected_frame(case).hex(" "))


def expected_action(verdict: str) -> int:
    return {"forward": XDP_REDIRECT, "drop_blackhole": XDP_DROP}.get(verdict, XDP_PASS)


def expected_counts(case: Case, length: int) -> dict[str, PortCounters]:
    code = FIB_CODES.get(case.verdict, NOT_ASKED) if case.fib_code is None else case.fib_code
    port = case.ingress if PORTS[case.ingress].is_port else ""
    counts = {
        port: PortCounters(ingress={case.verdict: Traffic(1, length)}, fib_codes={} if code == NOT_ASKED else {code: 1})
    }
    if case.verdict == "forward":
        counts[case.egress] = replace(counts.get(case.egress, PortCounters()), egress=Traffic(1, length))
    return counts


def expected_frame(case: Case) -> bytes:
    if case.verdict != "forward":
        return bytes(case.packet)
    egress = PORTS[case.egress]
    return packets.forwarded(case.packet, egress.mac, egress.next_hop_mac)


@described(SHARED_TABLES)
def test_packet(case, request):
    check(case, request.getfixturevalue(case.router))


@described(ENCAP)
def test_encapsulating_route(case, router, encap_route):
    check(case, router)


def test_every_verdict_has_a_case():
    tables = [*SHARED_TABLES, *ENCAP, *test_tagged_packets.TABLES, *test_packets_below.TABLES]
    assert {case.verdict for case in tables} == set(verdicts())


def test_descriptions_are_unique():
    for tables in ([*SHARED_TABLES, *ENCAP], test_tagged_packets.TABLES, test_packets_below.TABLES):
        names = [case.description for case in tables]
        assert sorted(set(names)) == sorted(names)


# --- truncation -------------------------------------------------------------------------------------

SHORTEST_FRAME = 14
"""BPF_PROG_TEST_RUN takes no frame without a whole Ethernet header; shorter ones cannot be tried."""

TRUNCATED = {
    "ipv4 udp": packets.udp(OUT4, size=64),
    "ipv6 udp": packets.udp(OUT6, size=64),
    "ipv4 tcp": packets.tcp(OUT4),
    "ipv6 tcp": packets.tcp(OUT6),
    "ipv4 options": packets.ipv4_options(OUT4),
    "ipv6 hop-by-hop": packets.hop_by_hop(OUT6),
    "ipv4 fragment": packets.fragment(OUT4, 64, False, bytes(40)),
    "ipv6 fragment": packets.fragment(OUT6, 64, False, bytes(40)),
    "vlan": packets.vlan(packets.udp(OUT4), 10),
    "arp": packets.arp_request("10.0.0.1"),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_every_prefix_is_passed_untouched(name, router):
    frame = bytes(TRUNCATED[name])
    before = router.counters()
    with router.ns.entered():
        outcome = {n: router.dataplane.test_run(frame[:n], router.indexes["in0"]) for n in _prefixes(frame)}
    assert outcome == {n: (XDP_PASS, frame[:n]) for n in _prefixes(frame)}
    (counted,) = rise(before, router.counters()).values()
    assert sum(traffic.packets for traffic in counted.ingress.values()) == len(_prefixes(frame))
    assert sum(traffic.bytes for traffic in counted.ingress.values()) == sum(_prefixes(frame))


def _prefixes(frame: bytes) -> range:
    return range(SHORTEST_FRAME, len(frame))


def test_no_frame_without_an_ethernet_header_can_be_tried(router):
    """So that the range above grows when a kernel takes shorter frames."""
    with pytest.raises(Exception, match="Invalid argument"):
        router.run(bytes(TRUNCATED["ipv4 udp"])[: SHORTEST_FRAME - 1])


# --- IPv4 checksum ----------------------------------------------------------------------------------


def test_checksum_update_agrees_with_a_recomputation_for_every_checksum(router):
    """The update depends on the old checksum alone, and the header's id takes it through every value."""
    frame = bytearray(bytes(packets.udp(OUT4, ttl=64)))
    header, seen, wrong = slice(14, 34), set(), []
    with router.ns.entered():
        ifindex = router.indexes["in0"]
        for identification in range(0x10000):
            frame[18:20] = identification.to_bytes(2)
            frame[24:26] = old = packets.ipv4_checksum(frame[header]).to_bytes(2)
            seen.add(old)
            action, after = router.dataplane.test_run(bytes(frame), ifindex)
            new = packets.ipv4_checksum(after[header]).to_bytes(2)
            if action != XDP_REDIRECT or after[22] != 63 or after[24:26] != new:
                wrong.append((old.hex(), after[24:26].hex(), new.hex()))
    assert wrong == []
    assert len(seen) == 0xFFFF  # all but ffff, which no sum over a header that is not all zero gives


@pytest.mark.parametrize("ttl", [2, 3, 127, 128, 254, 255])
def test_checksum_update_at_the_wrap(router, ttl):
    """Around feff, feff + 0100 and ffff, for TTLs at the edges."""
    for wanted in (0x0000, 0x0001, 0x00FF, 0x0100, 0xFE00, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFE):
        frame = bytes(_ipv4_with_checksum(wanted, ttl))
        assert int.from_bytes(frame[24:26]) == wanted
        _, after = router.run(frame)
        assert after[22] == ttl - 1
        assert int.from_bytes(after[24:26]) == packets.ipv4_checksum(after[14:34])


def test_checksum_ffff_in_place_of_0000_stays_valid(router):
    """The other zero of one's complement: a receiver accepts it, so the result must hold as well."""
    frame = bytearray(bytes(_ipv4_with_checksum(0x0000, 64)))
    frame[24:26] = b"\xff\xff"
    action, after = router.run(bytes(frame))
    assert action == XDP_REDIRECT
    assert int.from_bytes(after[24:26]) == packets.ipv4_checksum(after[14:34])


def _ipv4_with_checksum(wanted: int, ttl: int) -> Packet:
    """A packet whose identification makes its header checksum so."""
    without = packets.ipv4_checksum(bytes(packets.udp(OUT4, ttl=ttl, id=0))[14:34])
    return packets.udp(OUT4, ttl=ttl, id=(without - wanted) % 0xFFFF)


# --- paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_flows_spread_over_both_next_hops(router, family):
    target = destination("ecmp", family)
    assert len({_next_hop(router, packets.udp(target, sport=port)) for port in range(1000, 1064)}) == 2


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_of_one_datagram_take_one_path(router, family):
    """Whatever lies where a first fragment has its ports."""
    target = destination("ecmp", family)
    pieces = [packets.fragment(target, 64 * n, n < 63, bytes([n]) * 64) for n in range(64)]
    assert len({_next_hop(router, piece) for piece in pieces}) == 1


def _next_hop(router, packet: Packet) -> bytes:
    action, after = router.run(bytes(packet))
    assert action == XDP_REDIRECT
    return after[:6]
