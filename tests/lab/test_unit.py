# SPDX-License-Identifier: GPL-2.0-only
"""The units of contrib/ under a real systemd, with all of their sandbox: what they promise is what happens.

One systemd for the file, in the guest of tests/vm where a start takes half a minute; each test takes up what the one
before it has left running, and starts it if need be.
"""

import grp
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.errors import LabTimeout
from lab.lab import Lab
from lab.topology import load
from lab.wait import PATIENCE, wait_until
from tests.lab.conftest import xdp
from tests.lab.manager import SYSTEMD, UNITS, Manager, manager
from tests.lab.wire import kernel_forwarded
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.instance import Instance

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF"),
    pytest.mark.skipif(not SYSTEMD.exists() or not shutil.which("systemctl"), reason="systemd is not installed"),
    pytest.mark.timeout(600),
]
UNIT = "xdprouter.service"
PORTS = ("left", "right")
CONFIG = "".join(f'[[port]]\nname = "{port}"\n' for port in PORTS)
BOUND_S = 30
NOBODY = 65534
PING_INTERVAL_S = 0.05


class Machine:
    """h1 - router - h2, and on the router systemd; besides a namespace for xdprouter@.service."""

    def __init__(self, lab: Lab, systemd: Manager, other: str, group: str):
        self.lab = lab
        self.ns = lab.ns("r1")
        self.systemd = systemd
        self.other = other
        self.group = group

    def ask(self, request: api.Request, netns: str | None = None) -> dict:
        """The daemon of that instance, by its control socket."""
        asked = Instance(netns)
        asked.socket = self.systemd.path(asked.socket)
        return client.ask(asked, request)

    def status(self, netns: str | None = None) -> dict:
        return self.ask(api.StatusRequest(), netns)

    def started(self) -> dict:
        done = self.systemd.systemctl("start", UNIT)
        assert done.returncode == 0, done.stderr + self.systemd.said()
        return self.status()

    def xdprouter(self, *arguments: str) -> str:
        done = self.systemd.run("xdprouter", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, text: str) -> None:
        self.systemd.path("/etc/xdprouter.toml").write_text(f'control_group = "{self.group}"\n{text}')

    def attached(self) -> dict[str, int]:
        """Program id by port, as the kernel has it."""
        return {port: found["prog"]["id"] for port in PORTS if (found := xdp(self.ns, port))}


def forwarded(status: dict) -> int:
    return sum(port["ingress"].get("forward", {}).get("packets", 0) for port in status["ports"])


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    lab = Lab(load("two_hosts"), name=f"x{os.getpid()}unit")
    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY, *os.getgroups()))
    lab.up(xdprouter=False)
    try:
        with network.network("unit") as other:
            network.build(other)
            files = {
                "xdprouter.toml": f'control_group = "{group}"\n{CONFIG}',
                f"xdprouter-{other}.toml": 'on_exit = "detach"\n[[port]]\nname = "in0"\n[[port]]\nname = "out0"\n',
            }
            with ExitStack() as stack:
                try:
                    systemd = stack.enter_context(manager(lab.ns("r1"), files, [other]))
                except LabTimeout as error:
                    pytest.skip(f"systemd cannot be started here: {error}")
                yield Machine(lab, systemd, other, group)
    finally:
        lab.down()


class Pings:
    """Back and forth across the router."""

    def __init__(self, machine: Machine):
        command = ["ping", "-i", str(PING_INTERVAL_S), "-W", "5", "10.2.0.2"]
        self._process = machine.lab.popen("h1", command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.hear(3)

    def hear(self, number: int) -> None:
        """So many more answers."""
        while number and (line := self._process.stdout.readline()):
            self.lines.append(line)
            number -= "bytes from" in line

    def stop(self) -> tuple[int, int]:
        """Sent, and not answered."""
        self._process.send_signal(signal.SIGINT)
        self.lines += self._process.communicate(timeout=60)[0].splitlines(keepends=True)
        sent, answered = re.search(r"(\d+) packets transmitted, (\d+) received", "".join(self.lines)).groups()
        return int(sent), int(sent) - int(answered)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def pings(machine: Machine) -> Iterator[Pings]:
    made = Pings(machine)
    try:
        yield made
    finally:
        made.close()


# --- start ------------------------------------------------------------------------------------------


def test_start_returns_when_the_ports_forward(machine):
    done = machine.systemd.systemctl("start", UNIT)
    assert done.returncode == 0, done.stderr + machine.systemd.said()
    attached, status = machine.attached(), machine.status()
    assert set(attached) == set(PORTS), "ready means attached"
    assert set(attached.values()) == {status["program_id"]}
    assert status["in_sync"] and [port["state"] for port in status["ports"]] == ["active", "active"]
    state, text, pid = machine.systemd.show(UNIT, "ActiveState", "StatusText", "MainPID")
    assert (state, text, int(pid)) == ("active", "instance default, 2 configured ports", status["pid"])


def test_packets_cross_on_the_fast_path(machine):
    machine.started()
    with pings(machine):  # resolves what is not yet
        pass
    before, by_kernel = forwarded(machine.status()), kernel_forwarded(machine.ns)
    with pings(machine) as crossing:
        crossing.hear(20)
        sent, lost = crossing.stop()
    assert lost == 0
    answers = [line for line in crossing.lines if "bytes from" in line]
    assert len(answers) == sent and all("ttl=63 " in line for line in answers), "decremented once"
    assert forwarded(machine.status()) - before >= 2 * sent
    assert kernel_forwarded(machine.ns) == by_kernel


# --- the sandbox ------------------------------------------------------------------------------------


def numbers(unit: Path) -> set[int]:
    """Of the capabilities that a unit leaves."""
    names = re.search(r"^CapabilityBoundingSet=(.+)$", unit.read_text(), re.MULTILINE)[1].split()
    header = Path("/usr/include/linux/capability.h").read_text()
    return {int(re.search(rf"^#define {name}\s+(\d+)", header, re.MULTILINE)[1]) for name in names}


def test_the_sandbox_is_on(machine):
    pid = str(machine.started()["pid"])
    lines = machine.systemd.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    process = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    mask = sum(1 << number for number in numbers(UNITS / UNIT))
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    assert int(process["CapEff"], 16) == int(process["CapBnd"], 16) == mask
    inside = ["nsenter", f"--target={pid}", "--mount", "--"]
    for directory in ("/usr", "/etc", "/var", "/run", "/sys/fs/cgroup"):
        done = machine.systemd.run(*inside, "mkdir", f"{directory}/xdprouter-was-here")
        assert done.returncode != 0 and "Read-only file system" in done.stderr, directory
    assert machine.systemd.run(*inside, "sh", "-ec", "touch /run/xdprouter/x; rm /run/xdprouter/x").returncode == 0
    assert machine.systemd.run(*inside, "sh", "-c", "ls -A /root /dev/mem /dev/kmsg").stdout.split() == ["/root:"]


def test_the_pins_are_outside_of_the_sandbox(machine):
    """Else they would be gone with the service."""
    machine.started()
    links = machine.systemd.path("/run/xdprouter/default/bpf")
    assert len(list(links.glob("v*/links/*"))) == 2
    mounts = machine.systemd.run("cat", "/proc/self/mountinfo").stdout
    assert len(re.findall(r" /run/xdprouter/default/bpf .* - bpf ", mounts)) == 1


# --- from outside -----------------------------------------------------------------------------------


def test_the_control_group_and_no_other_reaches_the_sockets(machine):
    machine.started()
    gid = grp.getgrnam(machine.group).gr_gid
    directory = machine.systemd.path("/run/xdprouter/default")
    for name, mode in ((".", 0o750), ("control.sock", 0o660), ("events.sock", 0o660)):
        found = (directory / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, gid, mode), name
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/xdprouter/default/control.sock')"
    for number, allowed in ((gid, True), (NOBODY, False)):
        person = ["setpriv", f"--reuid={NOBODY}", f"--regid={number}", "--clear-groups"]
        done = machine.systemd.run(*person, "/usr/bin/python3", "-S", "-c", connect)
        assert (done.returncode == 0) is allowed, done.stderr
        assert allowed or "PermissionError" in done.stderr


def test_the_commands_work_from_outside(machine, monkeypatch):
    status = machine.started()
    assert json.loads(machine.xdprouter("status", "--json"))["pid"] == status["pid"]
    with pings(machine):
        pass
    # The first question waits for a program to be compiled: on an emulated machine longer than the command does.
    monkeypatch.setattr(client, "TIMEOUT_MS", int(client.TIMEOUT_MS * PATIENCE))
    assert machine.ask(api.ExplainRequest(bytes(64).hex(), "left"))
    explained = json.loads(machine.xdprouter("explain", "10.1.0.2", "10.2.0.2", "--iif", "left", "--json"))
    assert explained["verdict"] == "forward"
    command = machine.systemd.command("xdprouter", "monitor", "--json")
    monitor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.set_blocking(monitor.stdout.fileno(), False)
    changed, mtu = 0.0, 1500

    def heard() -> str:
        """Something changes every second, as it is not known when the monitor begins to listen."""
        nonlocal changed, mtu
        if time.monotonic() - changed > 1:
            changed, mtu = time.monotonic(), 2999 - mtu
            network.ip(machine.ns, f"link set right mtu {mtu}")
        return monitor.stdout.readline()

    try:
        event = json.loads(wait_until(heard, BOUND_S, "an event"))
    finally:
        monitor.kill()  # nsenter's child is in the manager's PID namespace, and ends when nobody reads
        monitor.wait()
        monitor.stdout.close()
        network.ip(machine.ns, "link set right mtu 1500")
    assert (event["kind"], event["port"]) == ("device", "right")


# --- reload, restart, watchdog ----------------------------------------------------------------------


def test_reload_says_so_and_a_broken_file_changes_nothing(machine):
    machine.started()
    systemd = machine.systemd
    assert systemd.systemctl("log-level", "debug").returncode == 0
    try:
        machine.configure('[[port]]\nname = "later"\n' + CONFIG)
        assert (done := systemd.systemctl("reload", UNIT)).returncode == 0, done.stderr
        assert [port["state"] for port in machine.status()["ports"] if port["name"] == "later"] == ["absent"]
        wait_until(lambda: "(READY=1, STATUS=instance default, 3 configured ports" in systemd.said(), BOUND_S, "READY")
        said = systemd.said()
        reloading, ready = said.index("(RELOADING=1"), said.index("(READY=1, STATUS=instance default, 3 configured")
        assert reloading < ready and "Changed running -> reload" in said
        machine.configure("guard = 7\n")
        assert systemd.systemctl("reload", UNIT).returncode != 0
        assert len(machine.status()["ports"]) == 3 and systemd.show(UNIT, "ActiveState") == ["active"]
    finally:
        systemd.systemctl("log-level", "info")
        machine.configure(CONFIG)
    assert systemd.run("kill", "-HUP", *systemd.show(UNIT, "MainPID")).returncode == 0
    status = ["instance default, 2 configured ports", "running"]
    wait_until(lambda: systemd.show(UNIT, "StatusText", "SubState") == status, BOUND_S, "the reload")


def test_a_restart_loses_no_packet_and_no_count(machine):
    before, attached = machine.started(), machine.attached()
    with pings(machine) as crossing:
        by_kernel = kernel_forwarded(machine.ns)
        done = machine.systemd.systemctl("restart", UNIT)
        assert done.returncode == 0, done.stderr + machine.systemd.said()
        sent, lost = crossing.stop()
    after = machine.status()
    assert lost == 0 and kernel_forwarded(machine.ns) == by_kernel, "the fast path has gone on"
    assert after["pid"] != before["pid"] and after["last_swap"]["before"] == before["program_id"]
    assert set(machine.attached().values()).isdisjoint(attached.values()), "a new program in the links"
    assert forwarded(after) >= forwarded(before) + 2 * sent


def test_the_watchdog_restarts_it_and_the_ports_go_on(machine):
    before = machine.started()
    (restarts,) = machine.systemd.show(UNIT, "NRestarts")
    socket_file = machine.systemd.path("/run/xdprouter/default/control.sock")
    old = socket_file.stat().st_ino
    with pings(machine) as crossing:
        by_kernel = kernel_forwarded(machine.ns)
        assert machine.systemd.run("kill", "-STOP", str(before["pid"])).returncode == 0
        # The wait is long enough to start another one meanwhile.
        assert machine.systemd.systemctl("start", f"xdprouter@{machine.other}").returncode == 0, machine.systemd.said()
        wait_until(lambda: socket_file.stat().st_ino != old, 120, "another daemon")
        wait_until(lambda: machine.systemd.show(UNIT, "ActiveState") == ["active"], BOUND_S, "it to be ready")
        sent, lost = crossing.stop()
    assert lost == 0 and kernel_forwarded(machine.ns) == by_kernel, "the fast path has gone on"
    assert machine.systemd.show(UNIT, "NRestarts") == [str(int(restarts) + 1)]
    assert f"{UNIT}: Watchdog timeout" in machine.systemd.said()
    assert forwarded(machine.status()) >= forwarded(before) + 2 * sent


# --- another namespace ------------------------------------------------------------------------------


def test_the_template_serves_a_namespace_and_on_exit_detaches_its_ports(machine):
    unit = f"xdprouter@{machine.other}.service"
    assert (done := machine.systemd.systemctl("start", unit)).returncode == 0, done.stderr + machine.systemd.said()
    status = machine.status(machine.other)
    assert status["in_sync"] and [port["state"] for port in status["ports"]] == ["active", "active"]
    assert xdp(machine.other, "in0") and xdp(machine.other, "out0")
    assert machine.systemd.show(unit, "StatusText") == [f"instance {machine.other}, 2 configured ports"]
    assert machine.systemd.systemctl("stop", unit).returncode == 0
    assert machine.systemd.show(unit, "ActiveState", "Result") == ["inactive", "success"], machine.systemd.said()
    wait_until(lambda: not xdp(machine.other, "in0") and not xdp(machine.other, "out0"), BOUND_S, "no XDP")
    left = machine.systemd.run("find", f"/run/xdprouter/{machine.other}")
    assert not left.stdout, left.stdout + machine.systemd.said()
    mounts = machine.systemd.run("cat", "/proc/self/mountinfo").stdout
    assert f"/run/xdprouter/{machine.other}" not in mounts


# --- stop -------------------------------------------------------------------------------------------


def test_stopped_by_command_it_stays_stopped_and_the_ports_forward(machine):
    machine.started()
    attached = machine.attached()
    machine.xdprouter("stop")
    wait_until(
        lambda: machine.systemd.show(UNIT, "ActiveState", "Result") == ["inactive", "success"], BOUND_S, "an end"
    )
    assert machine.attached() == attached
    by_kernel = kernel_forwarded(machine.ns)
    with pings(machine) as crossing:
        assert crossing.stop()[1] == 0
    assert kernel_forwarded(machine.ns) == by_kernel
