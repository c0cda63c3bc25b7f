# SPDX-License-Identifier: GPL-2.0-only
"""Another version of xdprouter, made from this one: its maps are laid out differently, and its verdicts numbered so."""

import re
import shutil
from pathlib import Path

from controlplane.pins import LAYOUT_VERSION
from tests.conformance.mutations import PACKAGES
from tests.lab.command import ROOT

Changes = tuple[tuple[str, str, str], ...]

LAID_OUT_DIFFERENTLY: Changes = (
    ("controlplane/pins.py", r"LAYOUT_VERSION = \d+", f"LAYOUT_VERSION = {LAYOUT_VERSION + 1}"),
    ("bpf/limits.h", r"#define MAX_PORTS 256", "#define MAX_PORTS 128"),
    ("bpf/limits.h", r"#define MAX_VERDICTS 32", "#define MAX_VERDICTS 40"),
    ("bpf/maps.h", r"struct port_counters \{", "struct port_counters {\n\tu64 news;\n\tu64 more_news[3];"),
    ("bpf/maps.h", r"struct vrf_counters \{", "struct vrf_counters {\n\tu64 news;"),
    ("bpf/verdict.h", r"\tDROP_BLACKHOLE, +/\*", "\tPASS_NEWS, /* nothing yet */\n\tDROP_BLACKHOLE, /*"),
)


def make(target: Path, *more: tuple[str, str, str], changes: Changes = LAID_OUT_DIFFERENTLY) -> Path:
    """A source tree at `target`. `more`: (file, pattern found exactly once, what is put in its place)."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, pattern, new in (*changes, *more):
        path = target / name
        text, number = re.subn(pattern, lambda _: new, path.read_text(), flags=re.MULTILINE)  # noqa: B023
        assert number == 1, f"{name}: {pattern} {number} times"
        path.write_text(text)
    return target
