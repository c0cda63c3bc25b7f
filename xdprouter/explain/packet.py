# SPDX-License-Identifier: GPL-2.0-only
"""A frame from a description."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from xdprouter.explain.flow import Flow

SOURCE_MAC = "02:00:00:00:00:01"
"""Locally administered; the program looks at it behind bridges only"""
NO_MAC = "00:00:00:00:00:00"
"""The daemon puts the port's in its place"""


def build(flow: Flow) -> bytes:
    """The whole Ethernet frame, checksums and all."""
    if flow.version == 4:
        ip = IP(src=flow.source, dst=flow.destination, tos=flow.tos, ttl=flow.ttl, proto=flow.protocol)
    else:
        ip = IPv6(src=flow.source, dst=flow.destination, tc=flow.tos, hlim=flow.ttl, nh=flow.protocol)
    datagram = ip / _layer4(flow) / Raw(bytes(max(0, flow.size - flow.smallest)))
    return bytes(Ether(src=SOURCE_MAC, dst=NO_MAC) / _with_tags(flow.tags, datagram))


def _layer4(flow: Flow):
    match flow.protocol:
        case 6:
            return TCP(sport=flow.sport, dport=flow.dport, flags="A")
        case 17:
            return UDP(sport=flow.sport, dport=flow.dport)
        case 1 if flow.version == 4:
            return ICMP(id=1, seq=1)
        case 58 if flow.version == 6:
            return ICMPv6EchoRequest(id=1, seq=1)
    return Raw(b"")


def _with_tags(tags: tuple[int, ...], datagram):
    if not tags:
        return datagram
    inner = Dot1Q(vlan=tags[-1]) / datagram
    return inner if len(tags) == 1 else Dot1AD(vlan=tags[0]) / inner
