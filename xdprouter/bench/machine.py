# SPDX-License-Identifier: GPL-2.0-only
"""What the figures were made with: they mean nothing elsewhere."""

import os
import platform
import re
from pathlib import Path

from controlplane.compiler import bcc_version
from xdprouter import __version__


def describe() -> dict[str, str]:
    """Names and versions. Raises MissingDependency."""
    bcc = bcc_version()  # first: it brings in the compiler that _clang() looks for
    system = os.uname()
    return {
        "cpu": _cpu(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "bcc": bcc,
        "clang": _clang(),
        "python": platform.python_version(),
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
