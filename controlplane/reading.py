# SPDX-License-Identifier: GPL-2.0-only
"""Everything that a set of pinned maps has counted, read by its description (controlplane/layout.py)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.errors import DataplaneError
from controlplane.layout import Layout, MapLayout
from controlplane.libbpf import Libbpf
from controlplane.next_hop import HOP

Row = dict[str, int]


@dataclass
class Reading:
    """Sums over the CPUs."""

    ports: dict[str, Row] = field(default_factory=dict)
    """name -> field of struct port_counters -> value"""
    slots: dict[str, int] = field(default_factory=dict)
    vrfs: dict[str, Row] = field(default_factory=dict)
    vrf_numbers: dict[str, int] = field(default_factory=dict)
    hops: dict[bytes, Row] = field(default_factory=dict)
    """key of next_hops as this version has it"""
    blackholes: dict[bytes, Row] = field(default_factory=dict)
    """length in four bytes, and the address; of either family"""
    route_changes: Row = field(default_factory=dict)
    invalidations: int = 0
    unread: list[str] = field(default_factory=list)
    """maps that are not as described"""


class Reader:
    """`directory`: where the maps are pinned. They are opened at once, so that they can be read after they are unpinned."""

    def __init__(self, lib: Libbpf, directory: Path, layout: Layout):
        self._lib = lib
        self._cpus = lib.possible_cpus()
        self._maps: dict[str, tuple[int, MapLayout]] = {}
        self._unread: list[str] = []
        for name, described in layout.maps.items():
            self._open(name, directory / name, described)

    def _open(self, name: str, path: Path, described: MapLayout) -> None:
        if not path.exists():
            self._unread.append(name)
            return
        fd = self._lib.get(str(path))
        info = self._lib.map_info(fd)
        one_value = name == "adjacencies" and info.value_size == described.value * described.entries
        if info.key_size == described.key and (one_value or info.value_size == described.value):
            self._maps[name] = fd, described
        else:
            os.close(fd)
            self._unread.append(name)

    def close(self) -> None:
        for fd, _ in self._maps.values():
            os.close(fd)
        self._maps.clear()

    def read(self) -> Reading:
        out = Reading(unread=list(self._unread))
        out.slots, out.ports = self._owned("slot_owners", "counters")
        out.vrf_numbers, out.vrfs = self._owned("vrf_owners", "vrf_counters")
        for key, row in self._hash("next_hops"):
            _add(out.hops, _hop(key, ""), row)
        for row in self._adjacencies():
            _add(out.hops, _hop(row, "hop."), {name: row[f"traffic.{name}"] for name in ("packets", "bytes")})
        for name in ("blackholes4", "blackholes6"):
            for key, row in self._hash(name):
                _add(out.blackholes, _prefix(key), row)
        out.route_changes = self._single("route_changes")
        out.invalidations = self._single("coherence").get("invalidations", 0)
        return out

    def _owned(self, owners: str, counters: str) -> tuple[dict[str, int], dict[str, Row]]:
        """(name -> number, name -> what was counted under that number)"""
        numbers: dict[str, int] = {}
        rows: dict[str, Row] = {}
        if owners not in self._maps or counters not in self._maps:
            return numbers, rows
        fd, described = self._maps[owners]
        offset, width = described.fields.get("name", (0, 0))
        for number in range(described.entries):
            value = self._lib.map_value(fd, number.to_bytes(4, "little"), described.value)
            name = value[offset : offset + width].split(b"\0")[0].decode(errors="replace")
            if name and number < self._maps[counters][1].entries:
                numbers[name] = number
                rows[name] = self._sums(counters, number.to_bytes(4, "little"))
        return numbers, rows

    def _sums(self, name: str, key: bytes) -> Row:
        fd, described = self._maps[name]
        stride, copies = (described.value + 7) // 8 * 8, self._cpus if described.each_cpu else 1
        data = self._lib.map_value(fd, key, stride * copies)
        return {
            field_name: sum(_number(data, copy * stride + offset, width) for copy in range(copies))
            for field_name, (offset, width) in described.fields.items()
        }

    def _single(self, name: str) -> Row:
        return self._sums(name, bytes(4)) if name in self._maps else {}

    def _hash(self, name: str) -> Iterator[tuple[Row | dict[str, bytes], Row]]:
        if name not in self._maps:
            return
        fd, described = self._maps[name]
        for key in self._lib.map_keys(fd, described.key):
            try:
                row = self._sums(name, key)
            except DataplaneError:
                continue  # it has just been deleted
            yield {part: key[at : at + width] for part, (at, width) in described.key_fields.items()}, row

    def _adjacencies(self) -> Iterator[dict]:
        if "adjacencies" not in self._maps:
            return
        fd, described = self._maps["adjacencies"]
        data = self._lib.map_value(fd, bytes(4), described.value * described.entries)
        at, width = described.fields["hop.ifindex"]
        for start in range(0, len(data), described.value):
            if not any(data[start + at : start + at + width]):
                continue
            yield {
                part: data[start + offset : start + offset + size]
                if part.startswith("hop.")
                else _number(data, start + offset, size)
                for part, (offset, size) in described.fields.items()
            }


def difference(now: Reading, before: Reading) -> Reading:
    """What was counted between two readings. New names and keys are whole."""
    return Reading(
        ports=_rows(now.ports, before.ports),
        slots=now.slots,
        vrfs=_rows(now.vrfs, before.vrfs),
        vrf_numbers=now.vrf_numbers,
        hops=_rows(now.hops, before.hops),
        blackholes=_rows(now.blackholes, before.blackholes),
    )


def _rows(now: dict, before: dict) -> dict:
    out = {}
    for key, row in now.items():
        earlier = before.get(key, {})
        grown = {name: value - earlier.get(name, 0) for name, value in row.items()}
        if any(grown.values()):
            out[key] = grown
    return out


def _add(to: dict[bytes, Row], key: bytes, row: Row) -> None:
    if key in to:
        row = {name: value + to[key].get(name, 0) for name, value in row.items()}
    to[key] = row


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


def _hop(parts: dict, prefix: str) -> bytes:
    ifindex, family = (int.from_bytes(parts[prefix + name], "little") for name in ("ifindex", "family"))
    return HOP.pack(ifindex, family, parts[f"{prefix}address.0"] + parts[f"{prefix}address.1"])


def _prefix(parts: dict[str, bytes]) -> bytes:
    address = b"".join(parts[name] for name in sorted(parts) if name.startswith("address"))
    return parts["length"] + address
