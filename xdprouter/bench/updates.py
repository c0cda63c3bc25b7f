# SPDX-License-Identifier: GPL-2.0-only
"""Route updates at a steady rate while something else is measured: a process of its own, on other CPUs.

`python -m xdprouter.bench.updates FD RATE FAMILY IFINDEX`: until its standard input ends, in the namespace
that it is started in. FD is shared memory: how many updates were carried out, in 8 bytes, and why there will be
no more, in text.
"""

import itertools
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import namespace, process
from lab.wait import wait_until
from xdprouter.bench.routes import BITS, Prefix, RouteMessages, RouteSocket
from xdprouter.errors import XdprouterError

GATEWAYS = {4: ("10.0.1.253", "10.0.1.254"), 6: ("fd00:0:0:2::fd", "fd00:0:0:2::fe")}
"""on the egress subnet; nobody is there"""
_FIRST = {4: (10 << 24) + (128 << 16), 6: 0xFD00_0001 << 96}
"""elsewhere: no packet goes to these prefixes"""
_LENGTH = {4: 24, 6: 48}
_PREFIXES = 10_000
_TICK_S = 0.001
_START_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
_SHARED = struct.Struct("=Q120s")


class Updates:
    """The running process, seen from outside; `done` counts on."""

    def __init__(self, child: subprocess.Popen, shared: mmap.mmap):
        self._child = child
        self._shared = shared

    @property
    def done(self) -> int:
        """Raises XdprouterError if there will be no more."""
        done, reason = _SHARED.unpack_from(self._shared)
        if reason.strip(b"\0") or self._child.poll() is not None:
            why = reason.strip(b"\0").decode(errors="replace") or f"exit code {self._child.returncode}"
            raise XdprouterError(f"the route updates broke off: {why}")
        return done


@contextmanager
def updates(ns: str, rate: int, family: int, ifindex: int, cpus: set[int]) -> Iterator[Updates]:
    """`rate` updates a second for the length of a with block, on `cpus` only."""
    fd = os.memfd_create("updates", 0)
    os.ftruncate(fd, _SHARED.size)
    command = [sys.executable, "-m", __spec__.name, str(fd), str(rate), str(family), str(ifindex)]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with mmap.mmap(fd, _SHARED.size) as shared:
        # In a session of its own: a Ctrl-C at the terminal is the benchmark's to deal with.
        child = namespace.popen(
            ns, command, stdin=subprocess.PIPE, pass_fds=[fd], start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        try:
            os.sched_setaffinity(child.pid, cpus)
            out = Updates(child, shared)
            wait_until(lambda: out.done > 0, _START_TIMEOUT_S, "the route updates to begin")
            yield out
        finally:
            os.close(fd)
            child.stdin.close()
            try:
                child.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                if found := process.Process.of(child.pid):
                    process.end([found])
                child.wait()


def messages(family: int, ifindex: int) -> Iterator[bytes]:
    """Add, replace, delete, add the next, ... for ever; the table stays as it is but for one route."""
    source = RouteMessages(family, GATEWAYS[family], ifindex)
    for number in itertools.cycle(range(_PREFIXES)):
        prefix: Prefix = (_FIRST[family] + (number << (BITS[family] - _LENGTH[family])), _LENGTH[family])
        yield source.add(prefix, 0)
        yield source.replace(prefix, 1)
        yield source.delete(prefix)


def _pace(shared: mmap.mmap, rate: int, todo: Iterator[bytes]) -> None:
    """Until standard input ends: each tick, as many as are due by now, but never so many at once that the
    end of the input would be missed."""
    start, done = time.monotonic(), 0
    tick_s = max(_TICK_S, 1 / rate)
    with RouteSocket() as sock:
        while not select.select([0], [], [], tick_s)[0]:
            due = int((time.monotonic() - start) * rate) - done
            for message in itertools.islice(todo, min(due, rate // 10 + 1)):
                sock.send(message)
                done += 1
                _SHARED.pack_into(shared, 0, done, b"")
        for message in itertools.islice(todo, -done % 3):  # what was added is deleted again
            sock.send(message)


def _main(fd: int, rate: int, family: int, ifindex: int) -> int:
    with mmap.mmap(fd, _SHARED.size) as shared:
        try:
            _pace(shared, rate, messages(family, ifindex))
        except XdprouterError as error:
            _SHARED.pack_into(shared, 0, 0, str(error).encode()[:120])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*map(int, sys.argv[1:])))
