# SPDX-License-Identifier: GPL-2.0-only
"""Interfaces and tagged entries in the kernel: the maps `interfaces` and `tagged_interfaces`, and the arrays
`low_interfaces` and `low_tagged`, which have the same for low numbers."""

import ctypes as ct
import struct

from controlplane.interface import Interface, unpack
from controlplane.libbpf import Libbpf
from controlplane.memory import Memory
from controlplane.source import limits

_KEY = struct.Struct("=I")
_TAGGED = struct.Struct("=II")  # struct tagged: device, tags


class InterfaceMaps:
    """`tables`: BCC's tables by name. Writing raises DataplaneError."""

    def __init__(self, lib: Libbpf, tables, memory: Memory):
        self._lib = lib
        self._interfaces = tables[b"interfaces"].map_fd
        self._tagged = tables[b"tagged_interfaces"].map_fd
        self._leaf = tables[b"interfaces"].Leaf
        self._low = (self._leaf * limits()["LOW_IFINDEXES"]).from_buffer(memory.view("low_interfaces"))
        self._low_tagged = (ct.c_uint64 * limits()["LOW_TAGGED"]).from_buffer(memory.view("low_tagged"))

    def close(self) -> None:
        del self._low, self._low_tagged

    def interfaces(self) -> dict[int, Interface]:
        keys, values = self._content(self._interfaces, _KEY.size, ct.sizeof(self._leaf))
        size = ct.sizeof(self._leaf)
        leaves = (values[start : start + size] for start in range(0, len(values), size))
        return {ifindex: unpack(leaf) for (ifindex,), leaf in zip(_KEY.iter_unpack(keys), leaves, strict=True)}

    def tagged(self) -> dict[tuple[int, int], int]:
        """(device, tags) -> ifindex"""
        keys, values = self._content(self._tagged, _TAGGED.size, _KEY.size)
        ifindexes = (ifindex for (ifindex,) in _KEY.iter_unpack(values))
        return dict(zip(_TAGGED.iter_unpack(keys), ifindexes, strict=True))

    def set(self, ifindex: int, interface: Interface) -> None:
        raw = interface.pack()
        # The hash last: it is what is read back, so a write cut in two is made again.
        if ifindex < len(self._low):
            self._low[ifindex] = self._leaf.from_buffer_copy(raw)
        self._lib.map_set(self._interfaces, _KEY.pack(ifindex), raw)

    def drop(self, ifindex: int) -> None:
        if ifindex < len(self._low):
            self._low[ifindex] = self._leaf()
        self._lib.map_delete(self._interfaces, _KEY.pack(ifindex))

    def tag(self, device: int, tags: int, ifindex: int) -> None:
        """Over what may be there."""
        word, place = _low_word(device, tags), _low_place(device, tags)
        if self._low_tagged[place] >> 16 in (0, word):
            fits = max(device, ifindex) < len(self._low)
            self._low_tagged[place] = word << 16 | ifindex if fits else 0
        self._lib.map_set(self._tagged, _TAGGED.pack(device, tags), _KEY.pack(ifindex))  # last, as above

    def untag(self, device: int, tags: int) -> None:
        place = _low_place(device, tags)
        if self._low_tagged[place] >> 16 == _low_word(device, tags):
            self._low_tagged[place] = 0
        self._lib.map_delete(self._tagged, _TAGGED.pack(device, tags))

    def _content(self, fd: int, key_size: int, value_size: int) -> tuple[bytes, bytes]:
        return self._lib.map_content(fd, key_size, value_size, limits()["MAX_INTERFACES"])


def _low_word(device: int, tags: int) -> int:
    """What stands above the interface's 16 bits in `low_tagged`."""
    return device << 32 | tags


def _low_place(device: int, tags: int) -> int:
    """low_tagged_place() of bpf/maps.h"""
    return (tags * 0x9E3779B1 + device * 0x85EBCA6B & 0xFFFFFFFF) * limits()["LOW_TAGGED"] >> 32
