# SPDX-License-Identifier: GPL-2.0-only
"""Frames of each kind, counted at both far ends: the accounts of the router's ports say the same, to the frame."""

import os
import signal
import socket
from collections import Counter
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from controlplane.accounting import LAG_S
from lab import namespace
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import ETH_P_ALL, SO_RCVBUFFORCE, Wire, mac

EACH = 200
AT_ONCE = 50
"""A veth's ring holds 256 frames."""
PACKET_OUTGOING = 4
SETTLED_S = 10.0


class Tap:
    """Counts what leaves and reaches a host, by direction, and by UDP port."""

    def __init__(self, ns: str):
        with namespace.entered(ns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.bind(("eth0", ETH_P_ALL))
        self._socket.setblocking(False)
        self.sent = self.received = 0
        self.ports: Counter[int] = Counter()
        """of received frames"""

    def read(self) -> None:
        while True:
            try:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(65535)
            except BlockingIOError:
                return
            if kind == PACKET_OUTGOING:
                self.sent += 1
                continue
            self.received += 1
            if UDP in (packet := Ether(frame)):  # what an ICMP error quotes is UDPerror
                self.ports[packet[UDP].dport] += 1

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Kind:
    frame: bytes
    verdict: str


def kinds(lab) -> dict[int, Kind]:
    """UDP destination port -> frame that h1 sends, and the verdict on it."""
    ends = Ether(src=mac(lab.ns("h1"), "eth0"), dst=mac(lab.ns("r1"), "left"))
    stranger = Ether(src=mac(lab.ns("h1"), "eth0"), dst="02:00:00:00:99:99")
    here, there = {"src": "10.1.0.2", "dst": "10.2.0.2"}, {"src": "10.1.0.2", "dst": "10.99.0.1"}
    layers = {
        1001: (ends / IP(**here), "forward"),
        1002: (ends / IPv6(src="fd01::2", dst="fd02::2"), "forward"),
        1003: (ends / IP(**there), "drop_blackhole"),
        1004: (ends / IP(**here, options=[IPOption_RR(routers=["0.0.0.0"])]), "pass_options"),
        1005: (ends / IP(src="10.1.0.2", dst="10.1.0.1"), "pass_local_or_no_route"),
        1006: (ends / IP(**here, ttl=1), "pass_ttl"),
        1007: (stranger / IP(**here), "pass_not_ours"),
    }
    return {
        port: Kind(bytes(packet / UDP(sport=port, dport=port) / bytes(100)), verdict)
        for port, (packet, verdict) in layers.items()
    }


class Books:
    """The router's accounts beside the far ends' counts, from one moment on."""

    def __init__(self, lab, router: Router):
        self.lab, self.router = lab, router
        self.taps = {"left": Tap(lab.ns("h1")), "right": Tap(lab.ns("h2"))}
        while (before := self._totals()) != self._totals():
            pass
        for tap in self.taps.values():
            tap.read()
            tap.sent = tap.received = 0
            tap.ports.clear()
        self._before = before

    def _totals(self) -> dict[str, dict]:
        ports = {port["name"]: port["accounting"] for port in self.router.status()["ports"]}
        return {name: {side: ports[name][side] for side in ("received", "sent")} for name in ("left", "right")}

    def change(self) -> dict[str, dict]:
        now = self._totals()
        return {
            name: {
                side: {key: now[name][side][key] - self._before[name][side][key] for key in keys}
                for side, keys in (
                    ("received", ("packets", "forwarded", "dropped", "passed", "unseen")),
                    ("sent", ("packets", "redirected", "lost", "slow", "dropped")),
                )
            }
            for name in now
        }

    def wire(self) -> dict[str, tuple[int, int]]:
        """Port -> (frames that came in there, frames that left there), by the hosts."""
        for tap in self.taps.values():
            tap.read()
        return {name: (tap.sent, tap.received) for name, tap in self.taps.items()}

    def agree(self) -> bool:
        wire, books = self.wire(), self.change()
        return wire == {name: (books[name]["received"]["packets"], books[name]["sent"]["packets"]) for name in books}

    def close(self) -> None:
        for tap in self.taps.values():
            tap.close()


@pytest.fixture(params=["native", "generic"])
def router(request, lab_of):
    lab = lab_of("two_hosts", xdprouter=False)
    lab.start_xdprouter("r1", ["--mode", request.param])
    namespace.run(lab.ns("r1"), ["ip", "route", "add", "blackhole", "10.99.0.0/16"], check=True)
    for address in ("10.2.0.2", "fd02::2"):
        assert lab.exec("h1", ["ping", "-c", "1", "-w", "20", address]).returncode == 0
    return Router(lab, "r1")


@pytest.fixture
def books(router):
    made = Books(router.lab, router)
    yield made
    made.close()


def send(router: Router, kind: Kind, number: int) -> None:
    """As fast as the program takes them."""
    with Wire(router.lab.ns("h1"), "eth0") as wire:
        for _ in range(0, number, AT_ONCE):
            before = router.verdict(kind.verdict, "left")
            for _ in range(AT_ONCE):
                wire.send(kind.frame)
            wait_until(lambda: router.verdict(kind.verdict, "left") >= before + AT_ONCE, SETTLED_S, kind.verdict)  # noqa: B023


def test_what_came_in_and_went_out_adds_up_to_the_wire(router, books):
    for kind in kinds(router.lab).values():
        send(router, kind, EACH)
    wait_until(books.agree, SETTLED_S, "accounts and wire to agree")
    left, right = books.change()["left"], books.change()["right"]
    assert left["received"]["forwarded"] == 2 * EACH
    assert left["received"]["dropped"] == EACH
    assert left["received"]["passed"] >= 4 * EACH
    assert left["received"]["unseen"] == right["received"]["unseen"] == 0
    arrived = books.taps["right"].ports
    assert (arrived[1001], arrived[1002], arrived[1004]) == (EACH, EACH, EACH)
    assert not arrived[1003] and not arrived[1006] and not arrived[1007]
    assert right["sent"]["redirected"] == 2 * EACH
    assert EACH <= right["sent"]["slow"] < 1.2 * EACH, "those with options, and the kernel's own"
    assert left["sent"]["redirected"] == 0
    assert not right["sent"]["lost"] and not right["sent"]["dropped"]


@pytest.mark.parametrize("router", ["native"], indirect=True)  # generic XDP sends to any peer
def test_what_was_lost_behind_the_verdict_did_not_leave(router, books):
    """h2 loses NAPI while the daemon is held."""
    lab, forward = router.lab, kinds(router.lab)[1001]
    send(router, forward, EACH)
    pid = router.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert lab.exec("h2", ["ethtool", "-K", "eth0", "gro", "off"]).returncode == 0
        with Wire(lab.ns("h1"), "eth0") as wire:
            for _ in range(AT_ONCE):
                wire.send(forward.frame)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(books.agree, SETTLED_S, "accounts and wire to agree")
    sent = books.change()["right"]["sent"]
    assert (sent["redirected"], sent["lost"]) == (EACH + AT_ONCE, AT_ONCE)
    assert books.taps["right"].ports[1001] == EACH
    assert books.change()["left"]["received"]["forwarded"] == EACH + AT_ONCE


def test_that_veth_counts_what_xdp_takes_is_found_out(router):
    """In native and in generic mode, for both directions."""
    forward = kinds(router.lab)[1001]
    send(router, forward, EACH)

    def known() -> bool:
        left, right = router.port("left")["accounting"], router.port("right")["accounting"]
        return None not in (left["received"]["kernel_counts_xdp"], right["sent"]["kernel_counts_xdp"])

    wait_until(known, 4 * LAG_S, "the driver's manner to be known")
    assert router.port("left")["accounting"]["received"]["kernel_counts_xdp"] is True
    assert router.port("right")["accounting"]["sent"]["kernel_counts_xdp"] is True
