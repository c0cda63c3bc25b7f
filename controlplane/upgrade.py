# SPDX-License-Identifier: GPL-2.0-only
"""A program that can do more, compiled while the one that runs goes on, and put in its place.

What is compiled in stays until the daemon ends, so that a link that comes and goes does not compile again and again.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from controlplane.dataplane import Dataplane
from controlplane.errors import ControlPlaneError
from controlplane.features import Feature

log = logging.getLogger("xdprouter.upgrade")

RETRY_S = 10.0


class Upgrade:
    """`adopted` is called after each, in the loop; `settled` says whether all ports are active."""

    def __init__(self, dataplane: Dataplane, adopted: Callable[[], None], settled: Callable[[], bool]):
        self._dataplane = dataplane
        self._adopted = adopted
        self._settled = settled
        self._task: asyncio.Task | None = None
        self._retry_at = 0.0
        self.reason = ""
        """Why the last one failed; empty if it did not"""

    def need(self, features: frozenset[Feature]) -> None:
        """Start if the program lacks one of these. Needs a running loop."""
        missing = features - self._dataplane.features
        if not missing:
            self.reason = ""
            return
        if why := self._dataplane.taken_back:  # nothing is swapped in any more
            self.reason = _refused(missing | self._dataplane.features, why)
            return
        if (self._task is None or self._task.done()) and time.monotonic() >= self._retry_at:
            self._task = asyncio.create_task(self._run(features | self._dataplane.features))

    async def stop(self) -> None:
        """Wait for what is under way: a thread cannot be ended."""
        if self._task:
            await asyncio.wait({self._task})

    async def _run(self, features: frozenset[Feature]) -> None:
        started = time.monotonic()
        try:
            program = await asyncio.to_thread(self._dataplane.compile, features)
            try:
                self._dataplane.adopt(program, features, self._settled())
            except ControlPlaneError:
                if self._dataplane.program is not program:
                    program.close()
                raise
        except ControlPlaneError as error:
            self.reason = _refused(features, error)
            self._retry_at = time.monotonic() + RETRY_S
            log.error("%s", self.reason)
            return
        log.info("the program now knows %s (%.2f s)", ", ".join(sorted(features)), time.monotonic() - started)
        self._adopted()


def _refused(features: frozenset[Feature], why: object) -> str:
    return f"the program with {', '.join(sorted(features))} was refused: {why}"
