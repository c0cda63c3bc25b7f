# SPDX-License-Identifier: GPL-2.0-only
"""Next hops that carry fast-path traffic, as bpf/adjacency.h counts them.

Plain tuples, since there may be ten thousand of them each time.
"""

import socket
import struct
from typing import NamedTuple


class NextHop(NamedTuple):
    """A neighbour's key: in the kernel's neighbour table, and in ours."""

    ifindex: int
    family: int
    """of the address, which with RFC 8950 is not the packets'"""
    address: bytes
    """4 or 16 bytes, network order"""

    def __str__(self) -> str:
        return socket.inet_ntop(self.family, self.address)


class Use(NamedTuple):
    """What a next hop has carried since the data plane last forgot it."""

    packets: int
    bytes: int


HOP = struct.Struct("=II16s")  # struct next_hop
TRAFFIC = struct.Struct("=QQ")  # struct traffic
RECENT = struct.Struct("=II16sQQ24x")  # the head of struct adjacency


def uses(keys: bytes, values: bytes, recent: bytes) -> dict[NextHop, Use]:
    """From the raw contents of next_hops (its keys, its values) and adjacencies (all CPUs' in a row)."""
    out = {
        _next_hop(*hop): Use(*traffic)
        for hop, traffic in zip(HOP.iter_unpack(keys), TRAFFIC.iter_unpack(values), strict=True)
    }
    for ifindex, family, address, packets, octets in RECENT.iter_unpack(recent):
        if ifindex:
            hop = _next_hop(ifindex, family, address)
            before = out.get(hop)
            out[hop] = Use(before[0] + packets, before[1] + octets) if before else Use(packets, octets)
    return out


def key(hop: NextHop) -> bytes:
    """The key of next_hops."""
    return HOP.pack(*hop)


def _next_hop(ifindex: int, family: int, address: bytes) -> NextHop:
    return NextHop(ifindex, family, address if family == socket.AF_INET6 else address[:4])
