# SPDX-License-Identifier: GPL-2.0-only
"""The units: the daemon does all its work with the capabilities that they leave it, and tells the manager how it is."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from lab import instance
from lab.errors import LabError
from lab.wait import wait_until
from tests.lab.command import ROOT, xdprouter
from tests.lab.conftest import xdp
from tests.lab.flood import PORTS, Site, flood, site
from xdprouter.bench import network

UNITS = sorted((ROOT / "contrib" / "systemd").glob("*.service"))
MOST_EXPOSED = 4.0


def capabilities(unit) -> list[str]:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.+)$", unit.read_text(), re.MULTILINE)
    return [name.removeprefix("CAP_").lower() for name in line.split()]


def wrapper(names: list[str]) -> str:
    """As systemd does it: a bounding set, which a root process then has all of."""
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    return f"setpriv --no-new-privs --inh-caps=-all --bounding-set={bounding} --"


NEEDED = capabilities(UNITS[0])


@pytest.fixture
def router() -> Iterator[Site]:
    with site("systemd") as made:
        network.add_pair(made.ns, "extra")
        # What ExecStartPre does outside of the sandbox.
        bpffs = made.instance.directory / "bpf"
        bpffs.mkdir(parents=True)
        subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(bpffs)], check=True)
        yield made


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_right_and_little_exposed(unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True
    )
    assert "Unknown" not in done.stderr and "ignoring" not in done.stderr
    found = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert found and float(found[1]) <= MOST_EXPOSED


def test_both_units_leave_the_same():
    assert len(UNITS) == 2 and capabilities(UNITS[1]) == NEEDED
    for unit in UNITS:
        text = unit.read_text()
        assert all(f"# CAP_{name.upper()} " in text for name in NEEDED), "each with its reason"


def test_everything_works_with_the_capabilities_of_the_unit(router, monkeypatch):
    """Start, forwarding, attach, reload, explain, restart with a program to take over, and a control group."""
    import grp

    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid not in (0, *os.getgroups()))
    monkeypatch.setenv(instance.WRAPPER, wrapper(NEEDED))
    ports = "".join(f'[[port]]\nname = "{port}"\n' for port in PORTS)
    router.configure(f'control_group = "{group}"\n{ports}')
    router.start()
    with open(f"/proc/{router.daemon.pid}/status") as file:
        effective = int(next(line.split()[1] for line in file if line.startswith("CapEff:")), 16)
    assert effective.bit_count() == len(NEEDED)
    with flood(router) as traffic:
        traffic.carry(1000)
        assert xdprouter("attach", "extra", "--mode", "generic", "--netns", router.ns).returncode == 0
        assert xdp(router.ns, "extra")
        router.configure(f'control_group = "{group}"\nmetrics = "127.0.0.1:19475"\nguard = "warn"\n{ports}')
        assert (done := xdprouter("reload", "--netns", router.ns)).returncode == 0, done.stderr
        explained = xdprouter("explain", network.SOURCE[4], "10.0.1.2", "--iif", "in0", "--netns", router.ns, "--json")
        assert json.loads(explained.stdout)["verdict"] == "forward", explained.stderr
        for end in (router.end, router.kill):
            end()
            router.start()
            assert router.status()["in_sync"]
        assert traffic.stop() == 0
    status = router.status()
    assert status["cache"]["enabled"] and not status["guard"]["findings"]
    assert router.forwarded() >= traffic.sent
    socket_file = router.instance.socket.stat()
    assert grp.getgrgid(socket_file.st_gid).gr_name == group and socket_file.st_mode & 0o777 == 0o660


@pytest.mark.parametrize("left_out", NEEDED)
def test_none_of_them_can_be_left_out(router, monkeypatch, left_out):
    """Without it, a start or the restart after it fails, or the control group gets no socket."""
    import grp

    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid not in (0, *os.getgroups()))
    router.configure(f'control_group = "{group}"\n[[port]]\nname = "in0"\n')
    monkeypatch.setenv(instance.WRAPPER, wrapper([name for name in NEEDED if name != left_out]))
    with pytest.raises(LabError, match="exited with"):
        router.start(wait=False)
        router.end()
        router.start(wait=False)


class Manager:
    """The end of sd_notify that systemd has."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def hear(self, wanted: str) -> dict[str, str]:
        """The next message with this key."""
        while True:
            fields = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if wanted in fields:
                return fields


def test_the_manager_is_told(router, tmp_path, monkeypatch):
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    router.start()
    assert manager.hear("READY")["STATUS"] == f"instance {router.ns}, 2 configured ports"
    for _ in range(3):
        assert manager.hear("WATCHDOG") == {"WATCHDOG": "1"}
    router.configure('[[port]]\nname = "in0"\n')
    assert xdprouter("reload", "--netns", router.ns).returncode == 0
    assert int(manager.hear("RELOADING")["MONOTONIC_USEC"]) > 0
    assert manager.hear("READY")["STATUS"] == f"instance {router.ns}, 1 configured port"
    router.configure("nonsense")
    assert xdprouter("reload", "--netns", router.ns).returncode == 2
    manager.hear("RELOADING")
    manager.hear("READY")
    router.end()
    assert manager.hear("STOPPING")["STATUS"] == "ports are left forwarding"
    manager.socket.close()


def test_a_manager_that_has_gone_is_no_reason_to_fail(router, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    router.start()
    wait_until(lambda: "the service manager was not told READY" in router.log.read_text(), 30, "the warning")
