# SPDX-License-Identifier: GPL-2.0-only
"""cache_entries, end to end: what it may be, what `status` says of it, and a kernel that refuses the cache."""

import os
import subprocess
import sys

import pytest

from lab import instance, namespace
from lab.lab import Lab
from lab.wait import wait_until
from tests.lab.command import ROOT, status, xdprouter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF")

REFUSING = """
import sys
from controlplane.errors import DataplaneError
from controlplane.libbpf import Libbpf
made = Libbpf.create_array

def refuse(self, name, size):
    if name.startswith("cache"):
        raise DataplaneError(f"making map {name}: Invalid argument", 22)
    return made(self, name, size)

Libbpf.create_array = refuse
from xdprouter.cli import main
sys.exit(main())
"""
"""xdprouter on a kernel without a map flag that the cache needs"""


@pytest.fixture
def configuration(tmp_path):
    """`configuration(1000)` -> the arguments for a file with that cache_entries."""

    def write(entries) -> list[str]:
        path = tmp_path / "xdprouter.toml"
        path.write_text(f"cache_entries = {entries}\n")
        return ["-c", str(path), "-i", "left", "-i", "right"]

    return write


@pytest.fixture
def run(bare_lab, ns, configuration):
    """`run(1000)`: a daemon with that cache_entries, which is ready; what it has logged."""

    log = bare_lab.directory("r1") / "xdprouter.log"

    def run(entries: int) -> list[str]:
        before = log.stat().st_size if log.exists() else 0
        instance.start(ns, [], bare_lab.directory("r1"), configuration(entries))
        return log.read_bytes()[before:].decode().splitlines()

    return run


def forwarded(ns: str) -> int:
    return sum(port["ingress"].get("forward", {"packets": 0})["packets"] for port in status(ns)["ports"])


def ping(lab: Lab, ns: str) -> None:
    """Both ways on the fast path, once the ports are in the devmap."""

    def went_fast() -> bool:
        before = forwarded(ns)
        namespace.run(lab.ns("h1"), ["ping", "-q", "-c", "2", "-i", "0.01", "-W", "2", "10.2.0.2"])
        return forwarded(ns) - before == 4

    wait_until(went_fast, 30, "the fast path to forward")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("-1", "cache_entries is -1: at least 0, which is no cache"),
        ("0.5", "cache_entries must be a whole number, not 0.5"),
        (str(1 << 60), " MB are possible here"),
    ],
)
def test_wrong_sizes(ns, configuration, entries, says):
    done = xdprouter("run", "--netns", ns, *configuration(entries))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("xdprouter: ")
    assert says in line
    assert not (instance.STATE_DIRECTORY / ns).exists()


def test_none(bare_lab, ns, run):
    log = run(0)
    ping(bare_lab, ns)
    cache = status(ns)["cache"]
    assert {**cache, "misses": 0} == {
        "enabled": False, "reason": "cache_entries is 0", "key": "", "entries": 0, "bytes": 0, "hits": 0, "misses": 0,
        "invalidations": 0, "lease_ok": False,
    }  # fmt: skip
    assert not any("WARNING" in line for line in log)
    assert "off: cache_entries is 0" in xdprouter("status", "--netns", ns).stdout


def test_a_number_that_is_rounded_up(bare_lab, ns, run):
    log = run(1000)
    assert any("WARNING" in line and "cache_entries 1000 is rounded up to 1024" in line for line in log)
    ping(bare_lab, ns)
    wait_until(lambda: status(ns)["cache"]["lease_ok"], 30, "the cache to be in use")
    cache = status(ns)["cache"]
    assert (cache["enabled"], cache["reason"]) == (True, "")
    assert cache["entries"] % 1024 == 0
    assert cache["bytes"] == 2 * 16 * cache["entries"]


def test_a_kernel_that_refuses_the_cache(bare_lab, ns, configuration, tmp_path):
    """Forwarding goes on without it, and `status` says why."""
    with open(tmp_path / "log", "w+b") as log:
        command = [sys.executable, "-c", REFUSING, "run", "--netns", ns, *configuration(1024)]
        daemon = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: xdprouter("status", "--netns", ns).returncode == 0, 30, "the daemon to be ready")
            ping(bare_lab, ns)
            found = status(ns)
            assert found["in_sync"]
            assert (found["cache"]["enabled"], found["cache"]["hits"]) == (False, 0)
            assert found["cache"]["reason"] == "making map cache4: Invalid argument"
            assert "off: making map cache4: Invalid argument" in xdprouter("status", "--netns", ns).stdout
        finally:
            daemon.terminate()
            daemon.wait()
        log.seek(0)
        assert b"without a destination cache: making map cache4: Invalid argument" in log.read()
