# SPDX-License-Identifier: GPL-2.0-only
"""Routes of note: the few kinds of which the data plane must know more than `bpf_fib_lookup` tells it.

Read from rtnetlink messages, of a dump and of announcements alike (struct rtmsg and RTA_* of
include/uapi/linux/rtnetlink.h).
"""

import re
import socket
import struct
import sys
from dataclasses import dataclass, field

from controlplane.netlink import HEADER, attributes

RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_BLACKHOLE = 2, 3, 4, 6
OWN_TYPES = {RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST}
TYPES_OF_NOTE = {*OWN_TYPES, RTN_BLACKHOLE}
_RTA_DST, _RTA_METRICS, _RTA_MULTIPATH = 1, 8, 9
_RTAX_LOCK, _RTAX_MTU = 1, 2
MTU_METRIC = struct.pack("=HH", 8, _RTAX_MTU)
"""How an RTAX_MTU attribute begins: a buffer without these bytes holds no route with an MTU."""


MULTIPATH_ATTRIBUTE = re.compile(rb"(?:[\x14-\xff]\x00|.[\x01-\x7f])\x09\x00[\x08-\xff]\x00", re.DOTALL)
"""How an RTA_MULTIPATH attribute of two next hops or more begins, with the length of the first: likewise"""

MULTIPATH, BY_SOURCE, BY_TOS = 1, 2, 4
"""enum reason of bpf/maps.h"""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Of either family; `address` has 4 or 16 bytes, those behind the prefix zero."""

    address: bytes
    length: int

    def __str__(self) -> str:
        family = socket.AF_INET if len(self.address) == 4 else socket.AF_INET6
        return f"{socket.inet_ntop(family, self.address)}/{self.length}"


@dataclass
class RouteNotes:
    own: set[Prefix] = field(default_factory=set)
    """IPv4 routes of type local, broadcast and anycast: as a source, the kernel may call these martian"""
    narrow: dict[Prefix, int] = field(default_factory=dict)
    """routes with an unlocked MTU -> the smallest of them"""
    blackholes: set[Prefix] = field(default_factory=set)
    reasons: int = 0
    """Kinds of routes whose answer depends on more than the destination"""

    def take(self, data: bytes, offset: int, length: int) -> None:
        """Note the RTM_NEWROUTE message at `offset`, if it is of note. One that is cut short is not."""
        if min(length, len(data) - offset) < HEADER.size + RTMSG.size:
            return
        family, bits, source_bits, tos, _, _, _, kind, _ = RTMSG.unpack_from(data, offset + HEADER.size)
        if family not in (socket.AF_INET, socket.AF_INET6):
            return
        found = dict(attributes(data[offset + HEADER.size + RTMSG.size : offset + length]))
        size = 4 if family == socket.AF_INET else 16
        self.reasons |= MULTIPATH if _RTA_MULTIPATH in found else 0
        self.reasons |= (BY_SOURCE if source_bits else 0) | (BY_TOS if tos else 0)
        prefix = Prefix(found.get(_RTA_DST, b"").ljust(size, b"\0")[:size], bits)
        if kind == RTN_BLACKHOLE:
            self.blackholes.add(prefix)
        elif kind in OWN_TYPES:
            if family == socket.AF_INET and not _never_a_source(prefix):
                self.own.add(prefix)
        elif mtu := _unlocked_mtu(found.get(_RTA_METRICS, b"")):
            self.narrow[prefix] = min(mtu, self.narrow.get(prefix, mtu))

    def merge(self, other: "RouteNotes") -> None:
        self.own |= other.own
        self.reasons |= other.reasons
        self.blackholes |= other.blackholes
        for prefix, mtu in other.narrow.items():
            self.narrow[prefix] = min(mtu, self.narrow.get(prefix, mtu))


def _never_a_source(prefix: Prefix) -> bool:
    """0/8, 127/8 and 224/3: the program passes these as martians before it asks."""
    first = prefix.address[0]
    return prefix.length >= 8 and (first in (0, 127) or first >= 224)


def _unlocked_mtu(metrics: bytes) -> int:
    values = dict(attributes(metrics))
    locked = int.from_bytes(values.get(_RTAX_LOCK, b""), sys.byteorder) >> _RTAX_MTU & 1
    return 0 if locked else int.from_bytes(values.get(_RTAX_MTU, b""), sys.byteorder)
