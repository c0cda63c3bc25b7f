# SPDX-License-Identifier: GPL-2.0-only
"""What a version's maps look like, written beside its pins, so that any other version can read its counters field by field
without having its source. What is not described as expected is not read.

{"version": 4, "maps": {"counters": {"key": 4, "value": 672, "entries": 256, "each_cpu": true,
                                     "fields": {"ingress.forward.packets": [0, 8], ...}}, ...}}

`fields`: name -> [offset, bytes] in the value; `key_fields` the same in the key. Verdicts are written by name.
"""

import ctypes as ct
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from controlplane.source import verdicts

Fields = dict[str, tuple[int, int]]

COUNTED = (
    "counters",
    "slot_owners",
    "vrf_counters",
    "vrf_owners",
    "next_hops",
    "blackholes4",
    "blackholes6",
    "route_changes",
)
"""Maps whose contents another version inherits"""

# Of the maps that BCC does not know (MEMORY in bpf/maps.h); tests/bpf/test_structs.py compares them with the C side.
ADJACENCY_BYTES = 64
ADJACENCY: Fields = {
    "hop.ifindex": (0, 4), "hop.family": (4, 4), "hop.address.0": (8, 8), "hop.address.1": (16, 8),
    "traffic.packets": (24, 8), "traffic.bytes": (32, 8),
}  # fmt: skip
COHERENCE: Fields = {"invalidations": (16, 8)}


@dataclass(frozen=True)
class MapLayout:
    key: int
    value: int
    """bytes; of a map that is an array in one value, those of an element"""
    entries: int
    each_cpu: bool
    fields: Fields
    key_fields: Fields = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    version: int
    maps: Mapping[str, MapLayout]

    def write(self, path: Path) -> None:
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self)))
        os.replace(new, path)


def read(path: Path) -> Layout | None:
    """None if there is none, or none that can be understood."""
    try:
        table = json.loads(path.read_text())
        maps = {name: _map_layout(entry) for name, entry in table["maps"].items()}
        return Layout(int(table["version"]), maps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def contradiction(one: Layout, other: Layout) -> str:
    """What two descriptions of the same version say differently; empty if they agree. Fields may be in one of them only."""
    for name in one.maps.keys() & other.maps.keys():
        here, there = one.maps[name], other.maps[name]
        if (here.key, here.value) != (there.key, there.value):
            return name
        for mine, theirs in ((here.fields, there.fields), (here.key_fields, there.key_fields)):
            if any(mine[part] != theirs[part] for part in mine.keys() & theirs.keys()):
                return name
    return ""


def _map_layout(entry: dict) -> MapLayout:
    numbers = [int(entry[key]) for key in ("key", "value", "entries")]
    fields, key_fields = (
        {str(name): (int(offset), int(size)) for name, (offset, size) in entry[key].items()}
        for key in ("fields", "key_fields")
    )
    for found, size in ((fields, numbers[1]), (key_fields, numbers[0])):
        if any(offset < 0 or width < 1 or offset + width > size for offset, width in found.values()):
            raise ValueError("a field outside of its map")
    return MapLayout(*numbers, bool(entry["each_cpu"]), fields, key_fields)


def describe(version: int, tables, memory_sizes: Mapping[str, int]) -> Layout:
    """`tables`: BCC's tables by name; `memory_sizes`: of controlplane/memory.py."""
    maps = {name: _of_table(tables[name.encode()]) for name in COUNTED}
    maps["adjacencies"] = MapLayout(
        4, ADJACENCY_BYTES, memory_sizes["adjacencies"] // ADJACENCY_BYTES, False, ADJACENCY
    )
    maps["coherence"] = MapLayout(4, memory_sizes["coherence"], 1, False, COHERENCE)
    return Layout(version, maps)


def _of_table(table) -> MapLayout:
    leaf = getattr(table, "sLeaf", table.Leaf)
    return MapLayout(
        key=ct.sizeof(table.Key),
        value=ct.sizeof(leaf),
        entries=table.max_entries,
        each_cpu=hasattr(table, "sLeaf"),
        fields=_flat(leaf),
        key_fields=_flat(table.Key),
    )


def _flat(kind, at: int = 0, name: str = "") -> Fields:
    """All scalars of a ctypes type; text is one of them."""
    if issubclass(kind, ct.Structure):
        out: Fields = {}
        for part, inner, *_ in kind._fields_:
            out |= _flat(inner, at + getattr(kind, part).offset, f"{name}.{part}" if name else part)
        return out
    if issubclass(kind, ct.Array) and kind._type_ is not ct.c_char:
        # Enough for any array here whose index is a verdict: of no other has the name.
        names = list(verdicts()) if name == "ingress" else [str(number) for number in range(kind._length_)]
        size = ct.sizeof(kind._type_)
        out = {}
        for number, element in enumerate(names):
            out |= _flat(kind._type_, at + number * size, f"{name}.{element}")
        return out
    return {name or "value": (at, ct.sizeof(kind))}
