# SPDX-License-Identifier: GPL-2.0-only
"""One program takes another's place in the links: tried before, watched after, and taken back if frames get lost."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from controlplane import trial
from controlplane.attachment import Attachments, let_go
from controlplane.errors import DataplaneError
from controlplane.libbpf import Libbpf, XdpMd

log = logging.getLogger("xdprouter.swap")

WATCH_S = 5.0
JUMP = 64
"""Frames that could not be redirected since the swap, and at least every SHARE-th of those that could"""
SHARE = 20


@dataclass(frozen=True, slots=True)
class Swap:
    """The last one."""

    at: float
    """time.monotonic()"""
    result: str
    """done, refused, or taken back"""
    before: int
    """ids of the programs; 0: there was none"""
    after: int
    reason: str = ""


class Swapper:
    """`counts`: (frames that could not be redirected, frames redirected) of all ports so far."""

    def __init__(self, lib: Libbpf, attachments: Attachments, counts: Callable[[], tuple[int, int]]):
        self._lib = lib
        self._attachments = attachments
        self._counts = counts
        self._old: dict[int, int] = {}
        """ifindex -> fd of the program that was there, while it may have to come back"""
        self._before = (0, 0)
        self.last: Swap | None = None
        self.taken_back = ""
        """Why; nothing is swapped in any more"""

    def refusal(self, new_fd: int, frames: Mapping[int, list[trial.Frame]], settled: bool) -> str:
        """Why this program may not take the place of those in the links; empty if it may."""
        old = self._attachments.hold()
        try:
            tried = {ifindex: sent for ifindex, sent in frames.items() if ifindex in old}
            runs = {ifindex: self._runner(fd) for ifindex, fd in old.items()}
            return trial.compare(tried, runs, self._runner(new_fd), settled)
        except DataplaneError as error:
            return f"it cannot be tried: {error}"
        finally:
            let_go(old)

    def begin(self, new_id: int) -> None:
        """Just before: keep hold of what is in the links."""
        found = self._attachments.hold()
        old = {ifindex: fd for ifindex, fd in found.items() if self._lib.object_id(fd) != new_id}
        let_go({ifindex: fd for ifindex, fd in found.items() if ifindex not in old})
        if found and not old:
            return  # it is everywhere already; what is watched stays watched
        let_go(self._old)
        self._old = old
        self._before = self._counts()
        if old:
            before = self._lib.object_id(next(iter(old.values())))
            self.last = Swap(time.monotonic(), "done", before, new_id)

    def refuse(self, new_id: int, reason: str) -> None:
        before = next(iter(self._attachments.programs().values()), 0)
        self.last = Swap(time.monotonic(), "refused", before, new_id, reason)

    def watch(self) -> bool:
        """Now and then. True, once, when the time is over and the old program may go."""
        if not self._old or self.last is None:
            return False
        if time.monotonic() - self.last.at > WATCH_S:
            let_go(self._old)
            return True
        lost, redirected = (now - then for now, then in zip(self._counts(), self._before, strict=True))
        if lost >= JUMP and lost * SHARE >= redirected:
            self._take_back(f"{lost} of {redirected} frames could not be redirected since")
        return False

    @property
    def watching(self) -> bool:
        """Whether an old program may have to come back."""
        return bool(self._old)

    def close(self) -> None:
        let_go(self._old)

    # --- inside ---------------------------------------------------------------------------------

    def _take_back(self, why: str) -> None:
        assert self.last is not None
        for ifindex, fd in self._old.items():
            self._attachments.put(ifindex, fd)
        let_go(self._old)
        self.taken_back = f"program {self.last.before} is back in place of {self.last.after}: {why}"
        self.last = replace(self.last, result="taken back", reason=why)
        log.error("%s", self.taken_back)

    def _runner(self, fd: int) -> trial.Run:
        def run(frame: bytes, ifindex: int) -> tuple[int, bytes]:
            return self._lib.run_on(fd, frame, XdpMd(data_end=len(frame), ingress_ifindex=ifindex))

        return run
