# SPDX-License-Identifier: GPL-2.0-only
"""How many routes and neighbours the kernel has, and which of the routes are of note. Counted from raw dumps
when somebody asks, because a copy of the kernel's FIB in Python would have to be kept, and could disagree with it."""

import asyncio
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

from controlplane.netlink import HEADER, NetlinkSocket, messages
from controlplane.notes import MTU_METRIC, MULTIPATH_ATTRIBUTE, RTMSG, TYPES_OF_NOTE, RouteNotes

RTM_NEWROUTE, RTM_GETROUTE, RTM_NEWNEIGH, RTM_GETNEIGH = 24, 26, 28, 30

_NDMSG = struct.Struct("=BBHiHBB")  # family, pad, pad, ifindex, state, flags, type

_COUNTED_ROUTE_TYPES = {1, 6, 7, 8, 9}  # unicast, blackhole, unreachable, prohibit, throw
_TABLE_LOCAL = 255

_RESOLVED = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
_NOARP = 0x40

PROTOCOLS = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp",
    18: "keepalived", 42: "babel", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip",
    192: "eigrp", 196: "static", 197: "ripng",
}  # fmt: skip
"""rtm_protocol -> name, as in rtnetlink.h and FRR's zebra/rt_netlink.h; FRR's static (196) counts as static."""


@dataclass
class RouteCensus:
    ipv4: int = 0
    ipv6: int = 0
    by_protocol: Counter = field(default_factory=Counter)
    notes: RouteNotes = field(default_factory=RouteNotes)


@dataclass
class NeighbourCensus:
    resolved: int = 0
    unresolved: int = 0


def count_routes() -> RouteCensus:
    """Routes of every table but the local one, in the caller's network namespace. 0.5 s for a million."""
    census = RouteCensus()
    protocols: Counter[int] = Counter()
    for family in (socket.AF_INET, socket.AF_INET6):
        routes = 0
        request = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for data in _dump(RTM_GETROUTE, request):
            looks_of_note = MTU_METRIC in data or MULTIPATH_ATTRIBUTE.search(data)
            for offset, kind, _, length in messages(data):
                if kind != RTM_NEWROUTE:
                    continue
                _, _, source, tos, table, protocol, _, route_type, _ = RTMSG.unpack_from(data, offset + HEADER.size)
                if looks_of_note or source or tos or route_type in TYPES_OF_NOTE:
                    census.notes.take(data, offset, length)
                if table != _TABLE_LOCAL and route_type in _COUNTED_ROUTE_TYPES:
                    routes += 1
                    protocols[protocol] += 1
        if family == socket.AF_INET:
            census.ipv4 = routes
        else:
            census.ipv6 = routes
    for protocol, number in protocols.items():
        census.by_protocol[PROTOCOLS.get(protocol, f"protocol_{protocol}")] += number
    return census


def count_neighbours() -> NeighbourCensus:
    """IPv4 and IPv6 neighbours that have, or lack, a link-layer address; those that need none are left out."""
    census = NeighbourCensus()
    for family in (socket.AF_INET, socket.AF_INET6):
        for data in _dump(RTM_GETNEIGH, _NDMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            for offset, kind, _, _ in messages(data):
                state = _NDMSG.unpack_from(data, offset + HEADER.size)[4] if kind == RTM_NEWNEIGH else _NOARP
                if state & _RESOLVED:
                    census.resolved += 1
                elif not state & _NOARP:
                    census.unresolved += 1
    return census


def _dump(kind: int, request: bytes):
    with NetlinkSocket() as sock:
        yield from sock.stream(kind, request)


class RouteCounter:
    """Keeps a RouteCensus fresh: recounts after a change, but never spends more than a twentieth of the time
    on it, however large the table.

    `notes` is what the last count noted and what was announced since it began: a route of note is in there
    from its announcement until a count misses it.
    """

    _SHARE = 20
    _SHORTEST_PAUSE_S = 0.5

    def __init__(self):
        self.census = RouteCensus()
        self.notes = RouteNotes()
        self._announced = RouteNotes()
        self._counted_at_change: object = None
        self._next = 0.0
        self._running: asyncio.Task | None = None

    def announce(self, notes: RouteNotes) -> None:
        """New routes of note, from the kernel's announcement."""
        self.notes.merge(notes)
        self._announced.merge(notes)
        self._counted_at_change = None

    def overrun(self) -> None:
        """Announcements were lost: count again at once."""
        self._counted_at_change = None
        self._next = 0.0

    def count(self, change: object) -> None:
        """Count now, and wait for it: 0.5 s for a million routes."""
        self._take(change, count_routes())

    def refresh(self, change: object) -> None:
        """Start a recount in a thread if `change` (any value that moves with the FIB) is new. Needs a running loop."""
        due = change != self._counted_at_change and time.monotonic() >= self._next
        if due and (self._running is None or self._running.done()):
            self._running = asyncio.create_task(self._recount(change))

    async def _recount(self, change: object) -> None:
        started = time.monotonic()
        self._announced = RouteNotes()
        self._take(change, await asyncio.to_thread(count_routes))
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self._SHORTEST_PAUSE_S, self._SHARE * took)

    def _take(self, change: object, census: RouteCensus) -> None:
        self.census = census
        census.notes.merge(self._announced)
        self.notes = census.notes
        # What was announced meanwhile may be gone again, without another change that would show it.
        self._counted_at_change = change if self._announced == RouteNotes() else None
