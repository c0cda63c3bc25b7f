# SPDX-License-Identifier: GPL-2.0-only
"""Asks for packages, folders and limits."""

import ctypes as ct
import errno
import importlib.metadata
import os
import re
import resource
import sys
from pathlib import Path

from controlplane import compiler, kernel
from controlplane.errors import ControlPlaneError
from xdprouter.doctor.facts import Software

PACKAGES = ("netaddr", "prometheus_client", "pyroute2", "pyzmq", "rich", "scapy")
"""The dependencies in pyproject.toml; a test compares the two"""
_HEADERS = Path("/usr/include/linux/types.h")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_FSOPEN, _FSCONFIG, _FSCONFIG_CMD_CREATE, _FSOPEN_CLOEXEC = 430, 431, 6, 1
"""System calls from 424 on have one number on all architectures."""


def software(directory: Path) -> Software:
    """`directory`: the instance's, which need not exist."""
    version, error, wrong = _bcc()
    place = next(path for path in (directory, *directory.parents) if path.exists())
    return Software(
        root=os.geteuid() == 0,
        bcc=version,
        bcc_error=error,
        wrong_bcc=wrong,
        llvm=_llvm() if version else "",
        headers=_HEADERS.exists(),
        packages={name: _version(name) for name in PACKAGES},
        python=sys.executable,
        bpffs="mounted" if os.path.ismount(directory / "bpf") else _mountable(),
        run_directory=str(place),
        run_writable=os.access(place, os.W_OK) and not os.statvfs(place).f_flag & os.ST_RDONLY,
        memlock=_memlock(),
        jit_sysctl_here=_JIT.exists(),
    )


def available_bytes() -> int:
    """What the kernel could give without swapping."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))


def _bcc() -> tuple[str, str, bool]:
    """(version, why it cannot be used, whether it is the unrelated package)"""
    try:
        return compiler.bcc_version(), "", False
    except ControlPlaneError as error:
        return "", str(error), "unrelated PyPI package: pip" in str(error)


def _llvm() -> str:
    """The version of the library that came with BCC; empty if it is linked into libbcc."""
    found = re.search(r"/libLLVM[-.](?:so\.)?([\d.]*\d)", Path("/proc/self/maps").read_text())
    return found[1] if found else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _mountable() -> str:
    """Make a bpffs without mounting it anywhere (fsopen, Linux 5.2): "mountable", or why not."""
    libc = ct.CDLL(None, use_errno=True)
    fd = libc.syscall(ct.c_long(_FSOPEN), b"bpf", ct.c_long(_FSOPEN_CLOEXEC))
    if fd < 0:
        return _words(ct.get_errno())
    try:
        made = libc.syscall(
            ct.c_long(_FSCONFIG), ct.c_long(fd), ct.c_long(_FSCONFIG_CMD_CREATE), None, None, ct.c_long(0)
        )
        return "mountable" if made >= 0 else _words(ct.get_errno())
    finally:
        os.close(fd)


def _words(number: int) -> str:
    return "the kernel has no bpffs" if number == errno.ENODEV else os.strerror(number)


def _memlock() -> str:
    """Since Linux 5.11 maps count as the control group's memory. Tried with a soft limit of nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or os.geteuid() != 0:
        return ""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    try:
        counted = not kernel.can_make_map()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    return f"{soft // 1024} KiB" if counted else ""
