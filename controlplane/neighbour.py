# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's neighbour table over raw netlink: read it all, and ask for changes.

pyroute2 would need 33 us for each of perhaps ten thousand entries, every few seconds. Layouts:
include/uapi/linux/neighbour.h; what a request does to an entry: neigh_add() and __neigh_update() in
net/core/neighbour.c.
"""

import enum
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.errors import NetlinkError
from controlplane.netlink import HEADER, NLM_F_CREATE, NetlinkSocket, attribute, attributes, objects
from controlplane.next_hop import NextHop

RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_PROTOCOL, NDA_FLAGS_EXT = 1, 2, 3, 12, 15
NTF_USE, NTF_EXT_LEARNED = 0x01, 0x10
NTF_EXT_MANAGED = 0x01

INCOMPLETE, REACHABLE, STALE, DELAY, PROBE, FAILED, NOARP, PERMANENT = (1 << bit for bit in range(8))
STATES = {
    0: "none", INCOMPLETE: "incomplete", REACHABLE: "reachable", STALE: "stale", DELAY: "delay", PROBE: "probe",
    FAILED: "failed", NOARP: "noarp", PERMANENT: "permanent",
}  # fmt: skip
VALID = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT
"""States in which an entry has a link-layer address; a FIB lookup succeeds with these."""

OUR_PROTOCOL = 88
"""NDA_PROTOCOL of the entries that we manage, so that a later daemon knows them as ours. `ip neigh` shows it;
no routing daemon has this number (rtnetlink.h, FRR's zebra/rt_netlink.h)."""
RTPROT_KERNEL = 2

NDMSG = struct.Struct("=BBHiHBB")  # family, pad, pad, ifindex, state, flags, type
_MESSAGE = struct.Struct("=IHHIIBBHiHBBHH")  # nlmsghdr, ndmsg, and the header of the first attribute
_DST_LENGTH = {socket.AF_INET: 8, socket.AF_INET6: 20}
_MARK = attribute(NDA_PROTOCOL, bytes([OUR_PROTOCOL])) + attribute(NDA_FLAGS_EXT, struct.pack("=I", NTF_EXT_MANAGED))
"""How the kernel ends the message of an entry that we manage (neigh_fill_info)."""
_ETHERNET_LLADDR = struct.pack("=HH", 4 + 6, NDA_LLADDR)
"""How the attribute begins that follows the address of an entry with a MAC."""
_USER_HZ = os.sysconf("SC_CLK_TCK")


class Owner(enum.IntEnum):
    """Who keeps an entry fresh."""

    NOBODY = 0
    US = 1
    OTHER = 2
    """the operator's `managed`, or a routing daemon that installs entries itself (`extern_learn`)"""


class Entry(NamedTuple):
    state: int
    owner: Owner
    lladdr: bytes = b""
    """empty: unknown"""


ABSENT = Entry(0, Owner.NOBODY)
"""The kernel has none"""


def state_name(entry: Entry) -> str:
    """As in `ip neigh`, in lower case."""
    return "absent" if entry == ABSENT else STATES.get(entry.state, str(entry.state))


@dataclass(frozen=True, slots=True)
class Details:
    """All that a person wants to know of an entry."""

    state: int
    owner: Owner
    lladdr: str
    age_s: float
    """since it was last confirmed"""


@dataclass(frozen=True, slots=True)
class Census:
    """How many have, or lack, a link-layer address; those that need none are left out."""

    resolved: int = 0
    unresolved: int = 0


class Request(NamedTuple):
    """One RTM_NEWNEIGH: payload and flags of its header."""

    payload: bytes
    flags: int = 0


def manage(hop: NextHop) -> Request:
    """Let the kernel keep it fresh (NTF_EXT_MANAGED); state and address stay, an absent one is made and resolved.

    On a permanent entry this would take its permanence away.
    """
    return Request(_request(hop, 0, 0) + _MARK, NLM_F_CREATE)


def probe(hop: NextHop) -> Request:
    """Ask it now, by unicast; it stays usable meanwhile. Ends `managed`, as every request without the flag."""
    return Request(_request(hop, PROBE, 0))


def fail(hop: NextHop) -> Request:
    """Give its link-layer address up; the next use resolves it anew, by multicast. Ends `managed`."""
    return Request(_request(hop, FAILED, 0))


def use(hop: NextHop) -> Request:
    """As if a packet were sent to it; an absent one is made and resolved."""
    return Request(_request(hop, 0, NTF_USE), NLM_F_CREATE)


def release(hop: NextHop) -> Request:
    """Make it an ordinary entry again: state and address stay, and it counts as used now."""
    return Request(_request(hop, 0, NTF_USE) + attribute(NDA_PROTOCOL, bytes([RTPROT_KERNEL])))


def send(sock: NetlinkSocket, requests: Iterable[Request]) -> int:
    """Carry requests out in their order; returns how many the kernel refused: their entry or device has gone."""
    return sock.batch(RTM_NEWNEIGH, requests)


def can_manage(sock: NetlinkSocket) -> bool:
    """Whether the kernel knows NTF_EXT_MANAGED (5.16). It refuses flags that it does not know, and for that it has
    to know the attribute; an older one ignores it, and finds that there is no such entry."""
    nobody = NextHop(1, socket.AF_INET, bytes(4))
    try:
        sock.request(RTM_NEWNEIGH, _request(nobody, 0, NTF_USE) + attribute(NDA_FLAGS_EXT, struct.pack("=I", 1 << 31)))
    except NetlinkError as error:
        return error.errno == errno.EINVAL
    return False


def count(table: Iterable[Entry]) -> Census:
    states = [entry.state for entry in table if not entry.state & NOARP]
    resolved = sum(1 for state in states if state & VALID)
    return Census(resolved, len(states) - resolved)


def read(sock: NetlinkSocket) -> dict[NextHop, Entry]:
    """All IPv4 and IPv6 entries of the namespace that the socket is in."""
    table: dict[NextHop, Entry] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for data in sock.stream(RTM_GETNEIGH, NDMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            parse(data, table)
    return table


def parse(data: bytes, table: dict[NextHop, Entry]) -> None:
    """Put the entries of a buffer of messages into `table`. Quick with entries that are ours, since those are
    the many."""
    offset, end, mark = 0, len(data), _MARK
    while offset + _MESSAGE.size <= end:
        length, kind, _, _, _, family, _, _, ifindex, state, flags, _, dst_length, dst_kind = _MESSAGE.unpack_from(
            data, offset
        )
        after = offset + length
        if length < HEADER.size or after > end:
            return
        if kind == RTM_NEWNEIGH and family in _DST_LENGTH:
            start = offset + _MESSAGE.size
            if dst_kind == NDA_DST and dst_length == _DST_LENGTH[family] and data[after - 16 : after] == mark:
                link = start + dst_length - 4
                address, owner = data[start:link], Owner.US
                lladdr = data[link + 4 : link + 10] if data[link : link + 4] == _ETHERNET_LLADDR else b""
            else:
                fields = dict(attributes(data[start - 4 : after]))
                address, owner, lladdr = fields.get(NDA_DST, b""), _owner(flags, fields), fields.get(NDA_LLADDR, b"")
            if len(address) == _DST_LENGTH[family] - 4:
                table[NextHop(ifindex, family, address)] = Entry(state, owner, lladdr)
        offset = (after + 3) & ~3


def details(sock: NetlinkSocket) -> dict[NextHop, Details]:
    """The same entries, parsed in full: for a person who asks, since it takes some us for each."""
    out = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for data in sock.stream(RTM_GETNEIGH, NDMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            out |= _details(data)
    return out


def find(sock: NetlinkSocket, hop: NextHop) -> Details | None:
    """One entry; None if the kernel has none. Raises NetlinkError."""
    # The request may have neither state nor flags (neigh_valid_get_req).
    request = NDMSG.pack(hop.family, 0, 0, hop.ifindex, 0, 0, 0) + attribute(NDA_DST, hop.address)
    try:
        answer = sock.request(RTM_GETNEIGH, request)
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return None
        raise
    return next((found for data in answer for found in _details(data).values()), None)


def _details(data: bytes) -> dict[NextHop, Details]:
    out = {}
    for (family, _, _, ifindex, state, flags, _), fields in objects(data, NDMSG, {RTM_NEWNEIGH}):
        # struct nda_cacheinfo: confirmed, used, updated (clock ticks ago), references
        (confirmed,) = struct.unpack_from("=I", fields.get(NDA_CACHEINFO, bytes(4)))
        lladdr = fields.get(NDA_LLADDR, b"").hex(":")
        hop = NextHop(ifindex, family, fields.get(NDA_DST, b""))
        out[hop] = Details(state, _owner(flags, fields), lladdr, confirmed / _USER_HZ)
    return out


def _owner(flags: int, fields: dict[int, bytes]) -> Owner:
    extended = int.from_bytes(fields.get(NDA_FLAGS_EXT, b""), sys.byteorder)
    # A request of ours would take its mark away from an entry that another installed (neigh_update_flags).
    if flags & NTF_EXT_LEARNED or extended & ~NTF_EXT_MANAGED:
        return Owner.OTHER
    if not extended:
        return Owner.NOBODY
    return Owner.US if fields.get(NDA_PROTOCOL) == bytes([OUR_PROTOCOL]) else Owner.OTHER


def _request(hop: NextHop, state: int, flags: int) -> bytes:
    return NDMSG.pack(hop.family, 0, 0, hop.ifindex, state, flags, 0) + attribute(NDA_DST, hop.address)
