# SPDX-License-Identifier: GPL-2.0-only
"""What a process holds on to."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TOLERANCE = 0.05


@dataclass(frozen=True)
class Census:
    descriptors: int
    maps: int
    programs: int
    rss_kb: int

    @classmethod
    def take(cls, pid: int) -> "Census":
        kinds: Counter[str] = Counter()
        for entry in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
            except FileNotFoundError:
                continue
            kinds["all"] += 1
            kinds[target] += 1
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return cls(kinds["all"], kinds["anon_inode:bpf-map"], kinds["anon_inode:bpf-prog"], rss)

    def leaks(self, after: "Census") -> list[str]:
        """What `after` has more of: sockets of clients that have just gone are forgiven, memory within TOLERANCE."""
        out = []
        for name, allowed in (("descriptors", 8), ("maps", 0), ("programs", 0)):
            if getattr(after, name) > getattr(self, name) + allowed:
                out.append(f"{name}: {getattr(self, name)} before, {getattr(after, name)} after")
        if after.rss_kb > self.rss_kb * (1 + TOLERANCE):
            out.append(f"memory: {self.rss_kb} kB before, {after.rss_kb} kB after")
        return out
