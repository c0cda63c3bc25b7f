# SPDX-License-Identifier: GPL-2.0-only
"""Two routers of one configuration, the plain kernel and xdprouter: the same frames to both, what comes out of each.

Each is between far ends of its own, in a namespace of its own, so that both have the same device names, MACs
and addresses. The process is bound to one CPU while a pair is there: wire.py says why.
"""

import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from lab import instance, namespace
from lab.wait import wait_until
from tests.conformance import far_xdp, topology
from tests.conformance.configurations import Configuration
from tests.conformance.outcome import Outcome, outcome, packed, questions, without_limited
from tests.conformance.wire import FarEnds, Frames
from xdprouter import api, client
from xdprouter.instance import Instance

KERNEL, OURS = "kernel", "xdprouter"
LATE_TIMEOUT_S = 0.4
LATE_FRAME_S = 0.01
ROOT = Path(__file__).resolve().parent.parent.parent

_number = itertools.count()


class Pair:
    """A context manager. `root` is where the xdprouter under test lies."""

    def __init__(self, configuration: Configuration, root: Path = ROOT):
        self.configuration = configuration
        self.own = frozenset(map(packed, _own_addresses(configuration)))
        self._root = root
        self._undo = ExitStack()
        self.names: dict[str, str] = {}
        self._far: dict[str, FarEnds] = {}
        self._keeps_limited = False
        self.asked: dict[str, set] = {KERNEL: set(), OURS: set()}
        """the neighbours asked for so far, where that is compared"""

    def __enter__(self) -> "Pair":
        with ExitStack() as undo:
            home_cpus = os.sched_getaffinity(0)
            for router in (KERNEL, OURS):
                self._build(undo, router)
            self._start_daemon(undo)
            os.sched_setaffinity(0, {max(home_cpus)})
            undo.callback(os.sched_setaffinity, 0, home_cpus)
            for router in (KERNEL, OURS):
                self._far[router].take()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._undo.close()

    def exchange(self, frames: Iterable[tuple[str, bytes]], limited: bool = False) -> tuple[Outcome, Outcome]:
        """(kernel's outcome, ours) of (port, frame) pairs, sent in this order.

        `limited` keeps the errors that the kernel limits: for a source or next hop that nobody has had one about.
        """
        self._keeps_limited = limited
        frames = list(frames)
        results = [self._outcome(router, self._far[router].exchange(frames)) for router in (KERNEL, OURS)]
        if self.configuration.answers_late:
            self._wait_for_late(results, lambda: results[0])
        if results[0] != results[1]:
            self._wait_for_late(results, lambda: results[0] == results[1])
        return results[0], results[1]

    def counters(self) -> Counter:
        """Packets by verdict over all ports, as the daemon tells them."""
        total = Counter()
        for port in self.status()["ports"]:
            for verdict, traffic in port["ingress"].items():
                total[verdict] += traffic["packets"]
        return total

    def status(self) -> dict:
        return client.ask(Instance(self.names[OURS]), api.StatusRequest())

    def _outcome(self, router: str, frames: Frames) -> Outcome:
        if self.configuration.answers_late:
            self.asked[router] |= questions(frames)
        result = outcome(frames, self.own, self.configuration.answers_late)
        return result if self._keeps_limited else without_limited(result, self.own)

    def _wait_for_late(self, results: list[Outcome], enough) -> None:
        """For what comes by a timer: an error when nobody has answered for a neighbour."""
        deadline = time.monotonic() + (LATE_TIMEOUT_S if self.configuration.answers_late else LATE_FRAME_S)
        while not enough() and time.monotonic() < deadline:
            for index, router in enumerate((KERNEL, OURS)):
                results[index] = results[index] + self._outcome(router, self._far[router].take())

    def _build(self, undo: ExitStack, router: str) -> None:
        name = f"xc{os.getpid()}n{next(_number)}-{router}"
        self.names[router] = name
        far = f"{name}-far"
        for ns in (name, far):
            namespace.create(ns)
            undo.callback(namespace.delete, ns)
        links = self.configuration.links
        topology.build(name, far, links.mtu_of, links.far_mtu)
        far_xdp.attach(far, list(topology.NUMBERS))
        links.stack(name)
        topology.bring_up(name, far)
        links.teach(name)
        self.configuration.apply(name)
        self._far[router] = undo.enter_context(FarEnds(far, links.tags()))

    def _start_daemon(self, undo: ExitStack) -> None:
        ns = self.names[OURS]
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="xdprouter-conformance-")))
        undo.callback(instance.remove_state, ns)
        ports = [
            self.configuration.links.accelerated(port)
            for port in topology.ACCELERATED
            if port not in self.configuration.not_accelerated
        ]
        daemon = instance.start(ns, ports, directory, root=self._root)
        undo.callback(daemon.wait)
        undo.callback(instance.stop, directory)
        wait_until(self._is_settled, 20.0, f"the ports of {ns} to be ready")

    def _is_settled(self) -> bool:
        """Every port forwards, or never will in this configuration."""
        refused = ("unsupported", "guarded")
        status = self.status()
        waiting = [one for one in status["interfaces"] if "compil" in one["reason"]]
        return not waiting and all(port["transmitting"] or port["state"] in refused for port in status["ports"])


def _own_addresses(configuration: Configuration) -> list[str]:
    ports = [topology.address(port, family) for port in topology.NUMBERS for family in (4, 6)]
    return [*ports, *topology.ANYIP, "fe80::1", *configuration.own_addresses]
