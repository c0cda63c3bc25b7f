# SPDX-License-Identifier: GPL-2.0-only
"""Programs broken on purpose. A comparison that does not notice one of them is worth nothing."""

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bpf", "controlplane", "xdprouter", "lab")


@dataclass(frozen=True)
class Mutation:
    """`changes`: (file, text that is there exactly once, what it becomes)"""

    name: str
    changes: tuple[tuple[str, str, str], ...]

    def apply(self, source: Path, target: Path) -> None:
        """Copy what a daemon runs from, and break the copy. Raises ValueError if the text has changed."""
        for package in PACKAGES:
            shutil.copytree(source / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, old, new in self.changes:
            path = target / name
            text = path.read_text()
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {name} has {old!r} {text.count(old)} times instead of once")
            path.write_text(text.replace(old, new))


MUTATIONS = [
    Mutation("TTL not decremented", (("bpf/rewrite.h", "\t\tdecrement_ttl(header);", "\t\t;"),)),
    Mutation("IPv6 length 40 short", (
        ("bpf/parse.h", "\tif (ip6->hop_limit <= 1)", "\tp->datagram_len -= 40;\n\tif (ip6->hop_limit <= 1)"),)),
    Mutation("MAC check removed", (("bpf/ethernet.h", "if (!same_mac(eth->h_dest, own_mac))", "if (0)"),)),
    Mutation("L4 ports left 0", (
        ("bpf/parse.h", "p->sport = ports[0];", "p->sport = 0;"), ("bpf/parse.h", "p->dport = ports[1];", "p->dport = 0;"))),
    Mutation("rewritten before it is passed", (
        ("bpf/router.c", "\tverdict = may_leave(", "\trewrite(p, adjacency);\n\tverdict = may_leave("),
        ("bpf/router.c", "if (!out || !rewrite(p, adjacency))", "if (!out)"))),
]  # fmt: skip
