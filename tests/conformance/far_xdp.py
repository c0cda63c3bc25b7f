# SPDX-License-Identifier: GPL-2.0-only
"""A program that passes everything, for the far end of a veth pair.

It gives the far end the NAPI that redirected frames need. `gro on` would do as well, but merges segments, and
a merged frame is not what was on the wire.
"""

import ctypes as ct
import os
import struct

from pyroute2 import IPRoute

from lab import namespace

SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD, BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS = 5, 6, 1 << 5
RETURN_XDP_PASS = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = 2; exit


def attach(ns: str, ports: list[str]) -> None:
    """Attach it to devices of a namespace, natively; it leaves with them."""
    fd = _load()
    try:
        with namespace.entered(ns), IPRoute() as ipr:
            for port in ports:
                ipr.link("set", index=ipr.link_lookup(ifname=port)[0], xdp_fd=fd)
    finally:
        os.close(fd)


def _load() -> int:
    code, licence = ct.create_string_buffer(RETURN_XDP_PASS), ct.create_string_buffer(b"GPL")
    # union bpf_attr: type, number of instructions, instructions, licence, log level, size and buffer, version, flags
    attributes = ct.create_string_buffer(
        struct.pack("=IIQQIIQII", BPF_PROG_TYPE_XDP, 2, ct.addressof(code), ct.addressof(licence), 0, 0, 0, 0,
                    BPF_F_XDP_HAS_FRAGS),
        128,
    )  # fmt: skip
    libc = ct.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_BPF[os.uname().machine], BPF_PROG_LOAD, attributes, len(attributes))
    if fd < 0:
        raise OSError(ct.get_errno(), "cannot load the far ends' XDP program")
    return fd
