# SPDX-License-Identifier: GPL-2.0-only
"""The heads of an Ethernet frame, read leniently, for messages: what the data plane makes of them is its own business."""

import socket
import struct
from dataclasses import dataclass

_TAG_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
_IPV4, _IPV6 = 0x0800, 0x86DD
_MAX_TAGS = 4
"""More than the data plane reads"""


@dataclass(frozen=True)
class Head:
    source_mac: str
    destination_mac: str
    ethertype: int
    """behind the tags"""
    tags: tuple[tuple[str, int], ...] = ()
    """(protocol, VLAN id), the outer one first"""
    source: bytes = b""
    """of IP, 4 or 16 bytes; empty if it is no IP"""
    destination: bytes = b""
    tos: int = 0
    ttl: int = 0

    @property
    def addresses(self) -> tuple[str, str] | None:
        if not self.source:
            return None
        family = socket.AF_INET if len(self.source) == 4 else socket.AF_INET6
        return socket.inet_ntop(family, self.source), socket.inet_ntop(family, self.destination)


def read(frame: bytes) -> Head:
    """`frame` has at least 14 bytes."""
    macs = frame[6:12].hex(":"), frame[:6].hex(":")
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    offset, tags = 14, []
    while ethertype in _TAG_PROTOCOLS and len(tags) < _MAX_TAGS and len(frame) >= offset + 4:
        control, following = struct.unpack_from("!HH", frame, offset)
        tags.append((_TAG_PROTOCOLS[ethertype], control & 0x0FFF))
        ethertype, offset = following, offset + 4
    ip = frame[offset:]
    if ethertype == _IPV4 and len(ip) >= 20:
        return Head(*macs, ethertype, tuple(tags), ip[12:16], ip[16:20], tos=ip[1], ttl=ip[8])
    if ethertype == _IPV6 and len(ip) >= 40:
        (first,) = struct.unpack_from("!I", ip)
        return Head(*macs, ethertype, tuple(tags), ip[8:24], ip[24:40], tos=first >> 20 & 0xFF, ttl=ip[7])
    return Head(*macs, ethertype, tuple(tags))
