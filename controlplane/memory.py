# SPDX-License-Identifier: GPL-2.0-only
"""Maps of one value that the data plane uses like variables: their address is in the program's code, so a packet
pays nothing for the lookup. This process sees the same memory by mmap.

BCC does not know such maps: they are made here, before the program is compiled, and their file descriptors are
given to the compiler (MEMORY in bpf/maps.h).
"""

import mmap
import os
from pathlib import Path

from controlplane.errors import DataplaneError
from controlplane.libbpf import Libbpf
from controlplane.source import limits


def sizes(cpus: int, cache_sets: int) -> dict[str, int]:
    """Name -> bytes, for so many CPUs (a power of two). The C side is the list of MEMORY in bpf/maps.h."""
    known = limits()
    out = {
        "guard": 3 * 8,
        "coherence": 128,
        "route_census": 2 * 256 * 8 + 2 * 4,
        "route_churn": 2 * 256 * 8,
        "low_interfaces": 44 * known["LOW_IFINDEXES"],
        "low_tagged": 8 * known["LOW_TAGGED"],
        "own_source_bits": 8 * known["OWN_SOURCE_WORDS"],
        "blocks4": 8 * known["BLOCKS"],
        "blocks6": 8 * known["BLOCKS"],
        "neighbour_generations": 4 * known["ADJACENCY_SETS"],
        "adjacencies": 64 * known["ADJACENCY_SETS"] * known["ADJACENCY_WAYS"] * cpus,
    }
    if cache_sets:
        out |= dict.fromkeys(("cache4", "cache6"), known["CACHE_LINE"] * cache_sets * cpus)
    return out


LARGEST = 1 << 29
"""Bytes of one map: further the verifier lets no program reach (BPF_MAX_VAR_OFF in include/linux/bpf_verifier.h)."""


def cache_bytes(cpus: int, cache_sets: int) -> int:
    """Of both families and all CPUs."""
    return 2 * limits()["CACHE_LINE"] * cache_sets * cpus


_PER_PROGRAM = {"cache4", "cache6", "route_census", "route_churn"}
"""Not pinned: what they hold is void with the program."""


class Memory:
    """`directory`: where the maps are pinned, and found again. Raises DataplaneError."""

    def __init__(self, lib: Libbpf, directory: Path, cpus: int, cache_sets: int):
        self.sizes = sizes(cpus, cache_sets)
        self._fds: dict[str, int] = {}
        self._views: dict[str, mmap.mmap] = {}
        try:
            for name, size in self.sizes.items():
                self._open(lib, name, size, directory / name)
        except DataplaneError:
            self.close()
            raise

    def _open(self, lib: Libbpf, name: str, size: int, path: Path) -> None:
        if name not in _PER_PROGRAM and path.exists():
            self._fds[name] = lib.get(str(path))
            return
        self._fds[name] = lib.create_array(name, size)
        if name not in _PER_PROGRAM:
            lib.pin(self._fds[name], str(path))

    @property
    def defines(self) -> tuple[str, ...]:
        return tuple(f"-DFD_{name}={fd}" for name, fd in self._fds.items())

    def view(self, name: str) -> mmap.mmap:
        """The memory, shared with the data plane. Kept open until `close`."""
        if name not in self._views:
            self._views[name] = mmap.mmap(self._fds[name], self.sizes[name])
        return self._views[name]

    def clear(self, name: str) -> None:
        with mmap.mmap(self._fds[name], self.sizes[name]) as view:
            view.write(bytes(self.sizes[name]))

    def close(self) -> None:
        for view in self._views.values():
            view.close()
        for fd in self._fds.values():
            os.close(fd)
