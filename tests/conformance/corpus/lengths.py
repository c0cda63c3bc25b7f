# SPDX-License-Identifier: GPL-2.0-only
"""Lengths: around every MTU, against the frame, and what lies behind a datagram."""

from tests import packets
from tests.conformance import rows
from tests.conformance.configurations import destination
from tests.conformance.corpus.case import Case, both, case, out

OUT4, OUT6 = out(4), out(6)
_AROUND = {"out": 1500, "ecmp": 1500, "small": 1280, "mtu": 1400, "locked": 1400, "side": 1500, "hairpin": 1500}


def _df(family: int) -> dict:
    return {"flags": "DF"} if family == 4 else {}


_SIZES = [c for kind, mtu in _AROUND.items() for off in (-41, -40, -1, 0, 1, 40) if mtu + off <= 1500
          for c in both(rows.IPV6_LENGTH if off in (40, -40) else rows.MTU, f"{mtu}{off:+d} bytes to {kind}",
                        lambda f, kind=kind, length=mtu + off: packets.udp_of_length(destination(kind, f), length))]  # fmt: skip
_SIZES += [c for kind, mtu in _AROUND.items() for off in (0, 1, 40) if mtu + off <= 1500
           for c in both(rows.MTU, f"{mtu}{off:+d} bytes with don't fragment to {kind}",
                         lambda f, kind=kind, length=mtu + off:
                         packets.udp_of_length(destination(kind, f), length, **_df(f)))]  # fmt: skip
_SIZES += [
    c
    for kind in ("blackhole", "unreachable", "prohibit")
    for c in both(
        rows.MTU, f"1500 bytes to {kind}", lambda f, kind=kind: packets.udp_of_length(destination(kind, f), 1500)
    )
]
_SIZES += both(
    rows.FRAGMENTS,
    "fragment of 1400 bytes to small",
    lambda f: packets.fragment(destination("small", f), 64, True, bytes(1352)),
)

_AGAINST_FRAME = [
    *[case(rows.VERSION_AND_LENGTH, f"ipv4 total length {off:+d}", packets.udp_of_length(OUT4, 100, len=100 + off))
      for off in (-80, -72, -1, 1, 20)],
    *[case(rows.VERSION_AND_LENGTH, f"ipv6 payload length {off:+d}", packets.udp_of_length(OUT6, 100, plen=60 + off))
      for off in (-60, -52, -1, 1, 40)],
    *[case(rows.VERSION_AND_LENGTH, f"ipv6 payload length {n:#x}", packets.udp(OUT6, plen=n))
      for n in (0, 0xFFD7, 0xFFD8, 0xFFFF)],
    *both(rows.VERSION_AND_LENGTH, "udp without a payload", lambda f: packets.udp(out(f), size=0)),
    *both(rows.VERSION_AND_LENGTH, "no payload at all", lambda f: packets.of_protocol(out(f), 253, b"")),
    case(rows.VERSION_AND_LENGTH, "ipv4 under the ipv6 ethertype", packets.with_ethertype(packets.udp(OUT4), 0x86DD)),
    case(rows.VERSION_AND_LENGTH, "ipv6 under the ipv4 ethertype", packets.with_ethertype(packets.udp(OUT6), 0x0800)),
]  # fmt: skip
_TRUNCATED = [
    case(rows.VERSION_AND_LENGTH, f"{name} cut to {length} bytes", bytes(packet)[:length])
    for name, packet in (("ipv4", packets.udp(OUT4)), ("ipv6", packets.udp(OUT6)), ("ipv4 tcp", packets.tcp(OUT4)))
    for length in (14, 15, 33, 34, 37, 41, 42, 53, 54, 57, 60)
]
_BEHIND = [
    *[c for extra in (1, 2, 4, 18, 1000) for c in both(rows.TRAILER, f"trailer of {extra} bytes",
      lambda f, extra=extra: packets.trailer(packets.udp(out(f)), extra))],
    *both(rows.TRAILER, "padding up to 60 bytes", lambda f: packets.padded(packets.of_protocol(out(f), 50, b"\1"))),
    *both(rows.TRAILER, "padding that is not zero", lambda f: packets.trailer(packets.of_protocol(out(f), 50, b"\1"), 5)),
    *both(rows.TRAILER, "61 bytes, one behind the datagram", lambda f: packets.trailer(
        packets.of_protocol(out(f), 50, bytes(46 - (20 if f == 4 else 40))), 1)),
    *both(rows.TRAILER, "padding to a small port", lambda f: packets.padded(
        packets.of_protocol(destination("small", f), 50, b"\1"))),
]  # fmt: skip

CASES: list[Case] = [*_SIZES, *_AGAINST_FRAME, *_TRUNCATED, *_BEHIND]
