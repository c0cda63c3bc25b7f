# SPDX-License-Identifier: GPL-2.0-only
"""Frames of links.py's network, and the cases of its tables: what goes in, what has to come out and be counted."""

import struct
from dataclasses import dataclass, replace

import pytest

from controlplane.cache_key import Key
from controlplane.counters import PortCounters, Traffic
from tests import packets
from tests.bpf.links import DEVICES, Links, Tag, mac, next_hop_mac
from tests.bpf.network import rise

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
ETHERTYPE = {4: 0x0800, 6: 0x86DD}
ASKED = {
    "forward": 0, "drop_blackhole": 1, "pass_local_or_no_route": 4, "pass_no_neighbour": 7, "pass_too_big": 8,
    "pass_hairpin": 0, "pass_egress_unavailable": 0, "pass_reverse_path": 0,
}  # fmt: skip
"""What bpf_fib_lookup() answers behind a verdict; behind the others it is not asked."""
NOT_ASKED = -1


# --- frames -----------------------------------------------------------------------------------------


def header(dst: str, src: str, tags: tuple[Tag, ...], ethertype: int) -> bytes:
    """An Ethernet header with these tags, the outer one first."""
    out = bytes.fromhex((dst + src).replace(":", ""))
    for tag in tags:
        out += struct.pack("!HH", tag.protocol, tag.pcp << 13 | tag.dei << 12 | tag.vid)
    return out + struct.pack("!H", ethertype)


def udp(dst: str, length: int = 60, **fields) -> bytes:
    """A datagram of `length` bytes; `fields` as for packets.udp()."""
    return bytes(packets.udp_of_length(dst, length, **fields))[packets.ETHERNET_HEADER :]


def family_of(datagram: bytes) -> int:
    return datagram[0] >> 4


def arriving(
    name: str, datagram: bytes, *, tags: tuple[Tag, ...] | None = None, to: str = "", sender: str = packets.HOST_MAC
) -> bytes:
    """A frame for the MAC of an interface, with its tags if not others are given."""
    own = DEVICES[name].tags if tags is None else tags
    return header(to or mac(name), sender, own, ETHERTYPE[family_of(datagram)]) + datagram


def leaving(name: str, datagram: bytes, host: int = 2) -> bytes:
    """The frame by which a router sends such a datagram on to a neighbour on an interface: bare tags, one hop less."""
    family = family_of(datagram)
    out = bytearray(datagram)
    out[8 if family == 4 else 7] -= 1
    if family == 4:
        out[10:12] = packets.ipv4_checksum(bytes(out[:20])).to_bytes(2)
    return header(next_hop_mac(name, host), mac(name), DEVICES[name].tags, ETHERTYPE[family]) + bytes(out)


# --- cases ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    description: str
    frame: bytes
    verdict: str
    ingress: str = "p0"
    """the device that XDP sees it on"""
    after: bytes = b""
    """if it is forwarded"""
    egress: str = ""
    """the port that it leaves by, then"""
    fib_code: int | None = None
    """If not the one of ASKED"""


def through(
    description: str, ingress: str, egress: str, datagram: bytes, verdict: str = "forward", *, device: str = "",
    port: str = "", padding: bytes = b"", fib_code: int | None = None, host: int = 2, **frame,
) -> Case:  # fmt: skip
    """In by one interface, out by another. `device`, `port`: where the frame itself comes in and leaves, if the
    interfaces' ports do not tell; `frame`: as for arriving()."""
    return Case(
        description,
        arriving(ingress, datagram, **frame) + padding,
        verdict,
        device or DEVICES[ingress].port or ingress,
        leaving(egress, datagram, host) + padding if verdict == "forward" else b"",
        port or DEVICES[egress].port or egress,
        fib_code,
    )


def both(description: str, build, *arguments, **more) -> list[Case]:
    """The same case for IPv4 and IPv6; `build` is called with a description, the arguments and the family."""
    return [build(f"ipv{family} {description}", *arguments, family=family, **more) for family in (4, 6)]


KEYS = {"narrow": Key(), "wide": Key(source=True, ports=True, protocol=True, tos=True, ingress=True, label=True)}
ALL_FEATURES = ("VLAN", "UPPER", "BRIDGE", "VRF")


def described(cases: list[Case]):
    """A parameter `case` of a test."""
    return pytest.mark.parametrize("case", cases, ids=[case.description.replace(" ", "-") for case in cases])


Outcome = tuple[dict[str, PortCounters], int, str]
"""(what was counted, by port; the XDP action; the whole frame afterwards, in hex)"""


def outcome(case: Case, links: Links) -> Outcome:
    before = links.counters()
    action, after = links.run(case.frame, case.ingress)
    return rise(before, links.counters()), action, after.hex(" ")


def outcomes(case: Case, links: Links, key: Key) -> list[Outcome]:
    """Three times: by the FIB, then by what was remembered of it, if that was of the kind. A machine so busy that the
    lease of the cache ran out in between tells nothing, so all is done again."""
    return [
        (counted, action, after.hex(" ")) for counted, action, after in links.three_times(case.frame, case.ingress, key)
    ]


def expected(case: Case, recalled: bool = False) -> Outcome:
    """Nothing but the verdict is counted, and what is not forwarded is as it was."""
    if case.verdict == "forward":
        return expected_counts(case, recalled), XDP_REDIRECT, case.after.hex(" ")
    action = XDP_DROP if case.verdict == "drop_blackhole" else XDP_PASS
    return expected_counts(case, recalled), action, case.frame.hex(" ")


def expected_counts(case: Case, recalled: bool = False) -> dict[str, PortCounters]:
    """`recalled`: the answer of the FIB is in the cache, if it is of a kind that is remembered."""
    code = ASKED.get(case.verdict, NOT_ASKED) if case.fib_code is None else case.fib_code
    device = DEVICES[case.ingress]
    port = (device.port or case.ingress) if device.known else ""
    found = PortCounters(ingress={case.verdict: Traffic(1, len(case.frame))})
    recalled = recalled and code in (0, 1) and case.verdict != "pass_bridge"
    found = replace(found, fib_codes={} if recalled or code == NOT_ASKED else {code: 1}, cache_hits=int(recalled))
    counts = {port: found}
    if case.verdict == "forward":
        counts[case.egress] = replace(counts.get(case.egress, PortCounters()), egress=Traffic(1, len(case.after)))
    return counts
