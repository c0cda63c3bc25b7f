# SPDX-License-Identifier: GPL-2.0-only
"""A twin of a program: the same code over the same maps, compiled so that it counts, remembers and refreshes nothing
(FEATURE_EXPLAIN in bpf/features.h). Test packets go through twins, and so leave no trace.

Each daemon leaves the twin of its program behind, pinned, for the one that comes after it: only who has the source can
make one.
"""

import logging
import os
import threading
from collections.abc import Collection
from ctypes import sizeof

from controlplane.errors import DataplaneError
from controlplane.explain import ExplanationLayout
from controlplane.libbpf import Libbpf
from controlplane.pins import PinDirectory
from controlplane.program import Program

log = logging.getLogger("xdprouter.twin")


class Twins:
    """May be used from any thread. Close it at the end; what is pinned stays."""

    def __init__(self, lib: Libbpf, pins: PinDirectory):
        self._lib = lib
        self._directory = pins.twins
        self._explanation = lib.create_array("explanation", sizeof(ExplanationLayout))
        self._fds: dict[int, int] = {}
        """id of a program -> fd of its twin, of those that this process has compiled"""
        self._lock = threading.Lock()

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        os.close(self._explanation)

    def make(self, program: Program) -> None:
        """Takes as long as the program took. Without one, should the kernel refuse it, the program itself is tried."""
        with self._lock:
            if program.id in self._fds:
                return
            more = ("-DFEATURE_EXPLAIN=1", f"-DFD_explanation={self._explanation}")
            try:
                twin = Program(self._lib, (*program.definitions, *more))
            except DataplaneError as error:
                log.warning("no twin of the program, so test packets will be counted: %s", error)
                return
            # The rest of what was compiled is not needed.
            self._fds[program.id] = os.dup(twin.fd)
            twin.close()

    def of(self, number: int) -> int | None:
        """An fd of the twin of the program with this id, to be closed; None: it has none."""
        with self._lock:
            if number in self._fds:
                return os.dup(self._fds[number])
        path = self._directory / str(number)
        try:
            return self._lib.get(str(path)) if path.exists() else None
        except DataplaneError:
            return None

    def leave(self, program: Program) -> None:
        """Pin the twin of a program, if it has one."""
        path = self._directory / str(program.id)
        with self._lock:
            if program.id in self._fds and not path.exists():
                self._directory.mkdir(exist_ok=True)
                self._lib.pin(self._fds[program.id], str(path))

    def keep(self, numbers: Collection[int]) -> None:
        """Pinned, only those of programs with these ids: a twin holds its program's maps."""
        for path in self._directory.glob("*"):
            if int(path.name) not in numbers:
                path.unlink(missing_ok=True)
