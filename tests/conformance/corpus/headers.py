# SPDX-License-Identifier: GPL-2.0-only
"""Headers: hops, IPv4 and IPv6 headers and their extensions, fragments, checksums."""

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.packet import Raw

from tests import packets
from tests.conformance import rows
from tests.conformance.configurations import destination
from tests.conformance.corpus.case import Case, both, case, out

OUT4, OUT6 = out(4), out(6)
_UDP = UDP(sport=1, dport=2) / Raw(bytes(32))
_EXTENSIONS = {
    "hop-by-hop": IPv6ExtHdrHopByHop(),
    "hop-by-hop with router alert": IPv6ExtHdrHopByHop(options=[RouterAlert()]),
    "hop-by-hop with an unknown option to skip": IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x1E, optdata=b"ab")]),
    "hop-by-hop with an unknown option to refuse": IPv6ExtHdrHopByHop(
        options=[HBHOptUnknown(otype=0xBE, optdata=b"ab")]
    ),
    "destination options": IPv6ExtHdrDestOpt(),
    "destination options to refuse": IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0xBE, optdata=b"ab")]),
    "routing header 0": IPv6ExtHdrRouting(addresses=["2001:db8:ffff::1"]),
    "routing header used up": IPv6ExtHdrRouting(addresses=["2001:db8:ffff::1"], segleft=0),
    "routing header 2": IPv6ExtHdrRouting(type=2, addresses=["2001:db8:ffff::1"]),
    "segment routing header": IPv6ExtHdrRouting(type=4, addresses=["2001:db8:ffff::1"]),
    "atomic fragment header": IPv6ExtHdrFragment(nh=17, id=9),
    "hop-by-hop, then fragment": IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(nh=17, id=9),
    "destination options, then fragment": IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(nh=17, id=9),
    "fragment, then destination options": IPv6ExtHdrFragment(nh=60, id=9) / IPv6ExtHdrDestOpt(),
    "hop-by-hop after destination options": IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop(),
}
_OPTIONS = {
    "record route": "070b0400000000000000000000",
    "record route with a pointer beyond it": "070b2000000000000000000000",
    "timestamp without room": "440c0d0000000000000000000000"[:24],
    "router alert": "94040000",
    "loose source route": "8307040a000202",
    "strict source route": "8907040a000202",
    "no operation": "01010101",
    "end of list, then more": "0007070400000000",
    "of length 0": "07000000",
    "longer than the header": "07270400",
    "unknown": "1e040102",
    "security": "820b000000000000000000",
}


def _with_option(option: bytes) -> bytes:
    """As bytes: half of these no packet library would build."""
    option += bytes(-len(option) % 4)
    frame = bytes(packets.udp(OUT4))
    header = bytearray(frame[14:34] + option)
    header[0] = 0x40 | len(header) // 4
    header[2:4] = (len(frame) - 14 + len(option)).to_bytes(2)
    header[10:12] = packets.ipv4_checksum(bytes(header)).to_bytes(2)
    return frame[:14] + bytes(header) + frame[34:]


_HOPS = [c for ttl in (0, 1, 2, 64, 255) for kind in ("out", "blackhole", "unreachable", "small", "side", "hairpin", "ecmp")
         for c in both(rows.HOPS, f"{ttl} hops left, to {kind}",
                       lambda f, ttl=ttl, kind=kind: packets.with_ttl(destination(kind, f), ttl))]  # fmt: skip
_HOPS += [c for ttl in (0, 1) for c in both(rows.HOPS, f"{ttl} hops left, to the router itself", lambda f, ttl=ttl:
          packets.with_ttl("10.0.0.1" if f == 4 else "2001:db8::1", ttl))]  # fmt: skip
_HOPS += [c for ttl in (0, 1) for c in both(rows.HOPS, f"{ttl} hops left, to no route", lambda f, ttl=ttl:
          packets.with_ttl("192.0.2.1" if f == 4 else "3fff::1", ttl))]  # fmt: skip

_IPV4 = [
    *[case(rows.IPV4_HEADER, f"option {name}", _with_option(bytes.fromhex(option))) for name, option in _OPTIONS.items()],
    *[case(rows.IPV4_HEADER, f"ihl {n}", packets.udp(OUT4, ihl=n)) for n in (0, 1, 4, 6, 15)],
    *[case(rows.VERSION_AND_LENGTH, f"ipv4 version {n}", packets.udp(OUT4, version=n)) for n in (0, 3, 5, 6, 15)],
    *[case(rows.IPV4_HEADER, f"checksum {n:#06x}", packets.udp(OUT4, chksum=n)) for n in (0, 0x1234, 0xFFFF)],
    *[case(rows.IPV4_HEADER, f"total length {n}", packets.udp(OUT4, len=n)) for n in (0, 19, 20, 27, 28, 59, 61, 65535)],
    *[case(rows.IPV4_HEADER, f"flags {flags}", packets.udp(OUT4, flags=flags)) for flags in ("DF", "evil", "DF+evil")],
    *[case(rows.IPV4_HEADER, f"type of service {tos:#04x}", packets.udp(OUT4, tos=tos))
      for tos in (0x01, 0x02, 0x03, 0x04, 0x08, 0x10, 0x1C, 0x20, 0xB8, 0xE0, 0xFF)],
]  # fmt: skip
_IPV6 = [
    *[case(rows.IPV6_EXTENSIONS, name, packets.ipv6(OUT6, header.copy() / _UDP)) for name, header in _EXTENSIONS.items()],
    *[case(rows.IPV6_EXTENSIONS, f"{name}, to ecmp", packets.ipv6(destination("ecmp", 6), header.copy() / _UDP))
      for name, header in _EXTENSIONS.items()],
    case(rows.IPV6_EXTENSIONS, "jumbogram", packets.jumbogram(OUT6)),
    case(rows.IPV6_EXTENSIONS, "no next header", packets.of_protocol(OUT6, 59, b"")),
    case(rows.IPV6_EXTENSIONS, "no next header with a payload", packets.of_protocol(OUT6, 59, bytes(9))),
    *[case(rows.IPV6_EXTENSIONS, f"next header {n}", packets.of_protocol(OUT6, n, bytes(40)))
      for n in (0, 4, 41, 43, 44, 50, 51, 60, 135, 139, 140, 253, 255)],
    *[case(rows.IPV6_EXTENSIONS, f"next header {n} cut off", packets.of_protocol(OUT6, n, b"\x11"))
      for n in (0, 43, 44, 51, 60)],
    *[case(rows.VERSION_AND_LENGTH, f"ipv6 version {n}", packets.udp(OUT6, version=n)) for n in (0, 4, 5, 7, 15)],
    *[case(rows.IPV6_EXTENSIONS, f"traffic class {tc:#04x}", packets.udp(OUT6, tc=tc)) for tc in (1, 3, 0x10, 0xB8, 0xFF)],
    *[case(rows.IPV6_EXTENSIONS, f"flow label {fl:#x}, to {kind}", packets.udp(destination(kind, 6), fl=fl))
      for fl in (1, 0xFFFFF) for kind in ("out", "ecmp")],
]  # fmt: skip
_FRAGMENTS = [
    c for kind in ("out", "ecmp", "legs") for offset, more, size in
    ((0, True, 64), (64, True, 64), (128, False, 13), (0, True, 7), (64, False, 1), (0, False, 64), (65528, False, 8))
    for c in both(rows.FRAGMENTS, f"offset {offset}, {'more' if more else 'last'}, {size} bytes, to {kind}",
                  lambda f, kind=kind, offset=offset, more=more, size=size:
                  packets.fragment(destination(kind, f), offset, more, b"\x04\x00\x08\x00" * 16 if size > 16 else bytes(size)))
]  # fmt: skip
_FRAGMENTS += [
    c for n in range(8)
    for c in both(rows.FRAGMENTS, f"one of a datagram of flow {n}, to ecmp", lambda f, n=n:
                  packets.fragment(destination("ecmp", f, 5 + n), 0, True, bytes([n]) * 64,
                                   src=f"10.0.0.{20 + n}" if f == 4 else f"2001:db8::{20 + n:x}"))
]  # fmt: skip
_CHECKSUMS = [
    *both(rows.CHECKSUMS, "tcp", lambda f: packets.tcp(out(f))),
    *both(rows.CHECKSUMS, "tcp with a wrong checksum", lambda f: packets.ip(out(f), TCP(chksum=0x1234) / Raw(bytes(8)))),
    *both(rows.CHECKSUMS, "udp with a wrong checksum", lambda f: packets.ip(out(f), UDP(chksum=0x1234) / Raw(bytes(8)))),
    *both(rows.CHECKSUMS, "udp without a checksum", lambda f: packets.ip(out(f), UDP(chksum=0) / Raw(bytes(8)))),
    *both(rows.CHECKSUMS, "udp of wrong length", lambda f: packets.ip(out(f), UDP(len=200) / Raw(bytes(8)))),
    *both(rows.CHECKSUMS, "udp of length 0", lambda f: packets.ip(out(f), UDP(len=0) / Raw(bytes(8)))),
    *both(rows.CHECKSUMS, "tcp cut off", lambda f: packets.of_protocol(out(f), 6, bytes(6))),
    *both(rows.CHECKSUMS, "udp cut off before its ports end", lambda f: packets.of_protocol(out(f), 17, b"\1\2\3")),
    case(rows.CHECKSUMS, "ipv4 in ipv4", packets.ipv4(OUT4, IP(src="10.1.1.1", dst="10.2.2.2") / _UDP)),
]  # fmt: skip

CASES: list[Case] = [*_HOPS, *_IPV4, *_IPV6, *_FRAGMENTS, *_CHECKSUMS]
