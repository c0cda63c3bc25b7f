# SPDX-License-Identifier: GPL-2.0-only
"""What the figures were made with: they mean nothing elsewhere."""

import os
import re
from pathlib import Path

from xdprouter import __version__


def describe() -> dict[str, str]:
    """After BCC was imported: its compiler is known by the library that it brought in."""
    import bcc

    system = os.uname()
    return {
        "cpu": _cpu(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "bcc": getattr(bcc, "__version__", "unknown"),
        "clang": _clang(),
        "python": os.path.basename(os.path.realpath("/proc/self/exe")),
        "xdprouter": __version__,
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu() -> str:
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _clang() -> str:
    """libbcc links LLVM dynamically; its file's name carries the version."""
    found = re.search(r"libLLVM[-.](?:so\.)?(\d[\d.]*\d|\d)", Path("/proc/self/maps").read_text())
    return found[1] if found else "unknown"
