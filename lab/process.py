"""Processes: which are alive, which sit in a namespace, and how to end them for certain."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabTimeout
from lab.wait import wait_until

TERM_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks since boot): a pid alone may be somebody else's by now."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this pid now; None if there is none, or only a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The command name, in parentheses, may hold anything, blanks and parentheses too.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def is_alive(self) -> bool:
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone or its pid is another's by now."""
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def inside(namespace_path: Path) -> list[Process]:
    """The processes whose main thread is in a network namespace, this one left out."""
    try:
        there = os.stat(namespace_path)
    except FileNotFoundError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            here = os.stat(f"/proc/{entry}/ns/net")
        except OSError:  # ended meanwhile, or a zombie
            continue
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) and (process := Process.of(int(entry))):
            found.append(process)
    return found


def end(processes: Iterable[Process]) -> None:
    """SIGTERM to all, then SIGKILL to those still there after TERM_TIMEOUT_S. Raises LabTimeout."""
    processes = list(processes)
    for number, timeout_s in ((signal.SIGTERM, TERM_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
        for process in processes:
            process.send(number)
        try:
            wait_until(lambda: not any(p.is_alive for p in processes), timeout_s, "processes to end")
            return
        except LabTimeout:
            if number == signal.SIGKILL:
                raise
