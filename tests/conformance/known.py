# SPDX-License-Identifier: GPL-2.0-only
"""Where xdprouter is known to do otherwise than the kernel, and why. Each entry is pinned by a test.

Take an entry out when its difference is mended: its test fails then.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.configurations import ROUTES, Configuration
from tests.conformance.outcome import packed
from tests.conformance.topology import NUMBERS, address

ECMP = {bytes([10, ROUTES[kind][0]]) for kind in ("ecmp", "legs", "group")}
ECMP6 = {packed(f"2001:db8:{ROUTES[kind][0]}::")[:6] for kind in ("ecmp", "legs", "group")}
ICMP_ERRORS = {3, 4, 5, 11, 12}


@dataclass(frozen=True)
class Known:
    reason: str
    holds: Callable[[Configuration, "Headers"], bool]
    configuration: str
    """where its case shows it"""
    case: str


class Headers:
    """What the entries below judge a frame by. Of a broken frame, whatever lies where a header should be."""

    def __init__(self, frame: bytes):
        self.frame = frame
        self.ethertype = int.from_bytes(frame[12:14])
        self.is_ipv4 = self.ethertype == 0x0800 and len(frame) >= 34
        self.is_ipv6 = self.ethertype == 0x86DD and len(frame) >= 54
        self.source = frame[26:30] if self.is_ipv4 else frame[22:38]
        self.target = frame[30:34] if self.is_ipv4 else frame[38:54]
        self.protocol = frame[23] if self.is_ipv4 else frame[20] if self.is_ipv6 else 0
        self.l4 = frame[34:] if self.is_ipv4 else frame[54:]

    @property
    def has_legs(self) -> bool:
        return (self.is_ipv4 and self.target[:2] in ECMP) or (self.is_ipv6 and self.target[:6] in ECMP6)

    @property
    def is_icmp_error(self) -> bool:
        if self.is_ipv4:
            return self.protocol == 1 and self.l4[:1] != b"" and self.l4[0] in ICMP_ERRORS
        return self.is_ipv6 and self.protocol == 58 and self.l4[:1] != b"" and self.l4[0] < 128


def reason(configuration: Configuration, frame: bytes) -> str:
    """Why this frame may differ; empty if nothing is known."""
    headers = Headers(frame)
    return next((one.reason for one in KNOWN if one.holds(configuration, headers)), "")


def _policy(configuration: Configuration) -> int:
    return int(configuration.sysctls.get("net.ipv4.fib_multipath_hash_policy", "0"))


def _dissects(configuration: Configuration) -> bool:
    """Rules that make the kernel look for ports before it routes."""
    return any(word in line for line in configuration.both for word in (" sport ", " dport ", " ipproto "))


def _is_own_or_broadcast(configuration: Configuration, packet: Headers) -> bool:
    own = {packed(address(port, 4)) for port in NUMBERS} | {packed(one) for one in configuration.own_addresses}
    broadcast = packet.source[:2] == b"\x0a\x00" and packet.source[3:] == b"\xff"
    return packet.is_ipv4 and (packet.source in own or broadcast)


KNOWN = [
    Known(
        "IPv4 sources that are the router's own or a broadcast address are forwarded; the kernel drops them",
        _is_own_or_broadcast, "routes", "from 10.0.0.1 to out",
    ),
    Known(
        "bpf_fib_lookup does not see a route's MTU that is not locked",
        lambda _, p: (p.is_ipv4 and p.target[:2] == b"\x0a\x0f") or (p.is_ipv6 and p.target[:6] == packed("2001:db8:15::")[:6]),
        "routes", "ipv4 1400+1 bytes to mtu",
    ),
    Known("rp_filter is not reproduced", lambda c, p: p.is_ipv4 and c.name.startswith("rp_filter"),
          "rp_filter 1 on in0", "ipv4 from nowhere to out"),
    Known("fib_multipath_hash_policy 0: the kernel hashes an ICMP error by the packet within it",
          lambda c, p: p.has_legs and p.is_icmp_error and _policy(c) == 0, "ecmp 0", "frag needed, flow 3, to ecmp 5"),
    Known("fib_multipath_hash_policy 0: IPv6 fragments are hashed by the protocol they carry",
          lambda c, p: p.is_ipv6 and p.has_legs and p.protocol == 44 and _policy(c) == 0, "ecmp 0",
          "atomic fragment header, to ecmp"),
    Known("the kernel takes the SPI of ESP and AH for ports", lambda c, p: p.protocol in (50, 51) and (_policy(c) == 1 and p.has_legs),
          "ecmp 1", "ipv4 protocol 50 to ecmp"),
    Known("the kernel takes the SPI of ESP and AH for ports, in rules too", lambda c, p: p.protocol in (50, 51) and c.name == "rule by ports",
          "rule by ports", "ipv4 protocol 50 to out"),
    Known("fib_multipath_hash_policy 0: with a rule by ports or protocol, the kernel hashes ICMPv6 with a flow label otherwise",
          lambda c, p: p.is_ipv6 and p.has_legs and p.protocol == 58 and _dissects(c), "rule by ports",
          "ipv6 ping with a flow label, to ecmp"),
    Known("fib_multipath_hash_policy 2: bpf_fib_lookup cannot see inner headers or the flow label",
          lambda c, p: p.has_legs and _policy(c) == 2, "ecmp 2", "flow label 0x1, to ecmp"),
    Known("fib_multipath_hash_policy 3: bpf_fib_lookup hashes none of the chosen fields",
          lambda c, p: p.has_legs and _policy(c) == 3, "ecmp 3", "ipv4 tcp to ecmp"),
    Known("bpf_fib_lookup ignores suppress_prefixlength for IPv6",
          lambda c, p: p.is_ipv6 and c.name == "rule with suppressed default", "rule with suppressed default",
          "ipv6 to nowhere"),
    Known("IPv6 with conf.all.forwarding 0 is forwarded where conf.DEV.forwarding is 1",
          lambda c, p: p.is_ipv6 and c.name == "IPv6 forwarding on in0 alone", "IPv6 forwarding on in0 alone",
          "ipv6 udp to out"),
]  # fmt: skip
