# SPDX-License-Identifier: GPL-2.0-only
"""Every program that can be compiled, compiled here and loaded elsewhere: compiling takes fifteen seconds each in a guest,
and is the same everywhere; the verifier is not.

`record` on the machine, `load` in the guest (tests/vm/verifier.py).
"""

import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

from controlplane import compiler, dataplane
from controlplane.libbpf import BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, Libbpf
from controlplane.pins import PinDirectory
from controlplane.variants import Variant, variants

RECORDED = "XDPROUTER_RECORDED_PROGRAMS"
"""Environment in the guest: the file that `record` wrote"""
_LD_IMM64 = 0x18
_MAP_FD, _MAP_VALUE = 1, 2
"""BPF_PSEUDO_MAP_FD and BPF_PSEUDO_MAP_VALUE: source register of such an instruction, whose immediate is a map's fd"""
_LOOPBACK = 1
BPF_F_RDONLY_PROG = 1 << 7


@dataclass(frozen=True)
class Map:
    """Arguments of bpf_map_create."""

    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str


@dataclass(frozen=True)
class Recorded:
    """A program that has been loaded."""

    name: str
    """of the function"""
    kind: int
    flags: int
    attach_type: int
    code: str
    """in hexadecimal digits; where there was the fd of a map there is its place in `maps`"""
    maps: tuple[Map, ...]
    title: str = ""
    """what it was compiled with"""


def record(path: Path) -> None:
    """Compile every variant for two CPUs (an index into a table then has a part that the compiler does not know), the
    largest for one too, and of each what explains packets; write what was loaded to `path`."""
    found: dict[Recorded, str] = {}
    for variant, cpus in [*((variant, 2) for variant in variants()), (variants()[-1], 1)]:
        for program in _loaded(variant, cpus):
            explains = any(one.name == "explanation" for one in program.maps)
            title = f"{program.name}-{variant}-{cpus}{'-explain' if explains else ''}"
            found.setdefault(program, title)
    path.write_text(json.dumps([asdict(program) | {"title": title} for program, title in found.items()]))


def read(path: Path) -> list[Recorded]:
    return [
        Recorded(**entry | {"maps": tuple(Map(**one) for one in entry["maps"])})
        for entry in json.loads(path.read_text())
    ]


def load(program: Recorded) -> None:
    """Raises DataplaneError with the verifier's words."""
    lib = compiler.libbpf_of_bcc()
    code = bytearray.fromhex(program.code)
    with ExitStack() as stack:
        fds = []
        for one in program.maps:
            fds.append(lib.create_map(one.type, one.name, one.key_size, one.value_size, one.entries, one.flags))
            stack.callback(os.close, fds[-1])
        for offset, place in _references(code):
            struct.pack_into("=i", code, offset, fds[place])
        os.close(
            lib.load(program.kind, program.name, bytes(code), flags=program.flags, attach_type=program.attach_type)
        )


def _loaded(variant: Variant, cpus: int) -> list[Recorded]:
    with tempfile.TemporaryDirectory(prefix="xdprouter-programs-") as directory:
        pins = PinDirectory(Path(directory))
        try:
            with _recording() as loaded, mock.patch.object(dataplane, "table_cpus", lambda: cpus):
                with closing(dataplane.Dataplane(pins, variant.defines, variant.cache_sets)) as made:
                    with closing(made.explainer()) as explainer:
                        explainer.run(made.program, bytes(64), _LOOPBACK)
        finally:
            pins.remove()
    return loaded


@contextmanager
def _recording() -> Iterator[list[Recorded]]:
    loaded: list[Recorded] = []
    genuine = Libbpf.load

    def load(lib: Libbpf, kind: int, name: str, code: bytes, *, flags: int = 0, attach_type: int = 0) -> int:
        fd = genuine(lib, kind, name, code, flags=flags, attach_type=attach_type)
        portable, places = bytearray(code), {}
        for offset, of_map in _references(portable):
            struct.pack_into("=i", portable, offset, places.setdefault(of_map, len(places)))
        maps = tuple(_map(lib, of_map) for of_map in places)
        loaded.append(Recorded(name, kind, flags, attach_type, portable.hex(), maps))
        return fd

    with mock.patch.object(Libbpf, "load", load):
        yield loaded


def _references(code: bytes) -> Iterator[tuple[int, int]]:
    """(where the number of a map is, that number)"""
    offset = 0
    while offset < len(code):
        if code[offset] != _LD_IMM64:
            offset += 8
            continue
        if code[offset + 1] >> 4 in (_MAP_FD, _MAP_VALUE):
            yield offset + 4, struct.unpack_from("=i", code, offset + 4)[0]
        offset += 16


def _map(lib: Libbpf, fd: int) -> Map:
    info = lib.map_info(fd)
    flags = info.flags
    if info.type in (BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH):
        flags &= ~BPF_F_RDONLY_PROG  # which the kernel adds to these, and does not take (kernel/bpf/devmap.c)
    return Map(info.type, info.key_size, info.value_size, info.max_entries, flags, info.name.decode())
