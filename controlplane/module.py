# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules that lie ready and are not loaded. Asking the kernel for what is in one loads it; who only looks on
must not do that: bonding, for one, then makes a bond0."""

import platform
from pathlib import Path

_LOADED, _READY = Path("/sys/module"), Path("/lib/modules")


def waits(name: str) -> bool:
    """Whether this is a module that is not loaded: nothing of it is in use. False for what is built in or is not
    there at all. `name` with underscores, as lsmod shows it."""
    if (_LOADED / name).exists():
        return False
    try:
        known = (_READY / platform.release() / "modules.dep").read_text()
    except OSError:
        return False
    paths = (line.split(":")[0] for line in known.splitlines())
    return name in {path.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_") for path in paths}
