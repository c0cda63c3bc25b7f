# SPDX-License-Identifier: GPL-2.0-only
"""The destination cache's other side: its lease, its key, and the sockets by which the kernel makes it void.

The data plane recalls an answer only while the lease runs that this process renews, and while every change
that the key of an answer may depend on has been seen here. What has changed in the FIB itself is none of
Python's business: socket filters void answers inside the kernel (bpf/coherence.h).
"""

import ctypes as ct
import time
from collections.abc import Callable, Mapping

from controlplane import neighbour, next_hop
from controlplane.cache_key import Key
from controlplane.libbpf import Libbpf
from controlplane.link import MAC_TEXT
from controlplane.memory import Memory, cache_bytes
from controlplane.netlink import RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_SETTINGS, NetlinkSocket
from controlplane.source import limits

LEASE_S = 0.18
"""A daemon that is gone is noticed so soon, and a tick. Less than LONGEST_LEASE of bpf/answer.h"""
RENEW_S = 0.05
LIFE_S = 10.0
"""Less than LONGEST_LIFE"""
HOLD_S = 60.0
_CLOCK_MONOTONIC_COARSE = 6
HZ = round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))
"""Of the kernel: its ticks, jiffies, a second"""


class _Coherence(ct.Structure):
    """struct coherence of bpf/maps.h."""

    _fields_ = [
        ("changes", ct.c_uint64), ("neighbours", ct.c_uint64), ("invalidations", ct.c_uint64),
        ("generation", ct.c_uint32 * 2), ("unsettled", ct.c_uint32 * 2),
        ("seen", ct.c_uint64), ("lease", ct.c_uint32), ("own", ct.c_uint32), ("life", ct.c_uint32),
        ("wide", ct.c_uint32), ("mask_source", ct.c_uint32), ("mask_ports", ct.c_uint32),
        ("mask_rest", ct.c_uint32), ("mask_ingress", ct.c_uint32), ("mask_label", ct.c_uint32), ("known_reasons", ct.c_uint32),
        ("listening", ct.c_uint32),
    ]  # fmt: skip


def cache_sets(entries: int) -> int:
    """Sets of four for so many IPv4 destinations a CPU: a power of two, or 0."""
    return 1 << max(0, (entries - 1) // 4).bit_length() if entries else 0


class Cache:
    """`tables`: BCC's tables by name; `sets`: of one CPU and family, 0 for no cache; `filters`: name of a program
    in bpf/coherence_events.h -> fd; `clock`: jiffies, in 32 bits."""

    def __init__(
        self,
        lib: Libbpf,
        tables,
        memory: Memory,
        sets: int,
        cpus: int,
        filters: Mapping[str, int],
        clock: Callable[[], int],
    ):
        self.sets = sets
        self.reason = "" if sets else "cache_entries is 0"
        """Why nothing is cached; empty if something is"""
        self._lib = lib
        self._cpus = cpus
        self._filters = filters
        self._clock = clock
        self._known_neighbours = tables[b"known_neighbours"]
        self._memory = memory
        self._state = _Coherence.from_buffer(memory.view("coherence"))
        self._sockets: list[NetlinkSocket] = []
        self._key: Key | None = None
        self._granted = False
        self._narrower_since: float | None = None

    @property
    def entries(self) -> int:
        """IPv4 destinations that all CPUs together can hold, while the destination alone is the key."""
        return 4 * self.sets * self._cpus

    @property
    def bytes(self) -> int:
        """Of memory, for both families and all CPUs."""
        return cache_bytes(self._cpus, self.sets)

    @property
    def key(self) -> Key | None:
        return self._key

    @property
    def enabled(self) -> bool:
        """Whether packets may be answered from it; `reason` says why not."""
        return bool(self.sets) and not self.reason

    @property
    def invalidations(self) -> int:
        return self._state.invalidations if self.sets else 0

    @property
    def lease_ok(self) -> bool:
        return 0 < (self._state.lease - self._clock()) & 0xFFFFFFFF <= round(LEASE_S * HZ)

    @property
    def changes(self) -> int:
        """Announced so far. Read before what they are about, then given to `settle`."""
        return self._state.changes

    def __enter__(self) -> "Cache":
        """Listen in the caller's network namespace. What earlier daemons left is void."""
        self._listen("neighbour_event", (RTNLGRP_NEIGH,))  # which keeps the bridges' tables too
        if self.sets:
            self._listen("setting_event", (RTNLGRP_LINK, *RTNLGRP_SETTINGS))
            self._note_neighbours()
            self._state.life = round(LIFE_S * HZ)
        return self

    def __exit__(self, *_) -> None:
        self._granted = False
        self._state.lease = self._state.listening = self._clock()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def configure(self, needed: Key) -> None:
        """Let the key have all that is needed, at once; and nothing more once it was not needed for HOLD_S. Under
        another key nothing is recalled in between, and nothing survives."""
        if not self.sets:
            return
        if needed == self._key:
            self._narrower_since = None
            self._state.known_reasons = needed.reasons
            return
        key = needed
        if self._key is not None and needed | self._key == self._key:
            self._narrower_since = self._narrower_since or time.monotonic()
            # From now on, not from the end on: a route that needs the wider key after all must not pass unseen
            # between the count of routes that this rests on and the day the key gets narrower.
            self._state.known_reasons = needed.reasons
            if time.monotonic() - self._narrower_since < HOLD_S:
                return
        elif self._key is not None:
            key = needed | self._key
        self._narrower_since = None
        granted, self._granted = self._granted, False
        self._state.lease = self._clock()
        self.invalidate()
        if self._key is not None:
            self._clear()
        self._state.mask_source = 0xFFFFFFFF if key.source else 0
        self._state.mask_ports = 0xFFFFFFFF if key.ports else 0
        self._state.mask_rest = (key.protocol * 0xFF00) | (key.tos * 0xFF)
        self._state.mask_ingress = key.ingress * 0xFFFFFFFF
        self._state.mask_label = 0xFFFFFFFF if key.label else 0
        self._state.wide = key.wide
        self._state.known_reasons = key.reasons
        self._key = key
        self._granted = granted

    def invalidate(self) -> None:
        """What the data plane was told about its ports has changed."""
        self._state.own += 1

    def settle(self, changes: int) -> None:
        """Everything announced up to `changes` is in force: answers may be recalled."""
        if self.sets:
            self.reason = ""
            self._state.seen = changes
            self._granted = self._key is not None
            self.renew()

    def renew(self) -> None:
        """Say that the daemon lives; at least every RENEW_S."""
        until = (self._clock() + round(LEASE_S * HZ)) & 0xFFFFFFFF
        if self._granted:
            self._state.lease = until
        if self._sockets:
            self._state.listening = until

    def withdraw(self, reason: str) -> None:
        """Recall nothing until `settle` is called again."""
        if self.sets:
            self.reason = reason
        self._granted = False
        self._state.lease = self._clock()

    def close(self) -> None:
        del self._state

    # --- inside ---------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Entries of one form must not be read in another."""
        for name in ("cache4", "cache6"):
            self._memory.clear(name)

    def _listen(self, name: str, groups: tuple[int, ...]) -> None:
        sock = NetlinkSocket(receive_buffer=4096)  # the filter keeps everything out of it
        self._sockets.append(sock)
        sock.attach_filter(self._filters[name])
        for group in groups:
            sock.join(group)

    def _note_neighbours(self) -> None:
        """Those that are there already, so that their next confirmation is none of a change. What the kernel has
        noted since the socket listens is newer than what is read here, and stays."""
        self._known_neighbours.clear()
        self.invalidate()
        with NetlinkSocket() as sock:
            known = neighbour.details(sock)
        ethernet = {h: e for h, e in known.items() if e.state & neighbour.VALID and len(e.lladdr) == MAC_TEXT}
        for number, (hop, entry) in enumerate(ethernet.items()):
            if number < limits()["MAX_NEXT_HOPS"]:  # the others are taken for changed when they are confirmed
                mac = bytes.fromhex(entry.lladdr.replace(":", ""))
                self._lib.map_add(self._known_neighbours.map_fd, next_hop.key(hop), mac + bytes(2))
