"""h1 - r1 - h2: what leaves r1 is what a router must send, and it took the fast path."""

import socket
import struct
import subprocess
import sys
import time

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab import namespace
from lab.wait import wait_until
from tests.lab.wire import Wire, kernel_forwarded, mac, snmp

PACKETS = 10_000
WINDOW = 100
ARP = b"\x08\x06"


def _frame(lab, version: int, number: int) -> bytes:
    ends = dict(src=mac(lab.ns("h1"), "eth0"), dst=mac(lab.ns("r1"), "left"))
    l3 = (
        IP(src="10.1.0.2", dst="10.2.0.2", ttl=64, id=number)
        if version == 4
        else IPv6(src="fd01::2", dst="fd02::2", hlim=64)
    )
    return bytes(Ether(**ends) / l3 / UDP(sport=4000 + number % 512, dport=9) / struct.pack("!I", number))


def _resolve(lab) -> None:
    for address in ("10.2.0.2", "fd02::2"):
        assert lab.exec("h1", ["ping", "-c", "1", "-w", "20", address], capture_output=True).returncode == 0


@pytest.fixture
def sink(two_hosts):
    """Somebody listens on h2, which would else say that nobody does, by way of r1's kernel."""
    with namespace.entered(two_hosts.ns("h2")):
        listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with listening:
        listening.bind(("::", 9))
        yield


@pytest.mark.parametrize("version", [4, 6])
def test_every_packet_arrives_rewritten_and_on_the_fast_path(two_hosts, r1, sink, version):
    _resolve(two_hosts)
    expected_macs = bytes.fromhex((mac(two_hosts.ns("h2"), "eth0") + mac(two_hosts.ns("r1"), "right")).replace(":", ""))
    forwarded, by_kernel = r1.verdict("forward", "left"), kernel_forwarded(two_hosts.ns("r1"))
    template = _frame(two_hosts, version, 0)
    ends = template[:12]
    with Wire(two_hosts.ns("h1"), "eth0") as sender, Wire(two_hosts.ns("h2"), "eth0") as receiver:
        numbers = set()
        for start in range(0, PACKETS, WINDOW):
            sent = {}
            for number in range(start, start + WINDOW):
                sent[number] = _numbered(template, version, number)
                sender.send(sent[number])
            arrived = receiver.expect(
                WINDOW, lambda frame: frame[12:14] == template[12:14] and len(frame) == len(template)
            )
            for frame in arrived:
                number = struct.unpack("!I", frame[-4:])[0]
                assert frame[:12] == expected_macs
                assert _without_hop_fields(frame, version) == _without_hop_fields(sent[number], version)
                assert frame[22 if version == 4 else 21] == 63, "TTL or hop limit must be exactly one less"
                if version == 4:
                    assert _sum16(frame[14:34]) == 0xFFFF, "IPv4 header checksum"
                numbers.add(number)
        assert ends == template[:12]
    assert len(numbers) == PACKETS
    assert r1.verdict("forward", "left") - forwarded >= PACKETS - 10
    assert kernel_forwarded(two_hosts.ns("r1")) - by_kernel <= 10
    assert r1.status()["in_sync"]


def _numbered(template: bytes, version: int, number: int) -> bytes:
    """The template with its number in the payload: without UDP checksum over IPv4, with the right one over IPv6."""
    frame = bytearray(template)
    frame[-4:] = struct.pack("!I", number)
    if version == 4:
        frame[40:42] = b"\0\0"
        return bytes(frame)
    frame[60:62] = b"\0\0"
    pseudo_header = bytes(frame[22:54]) + struct.pack("!II", len(frame) - 54, 17)
    frame[60:62] = struct.pack("!H", 0xFFFF - _sum16(pseudo_header + bytes(frame[54:])) or 0xFFFF)
    return bytes(frame)


def _without_hop_fields(frame: bytes, version: int) -> bytes:
    """All behind the MACs but TTL and header checksum, or hop limit."""
    if version == 4:
        return frame[12:22] + frame[23:24] + frame[26:]
    return frame[12:21] + frame[22:]


def _sum16(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("address", ["10.2.0.2", "fd02::2"])
def test_a_tcp_transfer_has_no_bad_checksum(two_hosts, r1, address):
    """iperf3 with real sockets at both ends; segments are also recomputed from the wire."""
    _resolve(two_hosts)
    before = {host: snmp(two_hosts.ns(host)) for host in ("h1", "h2")}
    server = two_hosts.popen("h2", ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "Server listening" in server.stdout.readline(), 30, "iperf3 to listen")
        with Wire(two_hosts.ns("h1"), "eth0") as acks, Wire(two_hosts.ns("h2"), "eth0") as data:
            client = two_hosts.exec("h1", ["iperf3", "-c", address, "-n", "50M"], capture_output=True, text=True)
            assert client.returncode == 0, client.stdout + client.stderr
            # Longer ones were merged by the receiver's GRO, which leaves their sum to the stack.
            frames = [f for wire in (acks, data) for f in wire.frames(0.1) if len(f) <= 1514 and f[12:14] != ARP]
        server.wait(timeout=30)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    segments = [Ether(frame) for frame in frames]
    segments = [segment for segment in segments if TCP in segment]
    assert len(segments) > 20
    for segment in segments[:500]:
        claimed = segment[TCP].chksum
        del segment[TCP].chksum
        assert Ether(bytes(segment))[TCP].chksum == claimed
    for host, counters in before.items():
        after = snmp(two_hosts.ns(host))
        assert after["Tcp"]["InCsumErrors"] == counters["Tcp"]["InCsumErrors"]
    assert r1.verdict("forward") > 1000


@pytest.mark.parametrize(("target", "hop"), [("10.2.0.2", "10.1.0.1"), ("fd02::2", "fd01::1")])
def test_a_traceroute_shows_the_router(two_hosts, target, hop):
    done = two_hosts.exec("h1", ["traceroute", "-n", "-q", "1", "-m", "4", target], capture_output=True, text=True)
    hops = [line.split()[1] for line in done.stdout.splitlines()[1:]]
    assert hops == [hop, target], done.stdout + done.stderr


@pytest.mark.parametrize(("address", "version"), [("10.2.0.2", 4), ("fd02::2", 6)])
def test_an_unresolved_neighbour_is_resolved_by_the_kernel(two_hosts, r1, address, version):
    ns = two_hosts.ns("r1")
    flush = ["nsenter", f"--net=/run/netns/{ns}", "ip", "neigh", "flush", "dev", "right"]
    assert subprocess.run(flush, capture_output=True).returncode == 0
    passed, forwarded = r1.verdict("pass_no_neighbour", "left"), r1.verdict("forward", "left")
    with Wire(two_hosts.ns("h1"), "eth0") as sender, Wire(two_hosts.ns("h2"), "eth0") as receiver:
        ours = _numbered(_frame(two_hosts, version, 1), version, 1)
        sender.send(ours)
        (first,) = receiver.expect(1, lambda frame: frame[-4:] == ours[-4:] and len(frame) == len(ours))
        assert first[22 if version == 4 else 21] == 63
        assert r1.verdict("pass_no_neighbour", "left") == passed + 1
        assert r1.verdict("forward", "left") == forwarded
        for _ in range(5):
            sender.send(ours)
        assert len(receiver.expect(5, lambda frame: frame[-4:] == ours[-4:] and len(frame) == len(ours))) == 5
    assert r1.verdict("forward", "left") == forwarded + 5
    assert r1.verdict("pass_no_neighbour", "left") == passed + 1


def test_the_command_shows_what_the_socket_says(two_hosts, r1):
    command = [sys.executable, "-m", "xdprouter", "status", "--netns", two_hosts.ns("r1")]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0
    assert shown.stdout.startswith("in sync")
    assert all(port["name"] in shown.stdout for port in r1.status()["ports"])
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert '"in_sync": true' in as_json.stdout


def test_routes_are_counted_by_family_and_protocol(two_hosts, r1):
    """What `status` says about the FIB follows the kernel, without a route message ever reaching Python."""
    from pyroute2 import IPRoute

    began, before = time.monotonic(), r1.status()["fib"]
    with namespace.entered(two_hosts.ns("r1")):
        ipr = IPRoute()
    with ipr:
        for number in range(20):
            ipr.route("add", dst=f"192.0.2.{number}/32", gateway="10.2.0.2", proto=186)
        ipr.route("add", dst="2001:db8::/48", gateway="fd02::2", proto=12, family=socket.AF_INET6)
    wanted = {"bgp": 20, "bird": 1}

    def counted() -> bool:
        by_protocol = r1.status()["fib"]["by_protocol"]
        return {name: by_protocol.get(name, 0) for name in wanted} == wanted

    wait_until(counted, 30, "the routes to be counted")
    after = r1.status()["fib"]
    assert (after["ipv4_routes"], after["ipv6_routes"]) == (before["ipv4_routes"] + 20, before["ipv6_routes"] + 1)
    assert after["last_change_s"] < time.monotonic() - began
