# SPDX-License-Identifier: GPL-2.0-only
"""From C to bytecode, by BCC, without kernel headers. The only file that imports BCC."""

import ctypes as ct
import os
from pathlib import Path

from controlplane import source
from controlplane.errors import DataplaneError, MissingDependency
from controlplane.libbpf import Libbpf


def _import_bcc():
    # BCC reads the place of the "kernel source" when it compiles: our own little tree of types.
    os.environ["BCC_KERNEL_SOURCE"] = str(source.SOURCE_DIR)
    try:
        import bcc
    except (ImportError, OSError) as error:  # OSError: its library libbcc.so is missing
        raise MissingDependency(
            f"BCC is not installed for this Python ({error}): apt install python3-bpfcc, and use a virtual environment "
            "made with `/usr/bin/python3 -m venv --system-site-packages` (the PyPI package bcc is something else)"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise MissingDependency(
            f"{bcc.__file__} is not BCC but the unrelated PyPI package: pip uninstall bcc; apt install python3-bpfcc"
        )
    return bcc


def compiled(main: str, defines: tuple[str, ...]):
    """A program of bpf/, such as `router.c` or `bench/sink.c`: a bcc.BPF, with nothing loaded yet.

    Raises MissingDependency, and DataplaneError when it does not compile.
    """
    if not Path("/usr/include/linux/types.h").exists():
        raise MissingDependency("the kernel's user API headers are not installed: apt install linux-libc-dev")
    bcc = _import_bcc()
    # The second is Debian's folder of architecture headers, such as x86_64-linux-gnu.
    flags = ["-I/usr/include", f"-I/usr/include/{os.uname().machine}-linux-gnu", *defines]
    try:
        out = bcc.BPF(text=source.joined(main).encode(), cflags=flags)
    except Exception as error:  # BCC raises bare Exception; the compiler's words went to stderr
        raise DataplaneError(f"BCC could not compile {source.SOURCE_DIR}/{main}: {error}") from error
    # LLVM's working memory, 20 MB, which glibc would keep for nothing.
    ct.CDLL(None).malloc_trim(0)
    return out


def libbpf_of_bcc() -> Libbpf:
    """The library that BCC has brought along. Raises MissingDependency."""
    return Libbpf(_import_bcc().lib)


def bcc_version() -> str:
    return getattr(_import_bcc(), "__version__", "unknown")
