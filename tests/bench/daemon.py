# SPDX-License-Identifier: GPL-2.0-only
"""What the daemon costs: its start, a status command, its memory."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.pins import PinDirectory
from lab import process
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.errors import NoDaemon
from xdprouter.instance import Instance

PORTS = tuple(f"port{number}" for number in range(4))
STARTS = 3
STATUS_RUNS = 10
_START_TIMEOUT_S = 20.0
_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Figures:
    start_s: float
    """from exec until every port is active"""
    status_s: float
    """the whole process `xdprouter status`"""
    rss_bytes: int


def figures() -> Figures:
    """Medians of STARTS daemons over four ports, in a namespace of their own."""
    starts, statuses, sizes = [], [], []
    with network.network("daemon") as ns:
        for port in PORTS:
            network.add_pair(ns, port)
        for _ in range(STARTS):
            with _running(ns) as (seconds, status):
                starts.append(seconds)
                sizes.append(status["daemon"]["rss_bytes"])
                if not statuses:
                    statuses = [_time_status(ns) for _ in range(STATUS_RUNS)]
    return Figures(statistics.median(starts), statistics.median(statuses), int(statistics.median(sizes)))


@contextmanager
def _running(ns: str) -> Iterator[tuple[float, dict]]:
    """A daemon: (seconds until all ports were active, its status then). Nothing of it is left behind."""
    instance = Instance(ns)
    interfaces = [word for port in PORTS for word in ("-i", port)]
    start = time.perf_counter()
    daemon = subprocess.Popen(
        _command("run", ns, *interfaces), cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        status = wait_until(lambda: _active(daemon, instance), _START_TIMEOUT_S, "the daemon's ports to be active")
        yield time.perf_counter() - start, status
    finally:
        if found := process.Process.of(daemon.pid):
            process.end([found])
        daemon.communicate()
        pins = PinDirectory(instance.directory)
        if pins.mount_point.exists():
            pins.remove()
        shutil.rmtree(instance.directory, ignore_errors=True)


def _active(daemon: subprocess.Popen, instance: Instance) -> dict | None:
    if daemon.poll() is not None:
        raise RuntimeError(f"the daemon ended: {daemon.communicate()[0].decode(errors='replace').strip()}")
    try:
        status = client.ask(instance, api.StatusRequest())
    except NoDaemon:
        return None
    return status if [port["state"] for port in status["ports"]] == ["active"] * len(PORTS) else None


def _time_status(ns: str) -> float:
    start = time.perf_counter()
    subprocess.run(_command("status", ns), cwd=_ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def _command(command: str, ns: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "xdprouter", command, "--netns", ns, *arguments]
