# SPDX-License-Identifier: GPL-2.0-only
"""Addresses: martians, the router's own, broadcast, multicast, and MACs."""

from tests import packets
from tests.conformance import rows
from tests.conformance.configurations import destination
from tests.conformance.corpus.case import Case, both, case, out
from tests.conformance.topology import NUMBERS, address, mac

OUT4, OUT6 = out(4), out(6)
_MARTIANS4 = ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "224.0.0.1", "224.0.0.9", "239.1.1.1", "240.0.0.1",
              "255.255.255.255", "169.254.1.1", "192.0.2.1", "1.0.0.1", "223.255.255.254")  # fmt: skip
_MARTIANS6 = ("::", "::1", "::2", "::10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::9", "febf::1", "fec0::1", "ff01::1",
              "ff02::1", "ff02::2", "ff05::2", "ff0e::1", "fd00::1", "64:ff9b::1", "2002:a00:1::1", "::fffe:0:1")  # fmt: skip
_OWN = [address(port, 4) for port in NUMBERS] + ["10.99.0.1", "10.98.0.1", "10.98.1.1", "10.0.0.77", "10.0.60.1"]
_OWN6 = [address(port, 6) for port in NUMBERS] + ["2001:db8:99::1", "2001:db8:0:60::1"]
_BROADCAST = ["10.0.0.255", "10.0.0.0", "10.0.2.255", "10.0.2.0", "10.98.0.0"]
_ANYCAST6 = ["2001:db8::", "2001:db8:0:2::"]

_FROM_MARTIANS = [
    case(rows.MARTIANS, f"from {a} to {kind}", packets.udp(destination(kind, f), src=a))
    for f, addresses in ((4, _MARTIANS4), (6, _MARTIANS6)) for a in addresses for kind in ("out", "ecmp", "blackhole")
]  # fmt: skip
_TO_MARTIANS = [case(rows.MARTIANS, f"to {a}", packets.udp(a)) for a in (*_MARTIANS4, *_MARTIANS6)]
_FROM_OWN = [
    case(rows.OWN_SOURCE, f"from {a} to {kind}", packets.udp(destination(kind, f), src=a))
    for f, addresses in ((4, [*_OWN, *_BROADCAST]), (6, [*_OWN6, *_ANYCAST6])) for a in addresses
    for kind in ("out", "blackhole", "unreachable", "hairpin")
]  # fmt: skip
_FROM_OWN += [case(rows.OWN_SOURCE, f"from {a} to out, at in1", packets.udp(out(f), src=a, dst_mac=mac("in1")), "in1")
              for f, addresses in ((4, [*_OWN, *_BROADCAST]), (6, _OWN6)) for a in addresses]  # fmt: skip
_TO_OWN = [
    case(rows.DELIVERY, f"{name} to {a}", build(a))
    for a in (*_OWN, *_OWN6, *_BROADCAST, *_ANYCAST6, destination("anyip", 4), destination("anyip", 6))
    for name, build in (("udp", packets.udp), ("tcp", packets.tcp), ("ping", packets.ping))
]
_TO_OWN += [
    c
    for kind in ("onlink", "sink", "throw", "anyip")
    for c in both(rows.DELIVERY, f"to {kind}", lambda f, kind=kind: packets.udp(destination(kind, f)))
]
_GROUPS = [
    case(rows.DELIVERY, "broadcast mac and address", packets.udp("255.255.255.255", dst_mac="ff:ff:ff:ff:ff:ff")),
    case(rows.DELIVERY, "broadcast mac, subnet broadcast", packets.udp("10.0.0.255", dst_mac="ff:ff:ff:ff:ff:ff")),
    case(rows.DELIVERY, "multicast to all hosts", packets.udp("224.0.0.1", dst_mac="01:00:5e:00:00:01", ttl=1)),
    case(rows.DELIVERY, "multicast beyond the link", packets.udp("239.1.2.3", dst_mac="01:00:5e:01:02:03", ttl=9)),
    case(rows.DELIVERY, "multicast to a unicast mac", packets.udp("239.1.2.3")),
    case(rows.DELIVERY, "ping to all nodes", packets.ping("ff02::1", dst_mac="33:33:00:00:00:01")),
    case(rows.DELIVERY, "ipv6 multicast beyond the link", packets.udp("ff0e::5", dst_mac="33:33:00:00:00:05")),
    case(rows.DELIVERY, "ipv6 multicast to a unicast mac", packets.udp("ff0e::5")),
]
_OTHER_MACS = {
    "someone else's": packets.OTHER_MAC, "another port's": mac("out0"), "in1's": mac("in1"), "zero": "00:00:00:00:00:00",
    "a macvlan's": "02:00:00:00:00:cc", "broadcast": "ff:ff:ff:ff:ff:ff", "with the group bit": "03:00:00:00:00:01",
    "an IPv4 group's": "01:00:5e:00:00:01", "an IPv6 group's": "33:33:00:00:00:01", "spanning tree's": "01:80:c2:00:00:00",
}  # fmt: skip
_MACS = [c for name, target in _OTHER_MACS.items() for kind in ("out", "blackhole") for c in both(
    rows.DESTINATION_MAC, f"{name} mac, to {kind}",
    lambda f, target=target, kind=kind: packets.udp(destination(kind, f), dst_mac=target))]  # fmt: skip
_MACS += [case(rows.DESTINATION_MAC, f"source mac {source.hex(':')}", frame[:6] + source + frame[12:])
          for frame in (bytes(packets.udp(OUT4)), bytes(packets.udp(OUT6)))
          for source in (bytes(6), b"\xff" * 6, bytes.fromhex("01005e000001"), frame[:6], bytes.fromhex("0200000002ff"))]  # fmt: skip

CASES: list[Case] = [*_FROM_MARTIANS, *_TO_MARTIANS, *_FROM_OWN, *_TO_OWN, *_GROUPS, *_MACS]
