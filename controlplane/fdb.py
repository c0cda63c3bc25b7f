# SPDX-License-Identifier: GPL-2.0-only
"""The data plane's copy of the bridges' forwarding databases: what was there before anybody listened.

From then on bpf/coherence_events.h keeps it, inside the kernel, at the moment of each announcement. What is read here
may be older than what the kernel has noted meanwhile, so it never overwrites; and what looks wrong in two looks one
after the other is taken away, which costs speed only. Layouts: include/uapi/linux/neighbour.h; what is in a message:
fdb_fill_info() in net/bridge/br_fdb.c.
"""

import errno
import struct
import time
from collections.abc import Callable, Iterable

from controlplane.errors import DataplaneError, NetlinkError
from controlplane.libbpf import Libbpf
from controlplane.neighbour import NDMSG, RTM_GETNEIGH, RTM_NEWNEIGH
from controlplane.netlink import NetlinkSocket, attribute, objects
from controlplane.source import limits

_LLADDR, _VLAN, _MASTER = 2, 5, 9
_PERMANENT = 0x80
AF_BRIDGE = 7

_KEY = struct.Struct("=I6sH")  # struct fdb_key
_ENTRY = struct.Struct("=II")  # struct fdb_entry
LOOK_S = 10.0
_SHARE = 50
"""A look may take a fiftieth of the time."""


class Fdb:
    """`clock`: jiffies, in 32 bits. Works in the caller's network namespace."""

    def __init__(self, lib: Libbpf, tables, clock: Callable[[], int]):
        self._lib = lib
        self._map = tables[b"fdb"].map_fd
        self._clock = clock
        self._bridges: frozenset[int] = frozenset()
        self._suspects: dict[bytes, int] = {}
        self._next_look = 0.0
        self._begun = False

    def sync(self, bridges: Iterable[int]) -> bool:
        """Hold what these bridges (ifindexes) have learned, and of no other. True if something was taken away."""
        wanted = frozenset(bridges)
        now = time.monotonic()
        if self._begun and wanted == self._bridges and (not wanted or now < self._next_look):
            return False
        removed = self._look(wanted)
        self._next_look = now + max(LOOK_S, _SHARE * (time.monotonic() - now))
        if wanted != self._bridges or not self._begun:
            # What the first look added may have gone before it was added.
            self._next_look = min(self._next_look, now + 1.0)
        self._begun, self._bridges = True, wanted
        return removed

    def entries(self) -> dict[bytes, int]:
        """Key of the map -> ifindex of the member."""
        keys, values = self._lib.map_content(self._map, _KEY.size, _ENTRY.size, limits()["MAX_FDB_ENTRIES"])
        found = (keys[start : start + _KEY.size] for start in range(0, len(keys), _KEY.size))
        return dict(zip(found, (member for member, _ in _ENTRY.iter_unpack(values)), strict=True))

    def member(self, bridge: int, mac: str) -> int | None:
        """ifindex of the member where the data plane knows a host; None: it does not."""
        if not mac:
            return None
        key = _KEY.pack(bridge, bytes.fromhex(mac.replace(":", "")), 0)
        try:
            return _ENTRY.unpack(self._lib.map_value(self._map, key, _ENTRY.size))[0]
        except DataplaneError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def _look(self, bridges: frozenset[int]) -> bool:
        learned = read(bridges) if bridges else {}
        held = self.entries()
        overdue = (self._clock() - 0x10000) & 0xFFFFFFFF  # the first frame of each host is the kernel's
        for key, member in learned.items():
            if key not in held and len(held) < limits()["MAX_FDB_ENTRIES"]:
                self._lib.map_add(self._map, key, _ENTRY.pack(member, overdue))
        odd = {key: member for key, member in held.items() if learned.get(key) != member}
        removed = False
        for key, member in odd.items():
            of_none = _KEY.unpack(key)[0] not in bridges
            # Of an earlier daemon nothing is believed: while nobody listened, hosts have moved.
            if of_none or not self._begun or self._suspects.get(key) == member:
                self._lib.map_delete(self._map, key)
                removed = True
        self._suspects = odd
        return removed


def read(bridges: Iterable[int]) -> dict[bytes, int]:
    """What the kernel's bridges have learned: key of the map -> ifindex of the member."""
    wanted, out = set(bridges), {}
    with NetlinkSocket() as sock:
        for bridge in wanted:
            request = NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0, 0, 0) + attribute(_MASTER, struct.pack("=I", bridge))
            try:
                for data in sock.dump(RTM_GETNEIGH, request):
                    out.update(_learned(data, bridge))
            except NetlinkError as error:
                if error.errno != errno.ENODEV:  # it has just gone
                    raise
    return out


def _learned(data: bytes, bridge: int) -> Iterable[tuple[bytes, int]]:
    for (_, _, _, member, state, _, _), row in objects(data, NDMSG, {RTM_NEWNEIGH}):
        mac, master = row.get(_LLADDR, b""), row.get(_MASTER, b"")
        if len(mac) != 6 or master != struct.pack("=I", bridge) or state & _PERMANENT or _VLAN in row:
            continue  # a device's own table, the bridge's own address, or one of a VLAN of the bridge's
        yield _KEY.pack(bridge, mac, 0), member
