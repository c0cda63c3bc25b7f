# SPDX-License-Identifier: GPL-2.0-only
"""The longest-prefix tries of bpf/maps.h, made to hold what RouteNotes says."""

import ctypes as ct
import sys
from collections.abc import Iterable

from controlplane.counters import Traffic
from controlplane.interface import NO_NARROW_ROUTE
from controlplane.memory import Memory
from controlplane.notes import Prefix, RouteNotes
from controlplane.source import limits

_EVERYTHING = Prefix(bytes(4), 0)


class NoteMaps:
    """`tables`: BCC's tables by name. What earlier processes wrote is read back once; since then this
    object is the only writer.

    More notes than a trie holds become one for all addresses: then the kernel decides about more packets,
    never about fewer. Of blackholes, those beyond the limit drop as well but are not counted one by one.
    """

    def __init__(self, tables, memory: Memory):
        self._own = tables[b"own_sources"]
        self._bits = (ct.c_uint64 * limits()["OWN_SOURCE_WORDS"]).from_buffer(memory.view("own_source_bits"))
        self._narrow_tables = {4: tables[b"narrow_routes4"], 16: tables[b"narrow_routes6"]}
        self._blackhole_tables = {4: tables[b"blackholes4"], 16: tables[b"blackholes6"]}
        self._known_own = {_prefix(key) for key in self._own}
        self._known_narrow = {
            size: {_prefix(key): leaf.value for key, leaf in table.items()}
            for size, table in self._narrow_tables.items()
        }
        self._known_blackholes = {
            size: {_prefix(key) for key in table} for size, table in self._blackhole_tables.items()
        }
        self._synced: RouteNotes | None = None
        self._words = list(self._bits)

    def close(self) -> None:
        del self._bits

    def sync(self, notes: RouteNotes) -> None:
        if notes == self._synced:
            return
        self._synced = None  # until it is all done
        self._sync_own(notes.own if len(notes.own) <= limits()["MAX_OWN_SOURCES"] else {_EVERYTHING})
        for size in self._narrow_tables:
            narrow = {prefix: mtu for prefix, mtu in notes.narrow.items() if len(prefix.address) == size}
            if len(narrow) > limits()["MAX_NARROW_ROUTES"]:
                narrow = {Prefix(bytes(size), 0): min(narrow.values())}
            self._sync_narrow(size, _with_shorter_prefixes(narrow))
        for size in self._blackhole_tables:
            self._sync_blackholes(size, {prefix for prefix in notes.blackholes if len(prefix.address) == size})
        self._synced = RouteNotes(set(notes.own), dict(notes.narrow), set(notes.blackholes), notes.reasons)

    @property
    def wide_own_sources(self) -> bool:
        """Whether some of own_sources are more than one address, which the bit map cannot tell."""
        return any(prefix.length < 32 for prefix in self._known_own)

    @property
    def narrow_mtu(self) -> int:
        """The smallest MTU of narrow_routes4 and 6; beyond any datagram if there is none."""
        return min((mtu for known in self._known_narrow.values() for mtu in known.values()), default=NO_NARROW_ROUTE)

    def blackholes(self) -> dict[Prefix, Traffic]:
        """What each blackhole route has swallowed since it is known."""
        return {
            _prefix(key): Traffic(leaf.packets, leaf.bytes)
            for table in self._blackhole_tables.values()
            for key, leaf in table.items()
        }

    # A source must be in the trie while its bit is set: added first, removed last.

    def _sync_own(self, own: set[Prefix]) -> None:
        for prefix in own - self._known_own:
            self._own[_key(self._own, prefix)] = ct.c_uint(1)
        words = _bit_map(own, len(self._words))
        for index, word in enumerate(words):
            if word != self._words[index]:
                self._bits[index] = word
        self._words = words
        for prefix in self._known_own - own:
            del self._own[_key(self._own, prefix)]
        self._known_own = set(own)

    def _sync_narrow(self, size: int, narrow: dict[Prefix, int]) -> None:
        table, known = self._narrow_tables[size], self._known_narrow[size]
        for prefix, mtu in narrow.items():
            if known.get(prefix) != mtu:
                table[_key(table, prefix)] = ct.c_uint(mtu)
        for prefix in known.keys() - narrow.keys():
            del table[_key(table, prefix)]
        self._known_narrow[size] = narrow

    def _sync_blackholes(self, size: int, wanted: set[Prefix]) -> None:
        table, known = self._blackhole_tables[size], self._known_blackholes[size]
        for prefix in known - wanted:
            del table[_key(table, prefix)]
            known.remove(prefix)
        room = limits()["MAX_BLACKHOLES"] - len(known)
        for prefix in sorted(wanted - known, key=str)[:room]:
            table[_key(table, prefix)] = table.Leaf()
            known.add(prefix)


def _with_shorter_prefixes(narrow: dict[Prefix, int]) -> dict[Prefix, int]:
    """Of one family. Each with the smallest MTU of all the prefixes that it lies in: they may be of several tables,
    and a rule decides which table a packet meets, but the trie finds only the longest of them."""
    lengths = sorted({prefix.length for prefix in narrow})
    out: dict[Prefix, int] = {}
    for prefix in sorted(narrow, key=lambda prefix: prefix.length):
        address = int.from_bytes(prefix.address, "big")
        for length in reversed(lengths[: lengths.index(prefix.length)]):
            rest = 8 * len(prefix.address) - length
            shorter = Prefix((address >> rest << rest).to_bytes(len(prefix.address), "big"), length)
            if shorter in out:
                out[prefix] = min(narrow[prefix], out[shorter])
                break
        else:
            out[prefix] = narrow[prefix]
    return out


def own_source_bit(address: bytes) -> int:
    """own_source_bit() of bpf/source_address.h."""
    return (int.from_bytes(address, sys.byteorder) * 0x9E3779B1 & 0xFFFFFFFF) >> 16


def _bit_map(own: Iterable[Prefix], size: int) -> list[int]:
    words = [0] * size
    for prefix in own:
        if prefix.length == 32:
            bit = own_source_bit(prefix.address)
            words[bit // 64 % size] |= 1 << bit % 64
    return words


def _key(table, prefix: Prefix):
    return table.Key.from_buffer_copy(prefix.length.to_bytes(4, sys.byteorder) + prefix.address)


def _prefix(key) -> Prefix:
    data = bytes(key)
    return Prefix(data[4:], int.from_bytes(data[:4], sys.byteorder))
