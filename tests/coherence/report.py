# SPDX-License-Identifier: GPL-2.0-only
"""The page of Markdown that the results become."""

import os
import time
from dataclasses import dataclass

from tests.coherence.rounds import CLOCK_S, Outcome

_HEAD = """# Coherence

Made by `{command}`; do not edit. Kernel {kernel}, {date}.

A generator on one core sends frames at full rate through the program of a running daemon; the other core changes
something and waits for the system call to return. Each frame bears the time it was made at, so that a frame which came
in after the change and still went the old way is told from one that was under way: **late** is when the youngest frame
that went the old way was made, after the call had returned ("right after" a signal: after the signal). A time below
zero says that it was made before. Before each change the frames go the old way, and are hits where there is a cache.
**Arrived** is when the last frame of the old way came out of the veth.

"Late in" counts the rounds above {clock:.2f} ms, by which the two clocks may differ. Promised are: nothing late where
the kernel announces what is in force; {soon} ms for deletions and a link that goes down; 200 ms for a daemon that is
gone; a second for what the kernel says nothing about.
"""
_COLUMNS = (
    "| change | rounds | median late, ms | worst late, ms | worst arrived, ms | late in | promised, ms |\n"
    "|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Table:
    title: str
    outcomes: list[Outcome]


def page(tables: list[Table], command: str) -> str:
    head = _HEAD.format(
        command=command, kernel=os.uname().release, date=time.strftime("%Y-%m-%d"), clock=1e3 * CLOCK_S, soon=10
    )
    return head + "".join(_section(table) for table in tables)


def _section(table: Table) -> str:
    return f"\n## {table.title[0].upper()}{table.title[1:]}\n\n{_COLUMNS}" + "".join(map(_row, table.outcomes))


def _row(found: Outcome) -> str:
    times = (found.median_s, found.worst_s, max(found.arrived_s))
    cells = [f"{found.name}, IPv{found.family}", f"{len(found.late_s):,}", *(f"{1e3 * late:.3f}" for late in times)]
    cells += [str(found.late_rounds), f"{1e3 * found.bound_s:.0f}" + ("" if found.is_good else " **exceeded**")]
    return f"| {' | '.join(cells)} |\n"
