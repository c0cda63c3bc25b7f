# SPDX-License-Identifier: GPL-2.0-only
"""How many routes the kernel has, and which of them are of note. Counted from dumps, because a copy of the kernel's
FIB in Python would have to be kept, and could disagree with it. They are counted inside the kernel (bpf/census.h),
and only buffers with routes of note come up here: 0.2 s for a million."""

import asyncio
import ctypes as ct
import mmap
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from controlplane.errors import NetlinkError
from controlplane.netlink import HEADER, NetlinkSocket, attribute, messages
from controlplane.notes import MTU_METRIC, RTMSG, TYPES_OF_NOTE, RouteNotes
from controlplane.source import limits

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
_RTA_TABLE, _RTN_UNICAST = 15, 1

_ROUTE_TYPE = 7
"""where rtm_type is in struct rtmsg"""

PROTOCOLS = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp",
    18: "keepalived", 42: "babel", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip",
    192: "eigrp", 196: "static", 197: "ripng",
}  # fmt: skip
"""rtm_protocol -> name, as in rtnetlink.h and FRR's zebra/rt_netlink.h; FRR's static (196) counts as static."""


def protocol_name(number: int) -> str:
    """As `status` and events have it."""
    return PROTOCOLS.get(number, f"protocol_{number}")


@dataclass
class RouteCensus:
    ipv4: int = 0
    ipv6: int = 0
    by_protocol: Counter = field(default_factory=Counter)
    notes: RouteNotes = field(default_factory=RouteNotes)
    empty_tables: frozenset[int] = frozenset()
    """without any unicast route, of those that were asked about"""


class _Census(ct.Structure):
    """struct route_census of bpf/maps.h."""

    _fields_ = [
        ("routes", ct.c_uint64 * 256 * 2), ("reasons", ct.c_uint32), ("blackhole_room", ct.c_int32),
    ]  # fmt: skip


class RouteDump:
    """Counts the routes of the caller's network namespace. `filter_fd`: the program route_dump of bpf/census.h;
    `memory`: the map route_census. One count at a time."""

    ANNOUNCED_BLACKHOLES = 8192
    """may be passed on until the next count finds the others: more would overrun the receive buffer"""

    def __init__(self, filter_fd: int, memory: mmap.mmap):
        self._filter_fd = filter_fd
        self._state = _Census.from_buffer(memory)
        self._state.blackhole_room = self.ANNOUNCED_BLACKHOLES

    def close(self) -> None:
        del self._state

    def count(self, tables: Iterable[int] = ()) -> RouteCensus:
        """Of every table but the local one; `tables`: which to ask whether they are empty. Raises NetlinkError, OSError."""
        state, notes = self._state, RouteNotes()
        ct.memset(ct.addressof(state), 0, ct.sizeof(state))
        state.blackhole_room = limits()["MAX_BLACKHOLES"]
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                for data in _filtered(RTM_GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), self._filter_fd):
                    _note(data, notes)
        finally:
            state.blackhole_room = self.ANNOUNCED_BLACKHOLES
        notes.reasons |= state.reasons
        ipv4, ipv6 = ([*counters] for counters in state.routes)
        by_protocol: Counter[str] = Counter()
        for protocol, number in enumerate(map(sum, zip(ipv4, ipv6, strict=True))):
            if number:
                by_protocol[protocol_name(protocol)] += number
        empty = frozenset(table for table in tables if not _has_route(table))
        return RouteCensus(sum(ipv4), sum(ipv6), by_protocol, notes, empty)


def _note(data: bytes, notes: RouteNotes) -> None:
    """Whatever is of note in one buffer; of most there is one header left."""
    if len(data) <= HEADER.size:
        return
    has_mtu = MTU_METRIC in data
    for offset, kind, _, length in messages(data):
        if kind == RTM_NEWROUTE and (has_mtu or data[offset + HEADER.size + _ROUTE_TYPE] in TYPES_OF_NOTE):
            notes.take(data, offset, length)


def _has_route(table: int) -> bool:
    """Whether it has any unicast route. Reads a buffer at most, however large it is."""
    for family in (socket.AF_INET, socket.AF_INET6):
        request = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, _RTN_UNICAST, 0)
        request += attribute(_RTA_TABLE, struct.pack("=I", table))
        with NetlinkSocket() as sock:  # closed in the middle of a dump
            try:
                for data in sock.stream(RTM_GETROUTE, request):
                    if any(kind == RTM_NEWROUTE for _, kind, _, _ in messages(data)):
                        return True
            except NetlinkError:
                continue  # ENOENT: there is no such table yet
    return False


def _filtered(kind: int, request: bytes, filter_fd: int) -> Iterator[bytes]:
    """What a filter on its socket leaves of a dump."""
    with NetlinkSocket() as sock:
        sock.attach_filter(filter_fd)
        yield from sock.stream(kind, request)


class RouteCounter:
    """Keeps a RouteCensus fresh. `count`: RouteDump.count; `tables`: those of which `empty_tables` is to tell.

    A count waits until no route has changed for QUIET_S, so that a full table costs one when it has arrived; while
    routes never rest, a large table is counted every CHURN_PAUSE_S. Either way the counts take a limited share of
    the time, however large the table: what `status` tells is right to the route QUIET_S + SHARE times the length of
    a count (0.2 s for a million routes) after the last change.

    `notes` is what the last count noted and what was announced since it began: a route of note is in there
    from its announcement until a count misses it.
    """

    QUIET_S = 0.5
    CHURN_PAUSE_S = 30.0
    SHARE, SHARE_IN_CHURN = 20, 1000
    _SHORTEST_PAUSE_S = 0.5
    _SETTLING_S = 0.1
    """A deletion is announced before it is done: what is counted sooner than this may still have the route."""

    def __init__(self, count: Callable[[Iterable[int]], RouteCensus]):
        self.census = RouteCensus()
        self.notes = RouteNotes()
        self._count = count
        self._announced = RouteNotes()
        self._counted_at: object = None
        self._ended = float("-inf")
        self._took = 0.0
        self._running: asyncio.Task | None = None

    def announce(self, notes: RouteNotes) -> None:
        """New routes of note, from the kernel's announcement."""
        self.notes.merge(notes)
        self._announced.merge(notes)
        self._counted_at = None

    def overrun(self) -> None:
        """Announcements were lost: count again at once."""
        self._counted_at = None
        self._ended = float("-inf")

    def count(self, change: object, tables: tuple[int, ...] = ()) -> None:
        """Count now, and wait for it."""
        self._take((change, tables), self._timed(tables))

    def refresh(self, change: object, quiet_s: float, tables: tuple[int, ...] = ()) -> None:
        """Start a recount in a thread if `change` (any value that moves with the FIB; it last did `quiet_s` ago) or
        `tables` are new, and it is time. Needs a running loop."""
        pause = max(self._SHORTEST_PAUSE_S, self.SHARE * self._took)
        if quiet_s < self.QUIET_S:
            pause = max(pause, min(self.CHURN_PAUSE_S, self.SHARE_IN_CHURN * self._took))
        basis = (change, tables)
        if basis == self._counted_at or time.monotonic() < self._ended + pause:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._recount(basis if quiet_s >= self._SETTLING_S else None, tables))

    async def _recount(self, basis: object, tables: tuple[int, ...]) -> None:
        self._announced = RouteNotes()
        try:
            self._take(basis, await asyncio.to_thread(self._timed, tables))
        finally:
            self._ended = time.monotonic()

    def _timed(self, tables: tuple[int, ...]) -> RouteCensus:
        """In CPU time: a busy machine must not make it look expensive."""
        started = time.thread_time()
        try:
            return self._count(tables)
        finally:
            self._took = time.thread_time() - started

    def _take(self, basis: object, census: RouteCensus) -> None:
        self.census = census
        census.notes.merge(self._announced)
        self.notes = census.notes
        # What was announced meanwhile may be gone again, without another change that would show it.
        self._counted_at = basis if self._announced == RouteNotes() else None
