# SPDX-License-Identifier: GPL-2.0-only
"""What has become of the next hops from one of the keeper's rounds to the next."""

from collections import deque
from collections.abc import Iterable, Mapping

from controlplane import neighbour
from controlplane.neighbour import ABSENT, Entry, Owner
from controlplane.next_hop import NextHop
from controlplane.notices import NeighbourChange, NeighbourChanged, NeighboursOmitted, Notice

TOLD_PER_ROUND = 64
"""One by one; of the others, the number. A link with ten thousand neighbours may go down."""
_WAITING = 1024
"""Rounds' worth that nobody has taken: older ones go."""


class NeighbourWatch:
    """`look` may be called from another thread than `take`."""

    def __init__(self):
        self._entries: dict[NextHop, Entry] | None = None
        """None: the first round has nothing to be compared with"""
        self._macs: dict[NextHop, bytes] = {}
        """the last known, also of those that are unresolved now"""
        self._waiting: deque[Notice] = deque(maxlen=_WAITING)

    def look(self, used: Iterable[NextHop], table: Mapping[NextHop, Entry]) -> None:
        """Compare with the last round. `used`: the next hops that carry traffic; `table`: the kernel's entries."""
        before, self._entries = self._entries, {hop: table.get(hop, ABSENT) for hop in used}
        if before is None:
            self._macs = {hop: entry.lladdr for hop, entry in self._entries.items() if entry.lladdr}
            return
        told = 0
        for hop, entry in self._entries.items():
            old = before.get(hop)
            if old == entry:
                continue
            change, mac_before = change_of(old, entry, self._macs.get(hop, b"")), self._macs.get(hop, b"")
            if entry.state & neighbour.VALID and entry.lladdr:
                self._macs[hop] = entry.lladdr
            if change:
                told += 1
                self._tell(told, hop, change, entry, mac_before)
        for hop in before.keys() - self._entries.keys():
            told += 1
            self._tell(told, hop, NeighbourChange.IDLE, table.get(hop, ABSENT), self._macs.pop(hop, b""))
        if told > TOLD_PER_ROUND:
            self._waiting.append(NeighboursOmitted(told - TOLD_PER_ROUND))

    def take(self) -> list[Notice]:
        """What is to be told, once."""
        out = []
        while self._waiting:
            out.append(self._waiting.popleft())
        return out

    def _tell(self, told: int, hop: NextHop, change: NeighbourChange, entry: Entry, mac_before: bytes) -> None:
        if told > TOLD_PER_ROUND:
            return
        state, managed = neighbour.state_name(entry), entry.owner is Owner.US
        lladdr = entry.lladdr.hex(":") if entry.state & neighbour.VALID else ""
        self._waiting.append(NeighbourChanged(hop, change, state, managed, lladdr, mac_before.hex(":")))


def change_of(old: Entry | None, now: Entry, mac: bytes) -> NeighbourChange | None:
    """The one thing worth telling, if any. `old`: None if it carried no traffic before; `mac`: the last known one."""
    valid = bool(now.state & neighbour.VALID)
    was_valid = old is None or bool(old.state & neighbour.VALID)
    if was_valid != valid:
        return NeighbourChange.RESOLVED if valid else NeighbourChange.UNRESOLVED
    if valid and mac and now.lladdr and now.lladdr != mac:
        return NeighbourChange.MOVED
    managed = now.owner is Owner.US
    was_managed = old is not None and old.owner is Owner.US
    if valid and was_managed != managed:
        return NeighbourChange.MANAGED if managed else NeighbourChange.UNMANAGED
    return None
