# SPDX-License-Identifier: GPL-2.0-only
"""A bridge with addresses, routed: what is for its MAC is forwarded, what is bridged stays the kernel's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from lab import namespace
from lab.lab import Lab
from lab.topology import load
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import Wire, mac

TOPOLOGY = Path(__file__).with_name("bridged.toml")
SOON_S = 5.0


class Bridged:
    """The lab, with br0 over r1's members; its daemon is not started yet."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.ns = lab.ns("r1")
        with namespace.entered(self.ns):
            self.ipr = IPRoute()
        self.ipr.link("add", ifname="br0", kind="bridge")
        self.bridge = self.index("br0")
        for member in ("member1", "member2"):
            self.ipr.link("set", index=self.index(member), master=self.bridge)
        self.ipr.link("set", index=self.bridge, state="up")
        for address in ("10.2.0.1/24", "fd02::1/64"):
            self.ipr.addr("add", index=self.bridge, address=address.split("/")[0], prefixlen=int(address.split("/")[1]))
        for host in ("h2", "h3"):
            for family, gateway in (("-4", "10.2.0.1"), ("-6", "fd02::1")):
                done = lab.exec(host, ["ip", family, "route", "add", "default", "via", gateway])
                assert done.returncode == 0, done.stderr

    def index(self, name: str) -> int:
        return self.ipr.link_lookup(ifname=name)[0]

    def start(self) -> Router:
        self.lab.start_xdprouter("r1")
        return Router(self.lab, "r1")

    def interface(self, router: Router, name: str) -> dict:
        return next(entry for entry in router.status()["interfaces"] if entry["name"] == name)

    def frame(self, ttl: int = 9, to: str = "10.2.0.2", number: int = 0) -> bytes:
        """From h1 over r1."""
        ethernet = Ether(src=mac(self.lab.ns("h1"), "eth0"), dst=mac(self.ns, "left"))
        return bytes(ethernet / IP(src="10.1.0.2", dst=to, ttl=ttl, id=number) / UDP(sport=5, dport=5))


@pytest.fixture
def bridged() -> Iterator[Bridged]:
    lab = Lab(load(TOPOLOGY), name=f"x{os.getpid()}br")
    try:
        lab.up(xdprouter=False)
        made = Bridged(lab)
        yield made
        made.ipr.close()
    finally:
        lab.down()


def ping(bridged: Bridged, source: str, target: str) -> None:
    done = bridged.lab.exec(source, ["ping", "-c", "1", "-w", "10", target])
    assert done.returncode == 0, done.stdout + done.stderr


def is_fast(bridged: Bridged, router: Router, source: str, target: str, port: str) -> None:
    """Pings from `source` until one is forwarded as it comes in on `port`."""

    def forwarded() -> bool:
        before = router.verdict("forward", port)
        ping(bridged, source, target)
        return router.verdict("forward", port) > before

    wait_until(forwarded, 20, f"{source} to {target} on the fast path by {port}: {router.port(port)['ingress']}")


def test_both_ways_are_fast_and_rewritten(bridged):
    router = bridged.start()
    assert bridged.interface(router, "br0")["state"] == "active", router.status()
    assert bridged.interface(router, "br0")["ports"] == ["member1", "member2"]
    assert router.status()["features"] == ["bridge", "upper"]
    for host, address, member in (("h2", "10.2.0.2", "member1"), ("h3", "10.2.0.3", "member2")):
        is_fast(bridged, router, "h1", address, "left")
        is_fast(bridged, router, host, "10.1.0.2", member)
    is_fast(bridged, router, "h1", "fd02::2", "left")
    # On the wire: MACs of the bridge and of the host, one hop less.
    with Wire(bridged.lab.ns("h1"), "eth0") as sender, Wire(bridged.lab.ns("h2"), "eth0") as receiver:
        forwarded = router.verdict("forward", "left")
        sender.send(bridged.frame(ttl=9, number=77))
        (found,) = receiver.expect(1, lambda data: Ether(data).haslayer(UDP) and Ether(data)[IP].id == 77)
    seen = Ether(found)
    assert (seen.src, seen.dst) == (mac(bridged.ns, "br0"), mac(bridged.lab.ns("h2"), "eth0"))
    assert seen[IP].ttl == 8
    wait_until(lambda: router.verdict("forward", "left") > forwarded, SOON_S, "the frame to be counted")


def test_bridged_traffic_is_the_kernels(bridged):
    router = bridged.start()
    forwarded = router.verdict("forward")
    ping(bridged, "h2", "10.2.0.3")
    assert router.verdict("forward") == forwarded
    assert router.verdict("pass_not_ours", "member1") > 0


def test_an_unknown_host_is_the_kernels_until_it_is_learned(bridged):
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    done = bridged.lab.exec(
        "r1", ["bridge", "fdb", "del", mac(bridged.lab.ns("h2"), "eth0"), "dev", "member1", "master"]
    )
    assert done.returncode == 0, done.stderr
    passed = router.verdict("pass_bridge", "left")
    ping(bridged, "h1", "10.2.0.2")
    assert router.verdict("pass_bridge", "left") == passed + 1
    is_fast(bridged, router, "h1", "10.2.0.2", "left")


def test_a_host_that_moves_to_another_member(bridged):
    """Its address and MAC appear behind member2; a frame of its own tells, as from any moved host."""
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    moved = mac(bridged.lab.ns("h2"), "eth0")
    with Wire(bridged.lab.ns("h3"), "eth0") as there, Wire(bridged.lab.ns("h1"), "eth0") as sender:
        there.send(bytes(Ether(src=moved, dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / (b"moved" * 10)))
        wait_until(lambda: _member_of(bridged, moved) == bridged.index("member2"), SOON_S, "the bridge to notice")
        forwarded = router.verdict("forward", "left")
        sender.send(bridged.frame(number=78))
        (found,) = there.expect(1, lambda data: Ether(data).haslayer(UDP) and Ether(data)[IP].id == 78)
        assert Ether(found).dst == moved
        wait_until(lambda: router.verdict("forward", "left") > forwarded, SOON_S, "it to go the fast path")


def test_what_was_learned_before_the_start_is_known(bridged):
    ping(bridged, "h1", "10.2.0.2")
    router = bridged.start()
    ping(bridged, "h1", "10.2.0.2")
    assert router.verdict("pass_bridge", "left") == 0
    assert router.verdict("forward", "left") > 0


def test_a_bridge_that_appears_while_the_daemon_runs(bridged):
    """The program learns of bridges, and of its members; a bridge that goes leaves ports of their own."""
    for member in ("member1", "member2"):
        bridged.ipr.link("set", index=bridged.index(member), master=0)
    router = bridged.start()
    assert router.status()["features"] == []
    for member in ("member1", "member2"):
        bridged.ipr.link("set", index=bridged.index(member), master=bridged.bridge)
    wait_until(lambda: router.status()["features"] == ["bridge", "upper"], 20, "the program to be replaced")
    wait_until(lambda: bridged.interface(router, "br0")["state"] == "active", SOON_S, "br0 to be served")
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    bridged.ipr.link("set", index=bridged.index("member1"), master=0)
    wait_until(lambda: bridged.interface(router, "br0")["ports"] == ["member2"], SOON_S, "member1 to leave")
    bridged.ipr.link("del", index=bridged.bridge)
    names = {"left", "member1", "member2"}
    wait_until(lambda: {e["name"] for e in router.status()["interfaces"]} == names, SOON_S, "br0 to be gone")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ip link set br0 type bridge ageing_time 1000", "ageing time is below 30 s"),
        ("ip link set member1 type bridge_slave isolated on", "isolated"),
    ],
)
def test_what_is_not_served_is_said(bridged, command, reason):
    router = bridged.start()
    done = bridged.lab.exec("r1", command.split())
    assert done.returncode == 0, done.stderr
    wait_until(lambda: router.port("member1")["state"] == "unsupported", SOON_S, "member1 to be left alone")
    assert reason in router.port("member1")["reason"]
    ping(bridged, "h1", "10.2.0.2")


def test_a_tc_filter_on_the_bridge_keeps_it_off_the_fast_path(bridged):
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    for command in (
        "tc qdisc add dev br0 clsact",
        "tc filter add dev br0 egress protocol all u32 match u32 0 0 flowid 1:1",
    ):
        done = bridged.lab.exec("r1", command.split())
        assert done.returncode == 0, done.stderr
    wait_until(lambda: bridged.interface(router, "br0")["state"] == "slow", SOON_S, "the filter to be found")
    assert "filter on br0" in bridged.interface(router, "br0")["reason"]
    forwarded = router.verdict("forward", "left")
    ping(bridged, "h1", "10.2.0.2")
    assert router.verdict("forward", "left") == forwarded


def test_a_rule_of_the_bridge_family_keeps_it_off_the_fast_path(bridged):
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    rules = "table bridge t { chain c { type filter hook output priority 0; ether type ip counter; }; }"
    done = bridged.lab.exec("r1", ["nft", rules])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: bridged.interface(router, "br0")["state"] == "slow", SOON_S, "the rule to be found")
    assert "chain bridge t c" in bridged.interface(router, "br0")["reason"]
    assert router.port("left")["state"] == "active"
    assert bridged.lab.exec("r1", ["nft", "flush", "ruleset"]).returncode == 0
    is_fast(bridged, router, "h1", "10.2.0.2", "left")


def _member_of(bridged: Bridged, host: str) -> int:
    found = bridged.ipr.get_neighbours(family=7)
    return next((e["ifindex"] for e in found if e.get("NDA_LLADDR") == host and e.get("NDA_MASTER")), 0)
