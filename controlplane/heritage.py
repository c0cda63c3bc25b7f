# SPDX-License-Identifier: GPL-2.0-only
"""Counters of another version's maps go on in this one's, however the two are laid out.

Which maps are the true ones is told by the programs in the links: those count there. So wherever a start was broken off, the
next one (of this version or another) finds out where it stands. The way: copy what was counted, put this program into the
links, add what the other one has counted meanwhile, let go of its maps.
"""

import logging
import os
import shutil
import struct
from pathlib import Path

from controlplane import layout
from controlplane.attachment import Attachments, let_go
from controlplane.layout import MapLayout
from controlplane.libbpf import Libbpf
from controlplane.pins import PinDirectory
from controlplane.program import Program
from controlplane.reading import Reader, Reading, Row, difference
from controlplane.source import limits

log = logging.getLogger("xdprouter.heritage")

_RECORD = struct.Struct("=14x4IQ2Q24s")  # struct inheritance of bpf/inherit.h, behind an Ethernet header
_PORT, _VRF, _HOP, _BLACKHOLE4, _BLACKHOLE6 = range(5)


class Heritage:
    """To be made before the maps of this version are; `pins`: open, with all links; `attachments`: those links."""

    def __init__(self, lib: Libbpf, pins: PinDirectory, attachments: Attachments):
        self._lib = lib
        self._pins = pins
        self._attachments = attachments
        self._readers: list[tuple[Path, Reader]] = []
        self._copied: list[Reading] = []
        self._filter = -1
        self._raise_only = False
        others = pins.other_layouts()
        if not others:
            return
        used = self._maps_in_use()
        own_is_true = self._is_used(pins.maps, used) or not any(self._is_used(other, used) for other in others)
        if (pins.maps / "counters").exists() and own_is_true:
            # The others have counted too, if they were taken back, or a start was broken off: no more than what they have.
            self._raise_only = True
        else:
            pins.forget_maps()
        for other in sorted(others, key=lambda path: self._is_used(path, used)):
            self._open(other)

    @property
    def pending(self) -> bool:
        """Whether another version's maps are in use until `take` is called."""
        return bool(self._readers) and not self._raise_only

    def _maps_in_use(self) -> set[int]:
        """Ids of the maps that the programs in the links use."""
        programs = self._attachments.hold()
        try:
            return {number for fd in programs.values() for number in self._lib.map_ids(fd)}
        finally:
            let_go(programs)

    def _is_used(self, directory: Path, used: set[int]) -> bool:
        path = directory / "counters"
        if not path.exists():
            return False
        fd = self._lib.get(str(path))
        try:
            return self._lib.object_id(fd) in used
        finally:
            os.close(fd)

    def _open(self, other: Path) -> None:
        described = layout.read(self._pins.description(other.name))
        if described is None or f"v{described.version}" != other.name:
            log.warning("ports of layout %s were taken over; their counters begin at zero", other.name)
            self._drop(other)
            return
        self._readers.append((other, Reader(self._lib, other, described)))

    def copy(self, program: Program, tables, own: layout.Layout, coherence: memoryview) -> None:
        """Everything counted up to now. Before anything reads or writes the tables."""
        if not self._readers:
            return
        self._tables, self._own = tables, own
        self._filter = program.filter("inherit")
        if self._raise_only:
            self._raise(own)
            return
        for other, reader in self._readers:
            found = reader.read()
            self._copied.append(found)
            self._say_what_is_lost(other, found)
            self._take_names(found)
            for key in found.blackholes:
                name = b"blackholes4" if len(key) == 8 else b"blackholes6"
                self._lib.map_add(tables[name].map_fd, key, bytes(16))
            self._add(found)
            self._add_single(tables[b"route_changes"], found.route_changes)
            at, width = layout.COHERENCE["invalidations"]
            coherence[at : at + width] = found.invalidations.to_bytes(width, "little")

    def _raise(self, own: layout.Layout) -> None:
        """Where another layout's maps have counted more, go on from there."""
        for other, reader in self._readers:
            mine = Reader(self._lib, self._pins.maps, own)
            before, found = mine.read(), reader.read()
            mine.close()
            for kind in ("ports", "vrfs", "hops", "blackholes"):
                rows, known = getattr(found, kind), getattr(before, kind)
                for key in list(rows):
                    earlier = known.get(key, {})
                    # What is no port here any more stays forgotten.
                    less = {name: max(value, earlier.get(name, 0)) for name, value in rows[key].items()}
                    rows[key] = less if key in known else {}
            self._add(difference(found, before))
            reader.close()
            self._drop(other)
        self._readers.clear()

    def take(self) -> None:
        """The program is in the links: add what the other one has counted since `copy`, and let go of its maps."""
        if not self._readers:
            return
        self._lib.wait_for_programs()
        for (other, reader), before in zip(self._readers, self._copied, strict=True):
            self._add(difference(reader.read(), before))
            reader.close()
            log.info("counters of layout %s go on in layout v%d", other.name, self._own.version)
        self._readers.clear()
        self._copied.clear()

    def drop(self) -> None:
        """What is left of other versions goes."""
        for other in self._pins.other_layouts():
            self._drop(other)

    def close(self) -> None:
        for _, reader in self._readers:
            reader.close()
        self._readers.clear()

    # --- inside ---------------------------------------------------------------------------------

    def _drop(self, other: Path) -> None:
        shutil.rmtree(other)
        self._pins.description(other.name).unlink(missing_ok=True)

    def _say_what_is_lost(self, other: Path, found: Reading) -> None:
        if found.unread:
            names = ", ".join(sorted(found.unread))
            log.warning("layout %s: %s cannot be read as described; begins at zero", other.name, names)
        for name, rows in (("counters", found.ports), ("vrf_counters", found.vrfs)):
            known = self._own.maps[name].fields
            lost = {part for row in rows.values() for part, value in row.items() if value and part not in known}
            if lost:
                log.warning("layout %s: %s of %s is not known here", other.name, ", ".join(sorted(lost)), name)

    def _take_names(self, found: Reading) -> None:
        """Ports and VRFs keep their numbers if they are free and there are so many here."""
        for owners, numbers, size in (
            (b"slot_owners", found.slots, limits()["MAX_PORTS"]),
            (b"vrf_owners", found.vrf_numbers, limits()["MAX_VRFS"]),
        ):
            table = self._tables[owners]
            taken = {leaf.name.decode(): key.value for key, leaf in table.items() if leaf.name}
            for name in list(numbers):
                if name not in taken:
                    wanted = [numbers[name], *range(1, size)]
                    number = next((n for n in wanted if 0 < n < size and n not in taken.values()), None)
                    if number is None:
                        log.warning("no number left for %s: its counters are lost", name)
                        continue
                    table[number] = table.Leaf(name.encode())
                    taken[name] = number

    def _add(self, found: Reading) -> None:
        for owners, counters, kind, rows in (
            (b"slot_owners", "counters", _PORT, found.ports),
            (b"vrf_owners", "vrf_counters", _VRF, found.vrfs),
        ):
            numbers = {leaf.name.decode(): key.value for key, leaf in self._tables[owners].items() if leaf.name}
            for name, row in rows.items():
                if name in numbers:
                    self._add_words(kind, numbers[name], self._own.maps[counters], row)
        for key, row in found.hops.items():
            self._run(_HOP, traffic=row, key=key)
        # Of exactly these prefixes: a trie's lookup finds shorter ones too.
        here = {
            key
            for name, size in ((b"blackholes4", 8), (b"blackholes6", 20))
            for key in (self._lib.map_keys(self._tables[name].map_fd, size) if found.blackholes else ())
        }
        for key, row in found.blackholes.items():
            if key in here:
                self._run(_BLACKHOLE4 if len(key) == 8 else _BLACKHOLE6, traffic=row, key=key)

    def _add_words(self, kind: int, number: int, own: MapLayout, row: Row) -> None:
        for name, value in row.items():
            if value and name in own.fields:
                self._run(kind, number, own.fields[name][0] // 8, value)

    def _run(
        self, kind: int, number: int = 0, word: int = 0, value: int = 0, traffic: Row | None = None, key: bytes = b""
    ) -> None:
        counted = traffic or {}
        numbers = (value, counted.get("packets", 0), counted.get("bytes", 0))
        record = _RECORD.pack(kind, number, word, 0, *(n & 0xFFFFFFFFFFFFFFFF for n in numbers), key)
        self._lib.run_on(self._filter, record)

    def _add_single(self, table, row: Row) -> None:
        leaf = table[0]
        leaf.count += row.get("count", 0)
        leaf.last_ns = max(leaf.last_ns, row.get("last_ns", 0))
        table[0] = leaf
