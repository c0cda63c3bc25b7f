"""The daemon dies, comes back, or leaves for good; packets do not notice."""

import os
import signal
import subprocess
import sys

import pytest

from lab import namespace
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import kernel_forwarded, stream
from xdprouter import api
from xdprouter.errors import NoDaemon

RATE = 20_000
RESTARTS = 5


@pytest.fixture
def bare(lab_of):
    """two_hosts without a daemon, and a Router that asks the one that the test starts."""
    lab = lab_of("two_hosts", xdprouter=False)
    for address in ("10.2.0.2", "fd02::2"):
        assert lab.exec("h1", ["ping", "-c", "1", "-w", "20", address]).returncode == 0
    return lab, Router(lab, "r1")


def test_killed_and_started_again_under_traffic(bare):
    """SIGKILL: forwarding goes on. A new daemon takes over program and counters, and not one packet is lost."""
    lab, r1 = bare
    daemon = lab.start_xdprouter("r1")
    with stream(lab, "h1", "h2", "10.2.0.2", RATE) as flow:
        forwarded = 0
        for _ in range(RESTARTS):
            wait_until(lambda: r1.verdict("forward", "left") > forwarded + 500, 30, "forwarding")  # noqa: B023
            before = r1.verdict("forward", "left")
            by_kernel, arrived = kernel_forwarded(lab.ns("r1")), flow.arrived()
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            wait_until(lambda: flow.arrived() > arrived + 1000, 30, "packets without a daemon")  # noqa: B023
            assert kernel_forwarded(lab.ns("r1")) == by_kernel, "without its daemon the fast path must go on"
            daemon = lab.start_xdprouter("r1")
            forwarded = r1.verdict("forward", "left")
            assert forwarded >= before + 1000, "the counters of the old daemon go on"
        assert flow.stop() == 0
    assert r1.verdict("forward", "left") >= flow.sent
    assert r1.status()["in_sync"]


def test_a_second_start_replaces_the_program_in_place(bare):
    lab, r1 = bare
    daemon = lab.start_xdprouter("r1")
    old = r1.status()["program_id"]
    assert _attached(lab) == {"left": old, "right": old}
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert _attached(lab) == {"left": old, "right": old}
    lab.start_xdprouter("r1")
    new = r1.status()["program_id"]
    assert new != old
    assert _attached(lab) == {"left": new, "right": new}


def test_a_port_no_longer_configured_is_released(bare, tmp_path):
    lab, r1 = bare
    daemon = lab.start_xdprouter("r1")
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    config = tmp_path / "one.toml"
    config.write_text('[[port]]\nname = "left"\n')
    argv = [sys.executable, "-m", "xdprouter", "run", "--netns", lab.ns("r1"), "-c", str(config)]
    second = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _status_of(r1), 30, "the second daemon")
        assert [port["name"] for port in r1.status()["ports"]] == ["left"]
        assert set(_attached(lab)) == {"left"}
    finally:
        second.terminate()
        second.wait()


def test_stop_leaves_forwarding_and_stop_detach_leaves_nothing(bare):
    lab, r1 = bare
    daemon = lab.start_xdprouter("r1")
    command = [sys.executable, "-m", "xdprouter", "stop", "--netns", lab.ns("r1")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert daemon.wait(timeout=30) == 0
    assert set(_attached(lab)) == {"left", "right"}
    with pytest.raises(NoDaemon):
        r1.ask(api.StatusRequest())

    daemon = lab.start_xdprouter("r1")
    assert subprocess.run([*command, "--detach"], capture_output=True).returncode == 0
    assert daemon.wait(timeout=30) == 0
    assert _attached(lab) == {}
    assert not os.path.exists(r1.instance.directory)
    assert lab.exec("h1", ["ping", "-c", "1", "-w", "20", "10.2.0.2"]).returncode == 0


def test_generic_mode_only_when_asked_for(bare):
    lab, r1 = bare
    lab.start_xdprouter("r1", ["--mode", "generic"])
    assert {port["mode"] for port in r1.status()["ports"]} == {"generic"}
    assert _modes(lab) == {"left": "xdpgeneric", "right": "xdpgeneric"}
    before = r1.verdict("forward", "left")
    assert lab.exec("h1", ["ping", "-c", "3", "-i", "0.01", "10.2.0.2"]).returncode == 0
    assert r1.verdict("forward", "left") >= before + 2
    r1.ask(api.AttachRequest("left", "native"))
    assert _modes(lab) == {"left": "xdp", "right": "xdpgeneric"}


def _status_of(r1: Router) -> bool:
    try:
        return bool(r1.status())
    except NoDaemon:
        return False


def _xdp(lab, attribute: str) -> dict:
    from pyroute2 import IPRoute

    with namespace.entered(lab.ns("r1")):
        ipr = IPRoute()
    with ipr:
        found = {}
        for link in ipr.get_links():
            value = link.get_attr("IFLA_XDP").get_attr(attribute)
            if value:
                found[link.get_attr("IFLA_IFNAME")] = value
    return found


def _attached(lab) -> dict[str, int]:
    return _xdp(lab, "IFLA_XDP_PROG_ID")


def _modes(lab) -> dict[str, str]:
    return _xdp(lab, "IFLA_XDP_ATTACHED")
