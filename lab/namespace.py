"""Network namespaces: create, delete, enter, run commands in.

A namespace is known by its name, a file in /run/netns. It is always entered with setns: `ip netns exec`
and `ip -n` also remount /sys, and with it /sys/fs/bpf disappears.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import process
from lab.errors import LabError

DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000


def path(ns: str) -> Path:
    """The file that stands for a namespace."""
    return DIRECTORY / ns


def exists(ns: str) -> bool:
    return path(ns).exists()


def create(ns: str) -> None:
    """Make a new, empty namespace. Raises LabError if there is one of this name."""
    # Not pyroute2, whose child has five seconds for it: too few on an emulated machine.
    done = subprocess.run(["ip", "netns", "add", ns], capture_output=True, text=True)
    if done.returncode != 0:
        if "File exists" in done.stderr:
            raise LabError(f"network namespace {ns} exists already")
        raise LabError(f"network namespace {ns}: {done.stderr.strip()}")


def delete(ns: str) -> None:
    """End the processes inside, then delete the namespace. None of that name: nothing to do."""
    from pyroute2 import netns

    if exists(ns):
        process.end(process.inside(path(ns)))
        netns.remove(ns)


def pids(ns: str) -> list[int]:
    """The processes in a namespace (by their main thread), this one left out."""
    return [found.pid for found in process.inside(path(ns))]


@contextmanager
def entered(ns: str) -> Iterator[None]:
    """Move the calling thread, and no other, into a namespace; move it back at the end.

    Sockets opened inside stay in that namespace. Raises LabError if there is no such namespace.
    """
    with open("/proc/thread-self/ns/net", "rb") as home:
        try:
            there = open(path(ns), "rb")
        except FileNotFoundError as error:
            raise LabError(f"there is no network namespace {ns}") from error
        with there:
            _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def run(ns: str, argv: Sequence[str], **kw: Any) -> subprocess.CompletedProcess:
    """`subprocess.run` in a namespace; output is captured as text unless `kw` says otherwise."""
    if not {"stdout", "stderr", "capture_output"} & kw.keys():
        kw["capture_output"] = True
    kw.setdefault("text", True)
    return subprocess.run(command(ns, argv), **kw)


def popen(ns: str, argv: Sequence[str], **kw: Any) -> subprocess.Popen:
    """`subprocess.Popen` in a namespace. nsenter execs, so the pid is the command's own."""
    return subprocess.Popen(command(ns, argv), **kw)


def command(ns: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a namespace. Raises LabError if there is no such namespace."""
    if not exists(ns):
        raise LabError(f"there is no network namespace {ns}")
    return ["nsenter", f"--net={path(ns)}", "--", *argv]


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise LabError(f"cannot enter a network namespace: {os.strerror(number)}")
