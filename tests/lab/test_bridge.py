# SPDX-License-Identifier: GPL-2.0-only
"""A bridge with addresses, routed: what is for its MAC is forwarded, what is bridged stays the kernel's."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from lab import namespace
from lab.lab import Lab
from lab.topology import load
from lab.wait import wait_until
from tests.lab.command import xdprouter
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


# --- explain ----------------------------------------------------------------------------------------


def explain(bridged: Bridged, *arguments: str) -> dict:
    done = xdprouter("explain", "--netns", bridged.ns, "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_explain_by_the_bridge_is_as_the_wire(bridged, tmp_path):
    """Without a port: the member is where the sender was learned; the very frame, sent, arrives as it was told."""
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    is_fast(bridged, router, "h3", "10.1.0.2", "member2")
    for arguments in ((), ("--iif", "br0")):
        said = explain(bridged, "10.2.0.3", "10.1.0.2", "--size", "60", *arguments)
        port = said["port"]
        assert (port["name"], port["interface"], port["member"]) == ("member2", "br0", "has learned the sender")
        assert (said["packet"]["interface"], said["verdict"]) == ("br0", "forward")
        assert said["packet"]["source_mac"] == mac(bridged.lab.ns("h3"), "eth0")
        assert said["packet"]["destination_mac"] == mac(bridged.ns, "br0")
    arrives_as_told(bridged, router, said, "h3", "h1", "member2")
    said = explain(bridged, "10.1.0.2", "10.2.0.2", "--size", "60")
    egress = said["egress"]
    assert (said["port"]["name"], egress["device"], egress["port"]) == ("left", "br0", "member1")
    arrives_as_told(bridged, router, said, "h1", "h2", "left")


def arrives_as_told(bridged: Bridged, router: Router, said: dict, sender: str, receiver: str, port: str) -> None:
    before = router.verdict(said["verdict"], port)
    with Wire(bridged.lab.ns(sender), "eth0") as source, Wire(bridged.lab.ns(receiver), "eth0") as sink:
        source.send(bytes.fromhex(said["frame"]))
        after = bytes.fromhex(said["frame_after"])
        assert sink.expect(1, lambda frame: frame == after), "it does not arrive as it was told"
    wait_until(lambda: router.verdict(said["verdict"], port) > before, SOON_S, f"one more {said['verdict']}")


def test_explain_of_what_a_bridge_has_not_learned(bridged, tmp_path):
    router = bridged.start()
    is_fast(bridged, router, "h1", "10.2.0.2", "left")
    frame = Ether(src="02:00:00:00:77:01", dst=mac(bridged.ns, "br0")) / IP(src="10.2.0.9", dst="10.1.0.2") / UDP()
    capture = str(tmp_path / "one.pcap")
    wrpcap(capture, [Ether(bytes(frame))])
    said = explain(bridged, "--pcap", capture, "--iif", "br0")
    assert (said["verdict"], said["port"]["member"]) == ("pass_bridge", "any")
    assert "br0 has yet to learn 02:00:00:00:77:01" in said["reasons"][0]["text"]
    with Wire(bridged.lab.ns("h2"), "eth0") as wire:
        wire.send(bytes(frame))
    learned = wait_until(
        lambda: (now := explain(bridged, "--pcap", capture, "--iif", "br0"))["verdict"] == "forward" and now,
        SOON_S, "the bridge to learn",
    )  # fmt: skip
    assert (learned["port"]["name"], learned["port"]["member"]) == ("member1", "has learned the sender")
    # The same sender elsewhere: it has moved, and the kernel has to see that.
    said = explain(bridged, "--pcap", capture, "--iif", "member2")
    assert said["verdict"] == "pass_bridge"
    assert "knows 02:00:00:00:77:01 on member1, not on member2" in said["reasons"][0]["text"]
    # Between hosts of the bridge.
    between = bytes.fromhex(mac(bridged.lab.ns("h3"), "eth0").replace(":", "")) + bytes(frame)[6:]
    wrpcap(capture, [Ether(between)])
    said = explain(bridged, "--pcap", capture, "--iif", "member1")
    assert said["verdict"] == "pass_not_ours" and "is bridged by br0" in said["reasons"][0]["text"]


def test_explain_of_a_bridge_that_is_not_served(bridged):
    router = bridged.start()
    bridged.ipr.link("set", index=bridged.bridge, kind="bridge", br_ageing_time=1000)
    wait_until(lambda: bridged.interface(router, "br0")["state"] != "active", SOON_S, "its ageing time to be seen")
    said = explain(bridged, "10.2.0.3", "10.1.0.2", "--iif", "br0")
    assert (said["path"], said["packet"]["interface"]) == ("slow", None)
    assert said["reasons"][0]["text"] == "br0 is not on the fast path: its ageing time is below 30 s"
