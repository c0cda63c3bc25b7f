# SPDX-License-Identifier: GPL-2.0-only
"""What the daemon tells while things happen to its ports, neighbours, firewall and routes, and who may listen."""

import asyncio
import grp
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from lab import instance, namespace
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.test_routing import CONVERGED_S, _learned, _reaches
from tests.lab.wire import stream
from xdprouter import api, events
from xdprouter.subscriber import Subscriber

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF")

ROOT = Path(__file__).resolve().parent.parent.parent
BOUND_S = 30.0
"""Of every wait, generous; what has no announcement is found by the second."""
H2 = "10.2.0.2"


class Ear:
    """All events from the moment on in which it is open. A context manager."""

    def __init__(self, router: Router):
        self._subscriber = Subscriber(router.instance, wait=True)
        self.heard: list[dict] = []

    def __enter__(self) -> "Ear":
        self._subscriber.__enter__()
        wait_until(lambda: self._listen() or self._subscriber.in_force, BOUND_S, "the subscription to be in force")
        return self

    def __exit__(self, *_) -> None:
        self._subscriber.__exit__()

    def _listen(self) -> None:
        while event := self._subscriber.next(timeout_ms=20):
            self.heard.append(event)

    def expect(self, kind: str, matches: Callable[[dict], bool] = lambda _: True, **fields) -> dict:
        """The first such event that was not asked for yet; all before it are done with."""

        def found() -> dict | None:
            self._listen()
            for number, event in enumerate(self.heard):
                if event["kind"] == kind and fields.items() <= event.items() and matches(event):
                    del self.heard[: number + 1]
                    return event
            return None

        try:
            return wait_until(found, BOUND_S, f"the event {kind} {fields}")
        except Exception as error:
            raise AssertionError(f"{error}; heard: {self.heard}") from error


def ip(lab, node: str, line: str) -> None:
    done = lab.exec(node, ["ip", *line.split()])
    assert done.returncode == 0, done.stderr


def nft(lab, line: str) -> None:
    done = lab.exec("r1", ["nft", line])
    assert done.returncode == 0, done.stderr


def test_ports_neighbours_and_the_guard_are_heard_of(two_hosts, r1):
    with stream(two_hosts, "h1", "h2", H2, 100), Ear(r1) as ear:
        ear.expect("neighbour", change="managed", device="right", address=H2, managed=True)

        two_hosts.link_down("r1", "right")
        assert "administratively down" in ear.expect("port", port="right", state="down", before="active")["reason"]
        gone = ear.expect("neighbour", change="unresolved", device="right", address=H2)
        assert (gone["mac"], gone["managed"]) == (None, False)
        two_hosts.link_up("r1", "right")
        ear.expect("port", port="right", state="active", before="down", reason="")
        back = ear.expect("neighbour", change="resolved", device="right", address=H2)
        assert back["mac"] == back["mac_before"] == gone["mac_before"] != None  # noqa: E711

        # h2 gets another MAC, and says so.
        ip(two_hosts, "h2", "link set eth0 address 02:00:00:00:0f:01")
        two_hosts.exec("h2", ["ping", "-c", "1", "-W", "5", "10.2.0.1"])
        moved = ear.expect("neighbour", lambda event: event["mac"] == "02:00:00:00:0f:01", device="right", address=H2)
        assert moved["mac_before"] == back["mac"]

        nft(
            two_hosts, "add table ip t; add chain ip t c { type filter hook forward priority 0; }; add rule ip t c drop"
        )
        text = ear.expect("guard", found=True, device=None)["text"]
        assert "chain ip t c" in text
        guarded = {ear.expect("port", state="guarded", before="active")["port"] for _ in range(2)}
        assert guarded == {"left", "right"}
        nft(two_hosts, "delete table ip t")
        ear.expect("guard", found=False, text=text)
        ear.expect("port", port="right", state="active", before="guarded")


def test_a_port_that_is_made_anew_is_another_device(two_hosts, r1):
    with Ear(r1) as ear:
        ip(two_hosts, "r1", "link add spare type veth peer name other")
        two_hosts.exec("r1", ["ip", "link", "set", "other", "up"])
        ip(two_hosts, "r1", "link set spare up")
        r1.ask(api.AttachRequest("spare"))
        ear.expect("port", port="spare", state="active")
        ip(two_hosts, "r1", "link set spare mtu 1400")
        ear.expect("device", port="spare", what="mtu", before="1500", now="1400")
        ip(two_hosts, "r1", "link del spare")
        ear.expect("port", port="spare", state="absent")
        ear.expect("sync", lambda event: "spare" in event["reasons"][0], in_sync=False)
        ip(two_hosts, "r1", "link add spare type veth peer name other")
        ear.expect("device", port="spare", what="ifindex")
        ear.expect("sync", in_sync=True, reasons=[])
        r1.ask(api.DetachRequest("spare"))
        ear.expect("port_removed", port="spare")


def test_cache_and_netlink_overruns_are_heard_of(lab_of, tmp_path):
    lab = lab_of("two_hosts", xdprouter=False)
    config = tmp_path / "small.toml"
    config.write_text("netlink_receive_buffer = 4096\n")
    instance.start(lab.ns("r1"), ["left", "right"], lab.directory("r1"), ["-c", str(config)])
    router = Router(lab, "r1")
    with Ear(router) as ear:
        sysctl = "net.ipv4.fib_multipath_use_neigh"
        assert lab.exec("r1", ["sysctl", "-w", f"{sysctl}=1"]).returncode == 0
        assert sysctl in ear.expect("cache", granted=False)["reason"]
        assert lab.exec("r1", ["sysctl", "-w", f"{sysctl}=0"]).returncode == 0
        ear.expect("cache", granted=True, reason="")

        pid = router.status()["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(60):
                ip(lab, "r1", f"link set left mtu {1400 + number % 2}")
        finally:
            os.kill(pid, signal.SIGCONT)
        lost = ear.expect("netlink")
        assert lost["overruns"] >= 1 and lost["resyncs"] >= 1


def test_frr_s_routes_coming_and_going_are_heard_of(lab_of):
    lab = lab_of("frr_ospf_bgp")
    router = Router(lab, "r2")
    wait_until(lambda: _learned(lab, "r2", "10.2.0.0/24", "bgp"), CONVERGED_S, "r2 to learn 10.2.0.0/24")
    wait_until(lambda: _reaches(lab, H2), CONVERGED_S, "h1 to reach h2")
    with Ear(router) as ear:
        lab.link_down("r2", "east_a")
        lab.link_down("r2", "east_b")
        ear.expect("port", port="east_b", state="down", before="active")
        lab.link_up("r2", "east_a")
        lab.link_up("r2", "east_b")
        churn = ear.expect("routes", lambda event: event["by_protocol"].get("bgp", {}).get("added_per_s", 0) > 0)
        assert churn["changes"] > 0
        rest = ear.expect("routes", by_protocol={})
        assert rest["changes"] >= churn["changes"]


def test_a_daemon_s_end_and_beginning_are_heard_of(two_hosts, r1):
    with Ear(r1) as ear:
        before = r1.status()
        instance.stop(two_hosts.directory("r1"))
        assert "left forwarding" in ear.expect("daemon", state="stopping", pid=before["pid"])["text"]
        ear.expect("disconnected")
        instance.start(two_hosts.ns("r1"), ["left", "right"], two_hosts.directory("r1"))
        ear.expect("connected")
        os.kill(r1.status()["pid"], signal.SIGKILL)
        ear.expect("disconnected")


SLOW = 50


def test_fifty_who_do_not_read_disturb_nobody(two_hosts, r1):
    context = zmq.Context()
    try:
        for _ in range(SLOW):
            sock = context.socket(zmq.SUB)
            sock.setsockopt(zmq.RCVHWM, 1)
            sock.setsockopt(zmq.SUBSCRIBE, b"")
            sock.connect(f"ipc://{r1.instance.events_socket}")
        with Ear(r1) as ear, stream(two_hosts, "h1", "h2", H2, 500) as flow:
            wait_until(lambda: r1.egress("right") > 100, BOUND_S, "fast-path traffic")
            ip(two_hosts, "r1", "link add spare type veth peer name other")
            heard = 0
            for _ in range(60):  # a port without a carrier, so there is little to wait for
                r1.ask(api.AttachRequest("spare"))
                r1.ask(api.DetachRequest("spare"))
                ear.expect("port", port="spare")
                ear.expect("port_removed", port="spare")
                heard += 2
            assert not [event for event in ear.heard if event["kind"] == "lost"]
            before = flow.arrived()
            wait_until(lambda: flow.arrived() > before + 100, BOUND_S, "traffic to go on")
        status = r1.status()
        assert status["in_sync"], status["out_of_sync_reasons"]
        assert status["cache"]["lease_ok"]
        assert status["daemon"]["rss_bytes"] < 200 << 20
    finally:
        context.destroy(linger=0)


def test_the_event_socket_is_the_control_groups(lab_of, tmp_path):
    """As the control socket; somebody else cannot connect."""
    lab = lab_of("two_hosts", xdprouter=False)
    group = grp.getgrgid(12).gr_name  # any that exists
    config = tmp_path / "c.toml"
    config.write_text(f'control_group = "{group}"\n')
    instance.start(lab.ns("r1"), ["left"], lab.directory("r1"), ["-c", str(config)])
    there = Router(lab, "r1").instance
    found = {path: path.stat() for path in (there.socket, there.events_socket)}
    assert {(stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid) for s in found.values()} == {(0o660, 0, 12)}


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def monitor() -> Iterator[Callable[..., subprocess.Popen]]:
    """`monitor(router, *options)` -> the command, its output a pipe of text."""
    made: list[subprocess.Popen] = []

    def start(router: Router, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "xdprouter", "monitor", "--netns", router.instance.name, *options]
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=_heed_ctrl_c,
        )  # fmt: skip
        made.append(child)
        return child

    yield start
    for child in made:
        child.kill()
        child.communicate()


def _heed_ctrl_c() -> None:
    """In the child: a test run in the background has it ignored, and would hand that down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def first_line(lab, child: subprocess.Popen) -> str:
    """What it prints of a port's ups and downs, which go on until it has printed something."""
    os.set_blocking(child.stdout.fileno(), False)
    states = iter(range(1000))

    def printed() -> str:
        ip(lab, "r1", f"link set right mtu {1400 + next(states) % 2}")
        return child.stdout.readline()

    found = wait_until(printed, BOUND_S, "a line of the monitor")
    os.set_blocking(child.stdout.fileno(), True)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT], ids=["Ctrl-C"])
def test_monitor_prints_lines_at_once_and_ends_cleanly(two_hosts, r1, monitor, number):
    child = monitor(r1)
    assert "port right has mtu 140" in first_line(two_hosts, child)
    child.send_signal(number)
    _, errors = child.communicate(timeout=BOUND_S)
    assert (child.returncode, errors) == (0, "")


def test_monitor_prints_objects_and_ends_when_nobody_reads(two_hosts, r1, monitor):
    child = monitor(r1, "--json")
    event = json.loads(first_line(two_hosts, child))
    assert event["version"] == events.VERSION
    assert (event["kind"], event["what"], event["port"]) == ("device", "mtu", "right")
    child.stdout.close()
    assert child.wait(BOUND_S) == 0
    assert child.stderr.read() == ""


def test_monitor_ends_with_3_when_the_daemon_goes_away(two_hosts, r1, monitor):
    child = monitor(r1)
    first_line(two_hosts, child)
    instance.stop(two_hosts.directory("r1"))
    out, errors = child.communicate(timeout=BOUND_S)
    assert child.returncode == 3
    assert out.splitlines()[-1].endswith("the daemon has gone away")
    assert (
        errors
        == f"xdprouter: the daemon of instance {r1.instance.name} has gone away; --follow waits for the next one\n"
    )


def test_monitor_follows_from_one_daemon_to_the_next(two_hosts, r1, monitor):
    instance.stop(two_hosts.directory("r1"))
    child = monitor(r1, "--follow", "--json")
    instance.start(two_hosts.ns("r1"), ["left", "right"], two_hosts.directory("r1"))
    assert json.loads(child.stdout.readline())["kind"] == "connected"
    instance.stop(two_hosts.directory("r1"))
    seen = []
    while "connected" not in seen:
        seen.append(json.loads(child.stdout.readline())["kind"])
        if seen[-1] == "disconnected":
            instance.start(two_hosts.ns("r1"), ["left", "right"], two_hosts.directory("r1"))
    assert seen.index("daemon") < seen.index("disconnected") < seen.index("connected")


FROZEN_S = 8.0
"""A silent daemon is told of well within this, and that it is back"""


def test_monitor_tells_of_a_frozen_daemon_and_of_its_return(two_hosts, r1, monitor):
    child = monitor(r1, "--json")
    first_line(two_hosts, child)
    os.set_blocking(child.stderr.fileno(), False)
    pid = r1.status()["pid"]
    for _ in range(2):
        os.kill(pid, signal.SIGSTOP)
        try:
            line = wait_until(child.stderr.readline, FROZEN_S, "a line about its silence")
            assert f"the daemon of instance {r1.instance.name} has said nothing for " in line
        finally:
            os.kill(pid, signal.SIGCONT)
        line = wait_until(child.stderr.readline, FROZEN_S, "a line about its return")
        assert line == f"xdprouter: the daemon of instance {r1.instance.name} is heard again\n"
    first_line(two_hosts, child)
    child.send_signal(signal.SIGINT)
    assert child.wait(BOUND_S) == 0


def test_monitor_of_a_daemon_that_is_frozen_already(two_hosts, r1, monitor):
    pid = r1.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        child = monitor(r1)
        os.set_blocking(child.stderr.fileno(), False)
        assert "has said nothing for" in wait_until(child.stderr.readline, BOUND_S, "a line about its silence")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "is heard again" in wait_until(child.stderr.readline, FROZEN_S, "a line about its return")
    assert "port right has mtu 140" in first_line(two_hosts, child)


# --- top --------------------------------------------------------------------------------------------


def test_top_shows_a_router_at_work_and_survives_a_restart(two_hosts, r1):
    from tests.unit.test_top import SIZE, lines
    from xdprouter.top.app import TopApp
    from xdprouter.top.source import Source

    app = TopApp(Source(r1.instance))

    async def until(pilot, holds: Callable[[list[str]], bool], what: str) -> None:
        for _ in range(600):
            await pilot.pause(0.1)
            if holds(lines(app.export_screenshot())):
                return
        raise AssertionError(f"waited in vain for {what}: {lines(app.export_screenshot())}")

    def fast(screen: list[str]) -> bool:
        columns = next((line.split() for line in screen if line.startswith("left ")), [])
        return columns[1:2] == ["active"] and 50 < float(columns[2].replace("k", "e3")) < 500

    def unanswered(screen: list[str]) -> int:
        found = re.search(r"no answer for (\d+) s", screen[0])
        return int(found[1]) if found else 0

    async def script() -> None:
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, fast, "the rate of port left")
            await until(pilot, lambda screen: any(f"{H2} right" in line for line in screen), "the next hop")
            await until(pilot, lambda screen: any(line.startswith("forward ") for line in screen), "the verdict")
            await asyncio.to_thread(
                nft, two_hosts, "add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }"
            )
            await until(pilot, lambda screen: any(line.startswith("left  guarded") for line in screen), "the guard")
            await until(pilot, lambda screen: any("guard all ports: found" in line for line in screen), "the event")
            await asyncio.to_thread(nft, two_hosts, "delete table ip t")
            pid = r1.status()["pid"]
            os.kill(pid, signal.SIGSTOP)
            try:
                for seconds in (4, 12):  # also after the client has given up, and asked again
                    await until(pilot, lambda screen, n=seconds: unanswered(screen) >= n, f"{seconds} s of silence")
            finally:
                os.kill(pid, signal.SIGCONT)
            await until(pilot, lambda screen: "in sync" in screen[0] and fast(screen), "the daemon to answer again")
            await asyncio.to_thread(instance.stop, two_hosts.directory("r1"))
            await until(pilot, lambda screen: "no daemon; waiting for it" in screen[0], "the daemon's absence")
            await asyncio.to_thread(instance.start, two_hosts.ns("r1"), ["left", "right"], two_hosts.directory("r1"))
            await until(pilot, lambda screen: "in sync" in screen[0] and fast(screen), "the next daemon")
            await pilot.press("q")

    with stream(two_hosts, "h1", "h2", H2, 200):
        asyncio.run(script())


def test_devices_that_go_while_questions_come_are_forgotten(two_hosts, r1):
    """A question takes what the kernel has announced, too; it must not overtake what the engine has in hand."""
    lines = [line for n in range(150) for line in (f"link add b{n} type bridge", f"link set b{n} up", f"link del b{n}")]
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            r1.status()

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        namespace.run(two_hosts.ns("r1"), ["ip", "-batch", "-"], input="\n".join(lines), check=True)
    finally:
        stop.set()
        for thread in asking:
            thread.join()

    def shown() -> list[str]:
        return [entry["name"] for entry in r1.ask(api.InterfacesRequest())["interfaces"]]

    wait_until(lambda: shown() == ["left", "right"], BOUND_S, "the bridges to be forgotten")
