# SPDX-License-Identifier: GPL-2.0-only
"""Routing: kinds of routes, policy rules, ECMP, reverse paths, ICMP errors that pass through."""

from dataclasses import replace

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw

from tests import packets
from tests.conformance import rows
from tests.conformance.configurations import HOST_ROUTE, MORE_SPECIFIC, ROUTES, destination
from tests.conformance.corpus.case import Case, both, case, out
from tests.conformance.topology import NUMBERS, address, mac

_KINDS = [c for kind in ROUTES for name, build in (("udp", packets.udp), ("tcp", packets.tcp), ("ping", packets.ping))
          for c in both(rows.NOT_A_PORT if kind == "side" else rows.FIB_CODES, f"{name} to {kind}",
                        lambda f, kind=kind, build=build: build(destination(kind, f)))]  # fmt: skip
_KINDS += [
    *both(rows.FIB_CODES, "to the more specific half", lambda f: packets.udp("10.11.200.9" if f == 4 else "2001:db8:11:9000::9")),
    *both(rows.FIB_CODES, "to the host route", lambda f: packets.udp(HOST_ROUTE[f].partition("/")[0])),
    *both(rows.FIB_CODES, "to the first of the more specific", lambda f: packets.udp(MORE_SPECIFIC[f].partition("/")[0])),
    *both(rows.FIB_CODES, "to nowhere", lambda f: packets.udp("192.0.2.1" if f == 4 else "3fff::1")),
]  # fmt: skip
_CONNECTED = [c for port in NUMBERS for c in both(
    rows.HAIRPIN if port == "in0" else rows.FIB_CODES, f"to a neighbour behind {port}",
    lambda f, port=port: packets.udp(address(port, f, 9), src=address("in0", f, 8)))]  # fmt: skip
_INGRESS = [c for port in NUMBERS if port != "in0" for kind in ("out", "less", "ecmp", "blackhole") for c in both(
    rows.RP_FILTER, f"from {port}'s own network to {kind}, at {port}",
    lambda f, port=port, kind=kind: packets.udp(destination(kind, f), src=address(port, f, 9), dst_mac=mac(port)),
    port)]  # fmt: skip
_SOURCES = [
    c for name, source in {
        "another host of the link": ("10.0.0.8", "2001:db8::8"), "in1's network": ("10.0.1.9", "2001:db8:0:1::9"),
        "out0's network": ("10.0.2.9", "2001:db8:0:2::9"), "a network behind in0": ("10.19.0.9", "2001:db8:19::9"),
        "a network behind out0": ("10.10.0.9", "2001:db8:10::9"), "a blackholed network": ("10.30.0.9", "2001:db8:30::9"),
        "an unreachable network": ("10.31.0.9", "2001:db8:31::9"), "a prohibited network": ("10.32.0.9", "2001:db8:32::9"),
        "an ecmp network": ("10.17.0.9", "2001:db8:17::9"), "nowhere": ("192.0.2.9", "3fff::9"),
    }.items() for kind in ("out", "ecmp", "small", "blackhole") for c in both(
        rows.RP_FILTER, f"from {name} to {kind}",
        lambda f, source=source, kind=kind: packets.udp(destination(kind, f), src=source[f == 6]))
]  # fmt: skip
_RFC8950 = [
    case(rows.RFC8950, "udp", packets.udp(destination("rfc8950", 4))),
    case(rows.RFC8950, "tcp", packets.tcp(destination("rfc8950", 4))),
    case(rows.RFC8950, "ttl 1", packets.with_ttl(destination("rfc8950", 4), 1)),
    case(rows.RFC8950, "1500 bytes", packets.udp_of_length(destination("rfc8950", 4), 1500)),
    case(rows.RFC8950, "fragment", packets.fragment(destination("rfc8950", 4), 64, True, bytes(64))),
]
_HAIRPIN = [
    replace(one, limited=True)
    for n, (name, build) in enumerate((("udp", packets.udp), ("tcp", packets.tcp), ("ping", packets.ping)))
    for one in both(rows.HAIRPIN, f"{name} to a neighbour nobody has been told of", lambda f, n=n, build=build: build(
        address("in0", f, 140 + n), src=address("in0", f, 130 + n)))
]  # fmt: skip
_HAIRPIN += both(
    rows.HAIRPIN,
    "source of another network",
    lambda f: packets.udp(destination("hairpin", f, 44), src=address("in1", f, 9)),
)
_LIMITED = [
    replace(one, limited=True)
    for n, kind in enumerate(("unreachable", "prohibit", "throw", "blackhole", "sink", "nowhere"))
    for m, (name, build) in enumerate((("udp", packets.udp), ("tcp", packets.tcp), ("ping", packets.ping)))
    for one in both(rows.FIB_CODES, f"{name} of a new source to {kind}", lambda f, kind=kind, n=n, m=m, build=build: build(
        destination(kind, f) if kind != "nowhere" else "192.0.2.1" if f == 4 else "3fff::1",
        src=address("in0", f, 150 + 3 * n + m)))
]  # fmt: skip
_FLOWS = [
    c for kind in ("ecmp", "legs", "group") for n in range(16) for c in both(
        rows.L4_PORTS, f"flow {n} to {kind}", lambda f, kind=kind, n=n: packets.udp(
            destination(kind, f, 5 + n // 4), sport=1000 + n, src=address("in0", f, 20 + n % 4)))
]  # fmt: skip
_PROTOCOLS = [c for kind in ("out", "ecmp") for p in (1, 2, 4, 6, 17, 33, 41, 47, 50, 51, 58, 89, 103, 108, 132, 136, 253) for c in both(
    rows.L4_PORTS, f"protocol {p} to {kind}",
    lambda f, p=p, kind=kind: packets.of_protocol(destination(kind, f), p, b"\x04\x00\x11\x5c" + bytes(36)))]  # fmt: skip
_RULES = [
    c for name, more in {"sport 1024": {"sport": 1024}, "dport 4444": {"dport": 4444}, "dport 2000": {"dport": 2000},
                         "dport 2047": {"dport": 2047}, "neither": {"sport": 9, "dport": 9}}.items()
    for build in (packets.udp, packets.tcp, packets.sctp)
    for c in both(rows.FWMARK, f"{build.__name__} {name}", lambda f, build=build, more=more: build(
        out(f), **{"sport": 5, "dport": 6, **more}))
]  # fmt: skip
_RULES += [c for tos in (0x08, 0x10, 0x11, 0x12, 0x14, 0x1C, 0x30) for c in both(
    rows.FWMARK, f"type of service {tos:#04x}",
    lambda f, tos=tos: packets.udp(out(f), **{"tos" if f == 4 else "tc": tos}))]  # fmt: skip


_RULES += [case(rows.FWMARK, "ipv6 ping with a flow label, to ecmp", packets.ping(destination("ecmp", 6), fl=0x12345))]

_RULES += [c for kind in ("out", "ecmp") for c in both(
    rows.L4_PORTS, f"AH with an SPI like ports to {kind}",
    lambda f, kind=kind: packets.of_protocol(destination(kind, f), 51, bytes.fromhex("1104000004000102") + bytes(16)))]  # fmt: skip


def _errors() -> list[Case]:
    """About packets that went the other way; from a host on the link, to where those came from."""
    found = []
    for kind in ("out", "ecmp", "legs"):
        for n in range(4):
            for target_host in (5, 6, 7):
                inner4 = (
                    IP(src=destination(kind, 4, target_host), dst=f"10.0.0.{9 + n}")
                    / UDP(sport=7, dport=1000 + n)
                    / Raw(bytes(16))
                )
                inner6 = (
                    IPv6(src=destination(kind, 6, target_host), dst=f"2001:db8::{9 + n}")
                    / UDP(sport=7, dport=1000 + n)
                    / Raw(bytes(16))
                )
                to4, to6 = destination(kind, 4, target_host), destination(kind, 6, target_host)
                where = f"flow {n}, to {kind} {target_host}"
                found += [
                    case(rows.ICMP_ERRORS, f"unreachable, {where}", packets.ipv4(to4, ICMP(type=3, code=3) / inner4)),
                    case(rows.ICMP_ERRORS, f"frag needed, {where}", packets.ipv4(to4, ICMP(type=3, code=4, nexthopmtu=1300) / inner4)),
                    case(rows.ICMP_ERRORS, f"time exceeded, {where}", packets.ipv4(to4, ICMP(type=11) / inner4)),
                    case(rows.ICMP_ERRORS, f"echo, {where}", packets.ping(to4, src=f"10.0.0.{9 + n}")),
                    case(rows.ICMP_ERRORS, f"ipv6 unreachable, {where}", packets.ipv6(to6, ICMPv6DestUnreach(code=4) / inner6)),
                    case(rows.ICMP_ERRORS, f"ipv6 too big, {where}", packets.ipv6(to6, ICMPv6PacketTooBig(mtu=1300) / inner6)),
                    case(rows.ICMP_ERRORS, f"ipv6 time exceeded, {where}", packets.ipv6(to6, ICMPv6TimeExceeded() / inner6)),
                    case(rows.ICMP_ERRORS, f"ipv6 echo, {where}", packets.ping(to6, src=f"2001:db8::{9 + n}")),
                ]  # fmt: skip
    return found


CASES: list[Case] = [
    *_KINDS,
    *_CONNECTED,
    *_INGRESS,
    *_SOURCES,
    *_RFC8950,
    *_HAIRPIN,
    *_FLOWS,
    *_PROTOCOLS,
    *_RULES,
    *_errors(),
]
