# SPDX-License-Identifier: GPL-2.0-only
"""BPF programs, maps and links for the length of a with block, made by bpf(2) alone: for what has to be tried where BCC
may be missing. All raise OSError when the kernel refuses.

Layout of the requests: union bpf_attr in include/uapi/linux/bpf.h.
"""

import ctypes as ct
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane import bytecode
from controlplane.bpf_query import bpf
from controlplane.libbpf import BPF_ATTACH_XDP, BPF_PROG_TYPE_XDP

_MAP_CREATE, _PROG_LOAD, _PROG_TEST_RUN, _OBJ_GET_INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 0, 5, 10, 15, 17
_LINK_CREATE, _LINK_DETACH = 28, 34
XDP_PASS = 2
_INFO_BYTES = 232
_JITED_LENGTH_AT = 16


@contextmanager
def program(kind: int, code: bytes, flags: int = 0, attach_type: int = 0) -> Iterator[int]:
    """Its fd."""
    text, licence = ct.create_string_buffer(code, len(code)), ct.create_string_buffer(b"GPL")
    request = struct.pack(
        "=IIQQIIQII16sII", kind, len(code) // 8, ct.addressof(text), ct.addressof(licence), 0, 0, 0, 0, flags,
        b"probe", 0, attach_type,
    )  # fmt: skip
    yield from _open(bpf(_PROG_LOAD, bytearray(request)))


@contextmanager
def xdp(code: bytes, flags: int = 0) -> Iterator[int]:
    """The fd of an XDP program."""
    with program(BPF_PROG_TYPE_XDP, code, flags, BPF_ATTACH_XDP) as fd:
        yield fd


@contextmanager
def xdp_pass(flags: int = 0) -> Iterator[int]:
    """The fd of an XDP program that passes everything."""
    with xdp(bytecode.returns(XDP_PASS), flags) as fd:
        yield fd


@contextmanager
def table(kind: int, key: int, value: int, flags: int = 0) -> Iterator[int]:
    """The fd of a map with room for one entry, of so many bytes."""
    yield from _open(bpf(_MAP_CREATE, bytearray(struct.pack("=IIIII", kind, key, value, 1, flags).ljust(72, b"\0"))))


@contextmanager
def link(program: int, ifindex: int, flags: int) -> Iterator[int]:
    """The fd of a bpf_link that holds an XDP program on a device."""
    request = struct.pack("=IIII", program, ifindex, BPF_ATTACH_XDP, flags).ljust(64, b"\0")
    yield from _open(bpf(_LINK_CREATE, bytearray(request)))


@contextmanager
def raw_tracepoint(program: int, name: str) -> Iterator[int]:
    """The fd of what holds a program on a raw tracepoint."""
    text = ct.create_string_buffer(name.encode())
    request = struct.pack("=QI", ct.addressof(text), program).ljust(64, b"\0")
    yield from _open(bpf(_RAW_TRACEPOINT_OPEN, bytearray(request)))


def detach(link: int) -> None:
    """Take its program off the device at once."""
    bpf(_LINK_DETACH, bytearray(struct.pack("=I", link).ljust(64, b"\0")))


def run(program: int, frame_bytes: int) -> int:
    """What an XDP program returns for a frame of zeros, as a signed number."""
    frame = ct.create_string_buffer(frame_bytes)
    request = struct.pack("=IIIIQQII", program, 0, frame_bytes, 0, ct.addressof(frame), 0, 1, 0)
    request = bytearray(request.ljust(80, b"\0"))
    bpf(_PROG_TEST_RUN, request)
    return struct.unpack_from("=i", request, 4)[0]


def jited_bytes(program: int) -> int:
    """Length of its machine code; 0: it is interpreted, or the kernel hides it."""
    info = (ct.c_ubyte * _INFO_BYTES)()
    bpf(_OBJ_GET_INFO_BY_FD, bytearray(struct.pack("=IIQ", program, len(info), ct.addressof(info)).ljust(64, b"\0")))
    return struct.unpack_from("=I", bytes(info), _JITED_LENGTH_AT)[0]


def _open(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
