# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter explain` beside the wire: it says beforehand what then becomes of the very frame. FRR makes the routes."""

import json
import os
import socket
from collections.abc import Callable, Iterator

import pytest
import zmq
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap, wrpcapng

from lab import topology
from lab.lab import Lab
from lab.process import Process
from lab.wait import wait_until
from tests.lab.command import xdprouter
from tests.lab.conftest import Router
from tests.lab.probe import H1, H2, TRUTH_S, Probe
from tests.lab.wire import Wire
from xdprouter import api, wire

FRR = '''frr = """
ip route 10.9.0.0/16 blackhole
ipv6 route fd09::/48 blackhole
ip route 10.8.0.0/16 10.2.0.2
ipv6 route fd08::/48 fd02::2
ip route 10.6.0.0/16 10.2.0.77
ipv6 route fd06::/48 fd02::77
ip route 10.5.0.0/16 10.1.0.2
"""'''
UNRESOLVED = {4: "10.2.0.77", 6: "fd02::77"}
SYSCTLS = (
    "net.ipv4.conf.left.forwarding", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.left.rp_filter", "net.ipv4.conf.all.send_redirects", "net.ipv4.conf.left.send_redirects",
)  # fmt: skip
families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """For all tests of this file; each leaves it as it found it."""
    path = tmp_path_factory.mktemp("explain") / "explained.toml"
    ports = 'xdprouter = ["left", "right"]'
    path.write_text(topology.load("two_hosts").text.replace(ports, f"{ports}\n{FRR}"))
    made = Lab(topology.load(str(path)), name=f"x{os.getpid()}e")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def r1(lab) -> Router:
    router = Router(lab, "r1")
    wait_until(lambda: router.status()["fib"]["by_protocol"].get("static", 0) >= 7, TRUTH_S, "FRR's static routes")
    return router


@pytest.fixture(scope="module")
def probe(lab, r1) -> Iterator[Probe]:
    with Probe(lab, r1) as probe:
        yield probe


@pytest.fixture
def sysctls(probe) -> Iterator[Callable[[str, int], None]]:
    """Sets one on r1; afterwards those of SYSCTLS are as before, since a remedy may set them too."""
    before = {name: probe.lab.exec("r1", ["sysctl", "-n", name]).stdout.strip() for name in SYSCTLS}
    yield probe.sysctl
    for name, value in before.items():
        probe.sysctl(name, int(value))


@pytest.fixture
def explain(lab, tmp_path):
    """A packet -> what `explain --pcap` says of its frame, as a table."""

    def ask(packet: Packet, *arguments: str) -> dict:
        wrpcap(str(tmp_path / "one.pcap"), [Ether(bytes(packet))])
        return command(lab, "--pcap", str(tmp_path / "one.pcap"), *arguments)

    return ask


def command(lab, *arguments: str) -> dict:
    done = xdprouter("explain", "--netns", lab.ns("r1"), "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def counted_as_explained(r1: Router, probe: Probe, packet: Packet, said: dict) -> None:
    """The frame, sent, gets the verdict that was told. Others may be counted meanwhile for ARP and the like."""
    before = r1.verdict(said["verdict"], "left")
    probe.h1.send(bytes(packet))
    wait_until(lambda: r1.verdict(said["verdict"], "left") > before, TRUTH_S, f"one more {said['verdict']}")


def tag(packet: Packet) -> bytes:
    return bytes(packet)[-8:]


def arrived(wire: Wire, packet: Packet) -> bytes:
    found = wire.expect(1, lambda frame: frame.endswith(tag(packet)))
    assert found, f"{packet.summary()} did not arrive"
    return found[0]


def answered(wire: Wire, matches) -> None:
    assert wire.expect(1, lambda frame: matches(Ether(frame))), "no such answer came"


def icmp(kind4: int, kind6: int):
    """Matches an ICMP message of a type."""

    def matches(frame: Packet) -> bool:
        if IP in frame and frame[IP].proto == 1:
            return bytes(frame[IP].payload)[0] == kind4
        return IPv6 in frame and frame[IPv6].nh == 58 and bytes(frame[IPv6].payload)[0] == kind6

    return matches


@families
@pytest.mark.parametrize("kind", ["connected", "by frr"])
def test_forward(probe, r1, explain, kind, family):
    target = H2[family] if kind == "connected" else {4: "10.8.0.9", 6: "fd08::9"}[family]
    packet = probe.packet(dst=target)
    before = r1.status()["ports"]
    said = explain(packet)
    assert said["port"]["name"] == "left" and said["port"]["chosen"] == "destination MAC"
    assert (said["verdict"], said["action"], said["path"]) == ("forward", "redirect", "fast")
    assert said["reasons"] == []
    assert said["next_hop"]["address"] == H2[family]
    assert (said["egress"]["device"], said["egress"]["transmitting"]) == ("right", True)
    assert said["fib"]["code"] == 0
    assert "dev right" in said["kernel"]["route"]
    assert not said["cache"]["differs"]
    after = r1.status()["ports"]
    assert [p["ingress"].get("forward") for p in after] == [p["ingress"].get("forward") for p in before]
    counted_as_explained(r1, probe, packet, said)
    assert arrived(probe.h2, packet).hex() == said["frame_after"]


def test_what_is_remembered_is_shown(probe, explain):
    packet = probe.packet()

    def recalled() -> bool:
        probe.arrives()
        said = explain(packet)["cache"]
        assert not said["differs"]
        return said["state"] == "recalled" and said["recalled_on"]

    wait_until(recalled, TRUTH_S, "the way to be remembered")
    said = explain(packet)
    assert said["fib"]["code"] == 0  # which is asked all the same
    assert said["egress"]["destination_mac"] == said["next_hop"]["mac"]


@families
def test_blackhole(probe, r1, explain, family):
    target = {4: "10.9.0.9", 6: "fd09::9"}[family]
    packet = probe.packet(dst=target)
    said = explain(packet)
    assert (said["verdict"], said["path"]) == ("drop_blackhole", "dropped")
    prefix = {4: "10.9.0.0/16", 6: "fd09::/48"}[family]
    assert prefix in said["reasons"][0]["text"]
    assert said["reasons"][0]["remedy"].endswith(f"route del blackhole {prefix}")
    counted_as_explained(r1, probe, packet, said)
    probe.vanishes(dst=target)


@families
def test_ttl(probe, r1, explain, family):
    packet = probe.packet(dst=H2[family])
    layer, name = (IP, "ttl") if family == 4 else (IPv6, "hlim")
    setattr(packet[layer], name, 1)
    said = explain(packet)
    assert said["verdict"] == "pass_ttl" and said["frame_after"] == said["frame"]
    counted_as_explained(r1, probe, packet, said)
    answered(probe.h1, icmp(11, 3))


@families
def test_mtu(lab, probe, r1, explain, family):
    probe.ip(f"-{family} route add {'10.7.0.0/16' if family == 4 else 'fd07::/48'} via {H2[family]} mtu lock 1300")
    packet = probe.packet(dst="10.7.0.9" if family == 4 else "fd07::9", size=1400, flags="DF" if family == 4 else "")
    said = explain(packet)
    assert (said["verdict"], said["fib"]["code"], said["fib"]["mtu"]) == ("pass_too_big", 8, 1300)
    assert "1400" in said["reasons"][0]["text"] and "1300" in said["reasons"][0]["text"]
    counted_as_explained(r1, probe, packet, said)
    answered(probe.h1, icmp(3, 2))


@families
def test_no_neighbour(lab, probe, r1, explain, family):
    packet = probe.packet(dst="10.6.0.9" if family == 4 else "fd06::9")
    said = explain(packet)
    assert (said["verdict"], said["fib"]["code"]) == ("pass_no_neighbour", 7)
    hop = UNRESOLVED[family]
    assert (said["next_hop"]["address"], said["next_hop"]["mac"]) == (hop, None)
    assert said["reasons"][0]["remedy"] == f"ping -c 1 -I right {hop}"
    counted_as_explained(r1, probe, packet, said)
    packed = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, hop)
    question = 0x0806 if family == 4 else 0x86DD
    assert probe.h2.expect(1, lambda f: int.from_bytes(f[12:14]) == question and packed in f), "nobody was asked for"


def test_local(probe, r1, explain):
    packet = Ether(bytes(probe.packet())[:14]) / IP(src=H1[4], dst="10.1.0.1") / ICMP(id=7, seq=7)
    said = explain(packet)
    assert said["verdict"] == "pass_local_or_no_route"
    assert said["reasons"][0]["text"] == "10.1.0.1 is local to this machine: the packet ends here"
    counted_as_explained(r1, probe, packet, said)
    answered(probe.h1, icmp(0, 129))


def test_no_route(probe, r1, explain):
    packet = probe.packet(dst="192.0.2.9")
    said = explain(packet)
    assert said["verdict"] == "pass_local_or_no_route"
    assert said["kernel"]["route"] is None and "unreachable" in said["kernel"]["error"]
    assert "no route to 192.0.2.9" in said["reasons"][0]["text"]
    counted_as_explained(r1, probe, packet, said)
    answered(probe.h1, icmp(3, 1))


def test_guarded(lab, probe, r1, explain):
    rules = "table ip t {\n chain c {\n type filter hook forward priority 0;\n ip daddr 10.2.0.2 counter\n }\n}\n"
    done = lab.exec("r1", ["nft", "-f", "-"], input=rules)
    assert done.returncode == 0, done.stderr
    packet = probe.packet()
    said = explain(packet)
    assert (said["verdict"], said["path"]) == ("pass_guarded", "slow")
    assert [reason["text"] for reason in said["reasons"]] == ["nftables: chain ip t c: ip daddr 10.2.0.2 counter"]
    counted_as_explained(r1, probe, packet, said)
    arrived(probe.h2, packet)  # by the kernel
    assert "packets 1 " in lab.exec("r1", ["nft", "list", "table", "ip", "t"]).stdout
    assert lab.exec("r1", ["nft", "delete", "table", "ip", "t"]).returncode == 0
    wait_until(lambda: explain(packet)["verdict"] == "forward", TRUTH_S, "the guard to let go")


def mended(lab, explain, packet: Packet, said: dict) -> dict:
    """The remedy, typed: then the packet is on the fast path."""
    (reason,) = said["reasons"]
    done = lab.exec("r1", reason["remedy"].split())
    assert done.returncode == 0, done.stderr
    return wait_until(lambda: (now := explain(packet))["path"] == "fast" and now, TRUTH_S, "the remedy to help")


def test_hairpin_and_its_remedy(lab, probe, r1, explain, sysctls):
    packet = probe.packet(dst="10.5.0.9")
    said = explain(packet)
    assert said["verdict"] == "pass_hairpin" and said["egress"]["device"] == "left"
    counted_as_explained(r1, probe, packet, said)
    arrived(probe.h1, packet)
    said = mended(lab, explain, packet, said)
    again = packet.copy()
    counted_as_explained(r1, probe, again, said)
    assert arrived(probe.h1, again).hex() == said["frame_after"]


@families
def test_forwarding_off_and_its_remedy(lab, probe, r1, explain, sysctls, family):
    sysctls("net.ipv4.conf.left.forwarding" if family == 4 else "net.ipv6.conf.all.forwarding", 0)
    packet = probe.packet(dst=H2[family])
    said = wait_until(
        lambda: (now := explain(packet))["verdict"] == "pass_forwarding_off" and now, TRUTH_S, "forwarding to be off"
    )
    counted_as_explained(r1, probe, packet, said)
    said = mended(lab, explain, packet, said)
    counted_as_explained(r1, probe, packet, said)
    assert arrived(probe.h2, packet).hex() == said["frame_after"]


def test_reverse_path_and_its_remedy(lab, probe, r1, explain, sysctls):
    sysctls("net.ipv4.conf.left.rp_filter", 1)
    packet = probe.packet(src="10.2.0.9")
    said = wait_until(
        lambda: (now := explain(packet))["verdict"] == "pass_reverse_path" and now, TRUTH_S, "rp_filter to count"
    )
    assert said["reverse_path"]["device"] == "right"
    assert said["kernel"]["route"] is None and "rp_filter" in said["kernel"]["error"]
    counted_as_explained(r1, probe, packet, said)
    probe.vanishes(src="10.2.0.9")
    said = mended(lab, explain, packet, said)
    counted_as_explained(r1, probe, packet, said)


def test_an_egress_that_is_no_port_and_its_remedy(lab, probe, r1, explain):
    r1.ask(api.DetachRequest("right"))
    packet = probe.packet()
    said = explain(packet)
    assert said["verdict"] == "pass_egress_unavailable"
    assert said["reasons"][0]["remedy"] == f"xdprouter attach --netns {lab.ns('r1')} right"
    counted_as_explained(r1, probe, packet, said)
    arrived(probe.h2, packet)
    assert xdprouter(*said["reasons"][0]["remedy"].split()[1:]).returncode == 0
    assert wait_until(lambda: explain(packet)["path"] == "fast", TRUTH_S, "the port to help")


# --- the command ------------------------------------------------------------------------------------


def test_a_packet_from_addresses(lab, probe):
    """The port is found by the way back to the source, the MAC is the port's."""
    for family in (4, 6):
        said = command(lab, H1[family], H2[family], "--proto", "tcp", "--dport", "80", "--size", "100", "--tos", "0xb8")
        assert (said["port"]["name"], said["port"]["chosen"]) == ("left", "way back to the source")
        assert said["verdict"] == "forward"
        packet = said["packet"]
        assert (packet["protocol"], packet["destination_port"], packet["datagram_bytes"]) == (6, 80, 100)
        assert (packet["tos"], packet["ttl"]) == (0xB8, 64)
    assert command(lab, H2[4], H1[4])["port"]["name"] == "right"
    assert command(lab, H1[4], H2[4], "--iif", "right")["verdict"] == "pass_hairpin"
    assert command(lab, H1[4], H2[4], "--vlan", "100")["verdict"] == "pass_vlan_tag"


def test_a_device_that_is_no_port(lab, probe, r1):
    """The kernel takes what comes in there, and the answer says so."""
    probe.ip("link add mgmt type veth peer name mgmtp")
    probe.ip("link set mgmt up")
    try:
        said = command(lab, H1[4], H2[4], "--iif", "mgmt")
        assert (said["verdict"], said["path"]) == ("pass_unknown_port", "slow")
        assert (said["port"]["name"], said["port"]["chosen"], said["frame_after"]) == ("mgmt", "given", said["frame"])
        assert said["reasons"] == [
            {"text": "mgmt is no port", "remedy": f"xdprouter attach --netns {lab.ns('r1')} mgmt"}
        ]
        assert said["kernel"]["command"].endswith(" iif mgmt")
        # The kernel reaches a source there: that is where such a packet comes in.
        probe.ip("addr add 10.99.0.1/24 dev mgmt")
        assert command(lab, "10.99.0.2", H2[4])["port"]["name"] == "mgmt"
        done = xdprouter("explain", "--netns", lab.ns("r1"), H1[4], H2[4], "--iif", "lo")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "xdprouter: lo is no Ethernet device, so it is not on the fast path: what comes in there is the kernel's\n"
        )
    finally:
        probe.ip("link del mgmt")


def test_the_text(lab, probe):
    done = xdprouter("explain", "--netns", lab.ns("r1"), H1[4], H2[4])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "fast path  forward: rewritten and redirected"
    assert any(line.startswith("next hop") and "10.2.0.2 on right" in line for line in lines)
    assert any(line.startswith("kernel") and "ip route get 10.2.0.2 from 10.1.0.2 iif left" in line for line in lines)
    assert "frame after, 98 bytes; what changed is marked" in lines


def test_bad_input_is_one_line(lab, r1, tmp_path):
    packets = [Ether(bytes(60)), Ether(bytes(60))]
    wrpcapng(str(tmp_path / "two.pcapng"), packets)
    (tmp_path / "none.pcap").write_text("this is no capture, though long enough to look at")
    two = str(tmp_path / "two.pcapng")
    for arguments, code, said in (
        (("--pcap", str(tmp_path / "absent.pcap")), 2, "absent.pcap: No such file"),
        (("--pcap", str(tmp_path / "none.pcap")), 2, "is no capture"),
        (("--pcap", two, "--packet", "3"), 2, "has no packet 3: 2 are in it"),
        ((H1[4], H2[4], "--iif", "eth9"), 1, "there is no device eth9 here (ports: left, right)"),
        (("192.0.2.1", H2[4]), 1, "which port does it come in on?"),
    ):
        done = xdprouter("explain", "--netns", lab.ns("r1"), *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("xdprouter: ") and said in line
    assert xdprouter("explain", "--netns", lab.ns("h1"), H1[4], H2[4]).returncode == 3
    assert command(lab, "--pcap", two, "--packet", "2", "--iif", "left")["verdict"] == "pass_not_ip"


def test_others_are_served_while_the_first_explanation_is_made(lab, r1):
    """A program is compiled for it, for longer than the cache's lease."""
    daemon = Process.of(r1.status()["pid"])
    r1.ask(api.StopRequest())
    wait_until(lambda: not daemon.is_alive, TRUTH_S, "the daemon to end")
    lab.start_xdprouter("r1")
    with zmq.Context() as context, context.socket(zmq.REQ) as first:
        first.setsockopt(zmq.LINGER, 0)
        first.connect(f"ipc://{r1.instance.socket}")
        first.send(wire.encode_request(api.ExplainRequest(bytes(60).hex(), "left")))
        r1.ask(api.PortsRequest())
        assert not first.poll(0), "the explanation came before the ports"
        assert first.poll(1000 * TRUTH_S)
        assert wire.decode_reply(first.recv())["verdict"] == "pass_not_ip"
