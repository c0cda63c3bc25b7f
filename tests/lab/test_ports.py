"""Ports that come, go and change, while others carry traffic: those lose nothing, and `status` tells the truth."""

import os
import signal
import subprocess
import sys

import pytest
from pyroute2 import IPRoute

from lab import namespace
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import stream
from xdprouter import api

pytestmark = pytest.mark.alone

TRUTH_S = 1.0
"""How long `status` may lag behind the kernel."""
COMPILED_S = 30.0
"""And where a program has to be compiled first."""
RATE = 5_000


class Kernel:
    """Commands to the kernel of r1's namespace."""

    def __init__(self, ns: str):
        self.ns = ns
        with namespace.entered(ns):
            self.ipr = IPRoute()

    def add(self, name: str, **attributes) -> None:
        """A veth whose peer lies in the same namespace, both up, able to take redirected frames."""
        peer = f"{name}p"
        self.ipr.link("add", ifname=name, kind="veth", peer=peer, **attributes)
        for device in (name, peer):
            done = subprocess.run(
                namespace.command(self.ns, ["ethtool", "-K", device, "gro", "on"]), capture_output=True
            )
            assert done.returncode == 0, done.stderr
        for device in (peer, name):
            self.set(device, state="up")

    def index(self, name: str) -> int:
        return self.ipr.link_lookup(ifname=name)[0]

    def set(self, name: str, **what) -> None:
        self.ipr.link("set", index=self.index(name), **what)

    def delete(self, name: str) -> None:
        self.ipr.link("del", index=self.index(name))


@pytest.fixture
def kernel(two_hosts):
    kernel = Kernel(two_hosts.ns("r1"))
    yield kernel
    kernel.ipr.close()


@pytest.fixture
def elsewhere(two_hosts):
    """A second namespace, to move a port to."""
    name = f"{two_hosts.name}-else"
    namespace.create(name)
    yield name
    namespace.delete(name)


def _is(r1, name: str, within_s: float = TRUTH_S, **expected) -> None:
    """Soon the port looks as expected."""

    def looks_so() -> bool:
        port = r1.port(name)
        return all(port[key] == value for key, value in expected.items())

    wait_until(looks_so, within_s, f"{name} to show {expected}")


def test_a_port_is_deleted_recreated_renamed_downed_and_moved(two_hosts, r1, kernel, elsewhere):
    pid = r1.status()["pid"]
    assert two_hosts.exec("h1", ["ping", "-c", "1", "-w", "5", "10.2.0.2"]).returncode == 0
    with stream(two_hosts, "h1", "h2", "10.2.0.2", RATE) as flow:
        kernel.add("extra")
        r1.ask(api.AttachRequest("extra"))
        _is(r1, "extra", state="active", transmitting=True, ifindex=kernel.index("extra"))
        slot = r1.port("extra")["slot"]

        kernel.set("extra", state="down")
        _is(r1, "extra", state="down", transmitting=False)
        kernel.set("extra", state="up")
        _is(r1, "extra", state="active", transmitting=True)

        kernel.set("extrap", state="down")
        _is(r1, "extra", state="down", reason="no carrier", transmitting=False)
        kernel.set("extrap", state="up")
        _is(r1, "extra", state="active", transmitting=True)

        kernel.set("extra", mtu=1400)
        _is(r1, "extra", mtu=1400)
        kernel.set("extra", address="02:00:00:00:00:77")
        _is(r1, "extra", mac="02:00:00:00:00:77")

        kernel.set("extra", ifname="renamed")
        _is(r1, "extra", state="absent", ifindex=None, transmitting=False)
        assert not _has_xdp(kernel, "renamed")
        kernel.set("renamed", ifname="extra")
        _is(r1, "extra", state="active", transmitting=True, slot=slot)

        kernel.delete("extra")
        _is(r1, "extra", state="absent", transmitting=False)
        kernel.add("extra")
        _is(r1, "extra", state="active", transmitting=True, slot=slot, ifindex=kernel.index("extra"))

        with open(namespace.path(elsewhere), "rb") as there:
            kernel.set("extra", net_ns_fd=there.fileno())
        _is(r1, "extra", state="absent", transmitting=False)
        with namespace.entered(elsewhere), IPRoute() as ipr:
            (index,) = ipr.link_lookup(ifname="extra")
            assert not ipr.get_links(index)[0].get_attr("IFLA_XDP").get_attr("IFLA_XDP_ATTACHED")
        status = r1.status()
        assert not status["in_sync"]
        assert any("extra" in reason for reason in status["out_of_sync_reasons"])

        wait_until(lambda: flow.arrived() > 2000, 30, "a good measure of traffic")
        r1.ask(api.DetachRequest("extra"))
        status = r1.status()
        assert status["in_sync"]
        assert [port["name"] for port in status["ports"]] == ["left", "right"]
        assert flow.stop() == 0
    assert r1.status()["pid"] == pid
    assert r1.verdict("forward", "left") >= flow.sent


def _has_xdp(kernel: Kernel, name: str) -> bool:
    return bool(kernel.ipr.get_links(kernel.index(name))[0].get_attr("IFLA_XDP").get_attr("IFLA_XDP_ATTACHED"))


def test_a_port_can_be_configured_before_it_exists(r1, kernel):
    done = r1.ask(api.AttachRequest("later"))
    assert "absent" in done["message"]
    kernel.add("later")
    _is(r1, "later", state="active", transmitting=True)


def test_a_jumbo_port_attaches_natively(r1, kernel):
    kernel.add("jumbo", mtu=9000)
    r1.ask(api.AttachRequest("jumbo"))
    _is(r1, "jumbo", state="active", mode="native", mtu=9000)


def test_a_member_of_a_bridge_that_is_down_is_held(r1, kernel):
    kernel.ipr.link("add", ifname="br0", kind="bridge")
    kernel.add("member")
    r1.ask(api.AttachRequest("member"))
    kernel.set("member", master=kernel.index("br0"))
    reason = "the bridge br0: administratively down"  # known when the program for bridges is compiled
    _is(r1, "member", COMPILED_S, state="down", transmitting=False, reason=reason)
    kernel.set("member", master=0)
    _is(r1, "member", state="active", transmitting=True)


def test_a_peer_without_napi_is_named_and_not_redirected_to(r1, kernel):
    """The kernel announces the change of XDP features; a frame redirected there would be lost silently."""
    kernel.add("weak")
    r1.ask(api.AttachRequest("weak"))
    _is(r1, "weak", transmitting=True)
    for gro, able in (("off", False), ("on", True)):
        argv = namespace.command(kernel.ns, ["ethtool", "-K", "weakp", "gro", gro])
        assert subprocess.run(argv, capture_output=True).returncode == 0
        _is(r1, "weak", state="active", transmitting=able)
        assert ("ndo_xdp_xmit" in r1.port("weak")["reason"]) is not able


def test_frames_lost_behind_the_verdict_are_counted(two_hosts, r1):
    """h2 loses NAPI while the daemon is held: what the program redirects there is lost, and that shows."""
    ping = ["ping", "-c", "5", "-i", "0.02", "-W", "0.2", "10.2.0.2"]
    assert two_hosts.exec("h1", ping).returncode == 0
    pid, before = r1.status()["pid"], r1.port("right")["redirect_errors"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert two_hosts.exec("h2", ["ethtool", "-K", "eth0", "gro", "off"]).returncode == 0
        assert two_hosts.exec("h1", ping).returncode == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    _is(r1, "right", transmitting=False, redirect_errors=before + 5)
    assert two_hosts.exec("h1", ping).returncode == 0, "once known, the kernel forwards them"


def test_an_overrun_leads_to_a_resync_and_to_the_truth(lab_of, tmp_path):
    """A daemon that was stopped while its little receive buffer overflowed knows everything afterwards."""
    lab = lab_of("two_hosts", xdprouter=False)
    config = tmp_path / "xdprouter.toml"
    config.write_text("netlink_receive_buffer = 4096\n")
    lab.start_xdprouter("r1", ["-c", str(config)])
    r1, kernel = Router(lab, "r1"), Kernel(lab.ns("r1"))
    r1.ask(api.AttachRequest("extra"))
    pid = r1.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        kernel.add("extra")
        for mtu in range(1300, 1400):
            kernel.set("extra", mtu=mtu)
    finally:
        os.kill(pid, signal.SIGCONT)
        kernel.ipr.close()
    _is(r1, "extra", state="active", mtu=1399)
    netlink = r1.status()["netlink"]
    assert netlink["overruns"] >= 1
    assert netlink["resyncs"] >= 1
    assert r1.status()["in_sync"]


def test_the_commands_attach_and_detach(two_hosts, r1, kernel):
    kernel.add("cli")
    command = [sys.executable, "-m", "xdprouter"]
    netns = ["--netns", two_hosts.ns("r1")]
    for verb, answer in (("attach", "port cli is active"), ("detach", "port cli is detached"), ("detach", "no port")):
        done = subprocess.run([*command, verb, "cli", *netns], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert answer in done.stdout
    assert not _has_xdp(kernel, "cli")
