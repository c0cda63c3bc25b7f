# SPDX-License-Identifier: GPL-2.0-only
"""One table, from one feed, in and out again, with a daemon and without, round by round."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import instance
from lab.lab import Lab
from lab.topology import load
from lab.wait import wait_until
from tests.lab.wire import stream
from tests.scale import feeds
from xdprouter import api, client
from xdprouter.errors import XdprouterError
from xdprouter.instance import Instance

TOPOLOGY = Path(__file__).with_name("network.toml")
PACKETS_PER_S = 5000
COUNTED_WITHIN_S = 30
ADDRESS = {4: "10.2.0.2", 6: "fd02::2"}


@dataclass(frozen=True)
class Phase:
    """What one phase of one round cost. Without a daemon only times and `lost` mean anything."""

    feed: str
    family: int
    routes: int
    phase: str
    daemon: bool
    seconds: float
    """until the last route was done"""
    writer_cpu_s: float
    """of the process that writes the kernel's table; the kernel's part, with socket filters, is in it"""
    cpu_s: float = 0.0
    """the daemon's, until its counts were right"""
    counted_s: float = 0.0
    """from the last route until `status` was right to the route"""
    counted: bool = True
    """whether it was, within COUNTED_WITHIN_S"""
    rss_growth: int = 0
    """bytes, since before the first phase"""
    overruns: int = 0
    sent: int = 0
    """packets of the quiet flow, during all phases of the round; told with the last of them"""
    lost: int = 0


def measure(kind: str, family: int, count: int, rounds: int, say: Callable[[str], None] = print) -> list[Phase]:
    """All phases of all rounds. With and without take turns, and take turns in going first."""
    out = []
    lab = Lab(load(str(TOPOLOGY)), name=f"scale{os.getpid()}")
    lab.up(xdprouter=False)
    try:
        with feeds.feed(kind, lab, family, count) as feed:
            for number in range(rounds):
                for daemon in (False, True) if number % 2 else (True, False):
                    phases = _round(lab, feed, family, count, daemon)
                    out += phases
                    for phase in phases:
                        say(_line(phase))
    finally:
        lab.down()
    return out


def _round(lab: Lab, feed, family: int, count: int, with_daemon: bool) -> list[Phase]:
    with _daemon(lab, with_daemon) as daemon:
        before = daemon and daemon.status()
        phases = []
        with stream(lab, "h1", "h2", ADDRESS[family], PACKETS_PER_S) as flow:
            # The daemon's first seconds are not what is measured.
            wait_until(lambda: flow.arrived() > 2 * PACKETS_PER_S, COUNTED_WITHIN_S, "the flow")
            for name in feed.phases:
                cpu = daemon.cpu_s() if daemon else 0.0
                seconds, writer_cpu_s = feed.run(name)
                phase = {"seconds": seconds, "writer_cpu_s": writer_cpu_s}
                if daemon:
                    # What went away was counted before it came: so is the rest.
                    present = before["fib"][f"ipv{family}_routes"] + (0 if name == "withdraw" else count)
                    phase |= daemon.counted(family, present, before)
                    phase["cpu_s"] = daemon.cpu_s() - cpu
                phases.append(phase | {"phase": name})
            lost = flow.stop()
            phases[-1] |= {"sent": flow.sent, "lost": lost}
    return [Phase(feed.name, family, count, daemon=with_daemon, **phase) for phase in phases]


class _Daemon:
    def __init__(self, lab: Lab, pid: int):
        self._instance, self._pid = Instance(lab.ns("r1")), pid

    def status(self) -> dict:
        return client.ask(self._instance, api.StatusRequest())

    def cpu_s(self) -> float:
        return feeds.cpu_s(self._pid)

    def counted(self, family: int, wanted: int, before: dict) -> dict:
        """Ask until the count is right; what Phase wants to know of the daemon."""
        start = time.monotonic()
        while True:
            status = self.status()
            right = status["fib"][f"ipv{family}_routes"] == wanted
            if right or time.monotonic() - start > COUNTED_WITHIN_S:
                return {
                    "counted": right,
                    "counted_s": time.monotonic() - start,
                    "rss_growth": status["daemon"]["rss_bytes"] - before["daemon"]["rss_bytes"],
                    "overruns": status["netlink"]["overruns"],
                }
            time.sleep(0.2)


@contextmanager
def _daemon(lab: Lab, wanted: bool) -> Iterator[_Daemon | None]:
    if not wanted:
        yield None
        return
    ns = lab.ns("r1")
    process = lab.start_xdprouter("r1")
    try:
        yield _Daemon(lab, process.pid)
    finally:
        try:
            client.ask(Instance(ns), api.StopRequest(detach=True))
        except (XdprouterError, OSError):
            instance.stop(lab.directory("r1"))
        process.wait(10)


def _line(p: Phase) -> str:
    text = f"{p.feed} IPv{p.family} {p.routes:,} {p.phase}: {p.seconds:.2f} s ({p.writer_cpu_s:.2f} CPU)"
    if p.daemon:
        text += (
            f" with a daemon: CPU {p.cpu_s:.2f} s, {'counted' if p.counted else 'NOT COUNTED'} after {p.counted_s:.1f} s, "
            f"RSS {p.rss_growth / 1e6:+.1f} MB, {p.overruns} overruns"
        )
    return text + (f"; {p.lost} of {p.sent:,} packets lost" if p.sent else "")


def write(phases: list[Phase], path: Path) -> None:
    """As JSON. Raises OSError."""
    path.write_text("[\n" + ",\n".join(json.dumps(asdict(phase)) for phase in phases) + "\n]\n")


def read(path: Path) -> list[Phase]:
    return [Phase(**entry) for entry in json.loads(path.read_text())]
