# SPDX-License-Identifier: GPL-2.0-only
"""Questions to bpf(2) that need neither BCC nor libbpf: which programs others attached, and the call itself.

Layout of the request: union bpf_attr in include/uapi/linux/bpf.h. Interfaces are resolved in the caller's
network namespace.
"""

import ctypes as ct
import errno
import functools
import os
import struct
import time

from controlplane.errors import DataplaneError

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
_OBJ_GET_INFO_BY_FD, _PROG_QUERY, _LINK_GET_FD_BY_ID, _LINK_GET_NEXT_ID = 15, 16, 30, 31
TCX_INGRESS, TCX_EGRESS = 46, 47
_PROG_GET_FD_BY_ID = 13
_LINK_TYPE_XDP, _LINK_TYPE_NETFILTER = 6, 10
_QUERIED_IDS = 64
_ATTEMPTS = 50


def attached_programs(ifindex: int, attach_type: int) -> int:
    """How many programs are attached to a device; 0 if the device has gone, or the kernel does not know the
    attach type (before tcx, Linux 6.6). Raises OSError otherwise."""
    ids = (ct.c_uint32 * _QUERIED_IDS)()
    # ifindex, attach type, flags in and out, address and number of the ids; the rest of the union is zero
    request = bytearray(
        struct.pack("=IIIIQI", ifindex, attach_type, 0, 0, ct.addressof(ids), len(ids)).ljust(64, b"\0")
    )
    try:
        bpf(_PROG_QUERY, request)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.ENOENT):
            return 0
        if error.errno != errno.ENOSPC:  # more programs than asked for
            raise
    return struct.unpack_from("=I", request, 24)[0]


class NetfilterLinks:
    """BPF programs on netfilter hooks (Linux 6.4). The kernel does not tell the network namespace of such a link,
    so each one of the machine counts. Links that were seen once are not asked again."""

    def __init__(self):
        self._kinds: dict[int, tuple[int, int] | None] = {}

    def hooks(self) -> list[tuple[int, int]]:
        """(protocol family, hook number) of each. Raises OSError when the kernel does not tell."""
        seen = {}
        link = 0
        while (link := _next_link(link)) is not None:
            seen[link] = self._kinds[link] if link in self._kinds else _netfilter_hook(link)
        self._kinds = seen
        return [hook for hook in seen.values() if hook]


def _next_link(after: int) -> int | None:
    request = bytearray(struct.pack("=III", after, 0, 0))
    try:
        bpf(_LINK_GET_NEXT_ID, request)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):  # the last one; or no links in this kernel (before 5.8)
            return None
        raise
    return struct.unpack_from("=I", request, 4)[0]


def _netfilter_hook(link: int) -> tuple[int, int] | None:
    try:
        kind, _, _, _, family, hook = struct.unpack_from("=6I", _info(_LINK_GET_FD_BY_ID, link))
    except OSError as error:
        if error.errno == errno.ENOENT:  # it has just gone
            return None
        raise
    return (family, hook) if kind == _LINK_TYPE_NETFILTER else None


def program_name(number: int) -> str:
    """Of a loaded program; empty if it has none, or has gone."""
    try:
        return _info(_PROG_GET_FD_BY_ID, number)[64:80].split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def xdp_link_id(ifindex: int, program: int) -> int:
    """The bpf_link that holds a program on a device; 0 if none does."""
    link = 0
    while (link := _next_link(link)) is not None:
        try:
            kind, _, holds, _, device = struct.unpack_from("=5I", _info(_LINK_GET_FD_BY_ID, link))
        except OSError:  # it has just gone
            continue
        if (kind, holds, device) == (_LINK_TYPE_XDP, program, ifindex):
            return link
    return 0


def _info(get_fd: int, number: int) -> bytes:
    """The info of a program or link, 192 bytes of it. Raises OSError."""
    fd = _fd(get_fd, number)
    try:
        info = (ct.c_ubyte * 192)()
        bpf(_OBJ_GET_INFO_BY_FD, bytearray(struct.pack("=IIQ", fd, len(info), ct.addressof(info))))
    finally:
        os.close(fd)
    return bytes(info)


def _fd(get_fd: int, number: int) -> int:
    """A link that somebody is just making has its number for a moment before it can be had (EAGAIN, bpf_link_by_id() in
    kernel/bpf/syscall.c), and may be attached already."""
    attempts = 0
    while True:
        try:
            return bpf(get_fd, bytearray(struct.pack("=III", number, 0, 0)))
        except BlockingIOError:
            attempts += 1
            if attempts == _ATTEMPTS:
                raise
        time.sleep(0.001)


@functools.cache
def _libc() -> ct.CDLL:
    return ct.CDLL(None, use_errno=True)


def bpf(command: int, request: bytearray) -> int:
    """The system call; the kernel's answer is in `request`. Raises OSError."""
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise DataplaneError(f"the number of the bpf system call on {os.uname().machine} is not known")
    buffer = ct.c_char.from_buffer(request)
    result = _libc().syscall(ct.c_long(number), ct.c_long(command), ct.byref(buffer), ct.c_long(len(request)))
    if result < 0:
        code = ct.get_errno()
        raise OSError(code, os.strerror(code))
    return result
