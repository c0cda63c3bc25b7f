# SPDX-License-Identifier: GPL-2.0-only
"""The packet that `explain` tries: from the command line, or out of a capture."""

import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.utils import wrpcap, wrpcapng

from xdprouter.cli import make_parser
from xdprouter.errors import UsageError
from xdprouter.explain import capture
from xdprouter.explain.cli import main, read_flow
from xdprouter.explain.flow import Flow
from xdprouter.explain.packet import build

V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def flow(*arguments: str) -> Flow:
    return read_flow(make_parser().parse_args(["explain", *arguments]))


def built(*arguments: str) -> Ether:
    return Ether(build(flow(*arguments)))


def test_a_ping_by_default():
    packet = built(*V4)
    assert (packet[IP].src, packet[IP].dst, packet[IP].ttl, packet[IP].len) == (*V4, 64, 84)
    assert packet[ICMP].type == 8
    packet = built(*V6)
    assert (packet[IPv6].src, packet[IPv6].dst, packet[IPv6].hlim, packet[IPv6].plen) == (*V6, 64, 44)
    assert ICMPv6EchoRequest in packet


def test_ports_make_it_udp():
    packet = built(*V4, "--dport", "53")
    assert (packet[UDP].sport, packet[UDP].dport) == (1024, 53)


@pytest.mark.parametrize("addresses", [V4, V6])
def test_everything_that_can_be_said(addresses):
    more = ("--proto", "tcp", "--sport", "7", "--dport", "80", "--size", "200", "--tos", "0xb8", "--ttl", "3")
    packet = built(*addresses, *more)
    assert (packet[TCP].sport, packet[TCP].dport) == (7, 80)
    assert len(packet) == 14 + 200
    ip = packet[IP] if IP in packet else packet[IPv6]
    assert (ip.tos, ip.ttl) == (0xB8, 3) if IP in packet else (ip.tc, ip.hlim) == (0xB8, 3)


def test_a_protocol_by_number():
    assert built(*V4, "--proto", "89")[IP].proto == 89
    assert built(*V6, "--proto", "47")[IPv6].nh == 47


def test_vlan_tags():
    packet = built(*V4, "--vlan", "100")
    assert (packet[Dot1Q].vlan, Dot1AD in packet) == (100, False)
    packet = built(*V4, "--vlan", "100.10")
    assert (packet[Dot1AD].vlan, packet[Dot1Q].vlan, IP in packet) == (100, 10, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((V4[0], V6[1]), "10.0.0.1 is IPv4 and fd00::2 is IPv6: give two of one family"),
        (("10.0.0", V4[1]), "'10.0.0' is no IP address"),
        (("fe80::1%eth0", V6[1]), "'fe80::1%eth0' has a zone: name the port with --iif"),
        ((V4[0],), "give SRC and DST, or a capture with --pcap FILE"),
        ((*V4, "--proto", "smtp"), "--proto 'smtp': must be tcp, udp, icmp, icmpv6 or a number up to 255"),
        ((*V4, "--proto", "256"), "--proto '256'"),
        ((*V4, "--proto", "icmp", "--dport", "5"), "--sport and --dport are for tcp and udp, not for protocol 1"),
        ((*V4, "--dport", "65536"), "--dport '65536': must be a number from 0 to 65535"),
        ((*V4, "--ttl", "-1"), "--ttl '-1'"),
        ((*V4, "--tos", "x"), "--tos 'x': must be a number from 0 to 255"),
        ((*V6, "--size", "40"), "--size 40 has no room for the headers: at least 48"),
        ((*V4, "--vlan", "4095"), "--vlan '4095': must be a VLAN id up to 4094"),
        ((*V4, "--vlan", "1.2.3"), "--vlan '1.2.3'"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    with pytest.raises(UsageError) as error:
        flow(*arguments)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*V4, "--pcap", "f"), "give SRC and DST or a capture, not both"),
        (("--pcap", "f", "--ttl", "1"), "--ttl changes nothing about a captured frame: leave it out"),
        (("--pcap", "f", "--packet", "0"), "--packet '0'"),
        ((*V4, "--packet", "2"), "--packet is a frame's number in a capture"),
    ],
)
def test_a_capture_is_taken_as_it_is(arguments, said):
    with pytest.raises(UsageError) as error:
        main(make_parser().parse_args(["explain", *arguments]))
    assert str(error.value).startswith(said)


# --- captures ---------------------------------------------------------------------------------------

FRAMES = [Ether(dst="02:00:00:00:00:01") / IP(dst=f"10.0.0.{n}") / UDP() for n in range(1, 4)]


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_the_frame_of_a_number(tmp_path, write):
    path = tmp_path / "some.pcap"
    write(str(path), FRAMES)
    assert [capture.frame(path, n) for n in (1, 2, 3)] == [bytes(frame) for frame in FRAMES]
    with pytest.raises(UsageError, match=f"{path} has no packet 4: 3 are in it"):
        capture.frame(path, 4)


def test_a_capture_without_ethernet_headers(tmp_path):
    wrpcap(str(tmp_path / "raw.pcap"), [IP()], linktype=101)
    with pytest.raises(UsageError, match="packet 1 of .* has no Ethernet header \\(link type 101\\)"):
        capture.frame(tmp_path / "raw.pcap", 1)


def test_a_packet_that_was_cut(tmp_path):
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 96, 1) + struct.pack("=IIII", 0, 0, 96, 1514) + bytes(96)
    (tmp_path / "cut.pcap").write_bytes(head)
    with pytest.raises(UsageError, match="was cut to 96 of its 1514 bytes: capture with tcpdump -s 0"):
        capture.frame(tmp_path / "cut.pcap", 1)


@pytest.mark.parametrize("content", [b"", b"\0", b"no capture at all, but long enough", b"\xd4\xc3\xb2\xa1\2\0"])
def test_a_file_that_is_no_capture(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UsageError, match="is no capture that can be read|has no packet"):
        capture.frame(tmp_path / "x", 1)


def test_truncated_captures_are_told(tmp_path):
    """Cut anywhere: never another error, and never another frame."""
    for write in (wrpcap, wrpcapng):
        write(str(tmp_path / "whole"), FRAMES)
        whole = (tmp_path / "whole").read_bytes()
        for length in range(0, len(whole), 7):
            (tmp_path / "cut").write_bytes(whole[:length])
            try:
                assert capture.frame(tmp_path / "cut", 2) == bytes(FRAMES[1])
            except UsageError as error:
                assert "\n" not in str(error)


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(UsageError, match="cannot read .*absent: No such file or directory"):
        capture.frame(tmp_path / "absent", 1)
    with pytest.raises(UsageError, match="cannot read .*: Is a directory"):
        capture.frame(tmp_path, 1)
