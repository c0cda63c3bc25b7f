# SPDX-License-Identifier: GPL-2.0-only
"""What is going on, on standard error: a bar on a terminal, else a line for each scenario."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Lines:
    """Without a terminal."""

    def __init__(self, steps: int):
        self._steps = steps
        self._done = 0

    def now(self, what: str) -> None:
        print(f"[{self._done}/{self._steps}] {what}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        self._done += 1


class Bar:
    """On a terminal."""

    def __init__(self, progress: Progress, steps: int):
        self._progress = progress
        self._task = progress.add_task("", total=steps)

    def now(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def advance(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def progress(steps: int) -> Iterator[Lines | Bar]:
    """`steps`: how many scenarios there will be."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield Lines(steps)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        yield Bar(bar, steps)
