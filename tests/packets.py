# SPDX-License-Identifier: GPL-2.0-only
"""Named packets. Every builder returns a scapy packet; `bytes(packet)` is the frame, without FCS.

By default a packet comes from HOST to the router's port and goes to an address that the caller names,
so a test says only what is special about its packet.
"""

from scapy.contrib.lldp import LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUTimeToLive
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Padding, Raw

ROUTER_MAC = "02:00:00:00:00:01"
"""Of the port that a packet comes in on, in every test."""
HOST_MAC = "02:00:00:00:ff:01"
OTHER_MAC = "02:00:00:00:ee:ee"
HOST4, HOST6 = "10.0.0.9", "2001:db8::9"
IPPROTO_DCCP, IPPROTO_UDPLITE, IPPROTO_NONE = 33, 136, 59
IPV4_HEADER, IPV6_HEADER, ETHERNET_HEADER = 20, 40, 14


def ethernet(payload: Packet, dst_mac: str = ROUTER_MAC) -> Packet:
    return Ether(dst=dst_mac, src=HOST_MAC) / payload


def ipv4(dst: str, payload: Packet, *, dst_mac: str = ROUTER_MAC, **fields) -> Packet:
    """`fields` go to the IPv4 header: src, ttl, id, tos, flags, frag, proto, chksum, len, ihl, ..."""
    return ethernet(IP(**{"src": HOST4, "dst": dst, **fields}) / payload, dst_mac)


def ipv6(dst: str, payload: Packet, *, dst_mac: str = ROUTER_MAC, **fields) -> Packet:
    """`fields` go to the IPv6 header: src, hlim, tc, fl, nh, plen, ..."""
    return ethernet(IPv6(**{"src": HOST6, "dst": dst, **fields}) / payload, dst_mac)


def ip(dst: str, payload: Packet, **fields) -> Packet:
    """Of the family of `dst`; the source follows."""
    return (ipv6 if ":" in dst else ipv4)(dst, payload, **fields)


def udp(dst: str, *, sport: int = 1024, dport: int = 2048, size: int = 32, **fields) -> Packet:
    """A datagram with `size` bytes of payload."""
    return ip(dst, UDP(sport=sport, dport=dport) / Raw(_pattern(size)), **fields)


def udp_of_length(dst: str, datagram: int, **fields) -> Packet:
    """A datagram of `datagram` bytes, IP header included."""
    header = IPV6_HEADER if ":" in dst else IPV4_HEADER
    return udp(dst, size=datagram - header - 8, **fields)


def tcp(dst: str, *, sport: int = 1024, dport: int = 80, size: int = 32, **fields) -> Packet:
    return ip(dst, TCP(sport=sport, dport=dport, flags="PA", seq=7) / Raw(_pattern(size)), **fields)


def sctp(dst: str, *, sport: int = 1024, dport: int = 2048, **fields) -> Packet:
    return ip(dst, SCTP(sport=sport, dport=dport) / Raw(_pattern(16)), **fields)


def ports_only(dst: str, protocol: int, *, sport: int = 1024, dport: int = 2048, **fields) -> Packet:
    """For DCCP and UDP-Lite, which scapy does not build: the ports, and zeroes behind them."""
    payload = sport.to_bytes(2) + dport.to_bytes(2) + bytes(28)
    return of_protocol(dst, protocol, payload, **fields)


def of_protocol(dst: str, protocol: int, payload: bytes, **fields) -> Packet:
    name = "nh" if ":" in dst else "proto"
    return ip(dst, Raw(payload), **{name: protocol}, **fields)


def ping(dst: str, **fields) -> Packet:
    echo = ICMPv6EchoRequest(id=1, seq=1) if ":" in dst else ICMP(id=1, seq=1)
    return ip(dst, echo / Raw(_pattern(48)), **fields)


def icmp(dst: str, kind: int, **fields) -> Packet:
    """ICMP or ICMPv6 of a type; what it would quote is not that of its type."""
    return of_protocol(dst, 58 if ":" in dst else 1, bytes([kind]) + bytes(47), **fields)


def with_ttl(dst: str, ttl: int) -> Packet:
    return udp(dst, **{"hlim" if ":" in dst else "ttl": ttl})


def ipv4_fragment(dst: str, offset: int, more: bool, payload: bytes, protocol: int = 17, **fields) -> Packet:
    """`offset` in bytes."""
    flags = "MF" if more else 0
    return ipv4(dst, Raw(payload), frag=offset // 8, flags=flags, proto=protocol, id=77, **fields)


def ipv6_fragment(dst: str, offset: int, more: bool, payload: bytes, protocol: int = 17, **fields) -> Packet:
    header = IPv6ExtHdrFragment(nh=protocol, offset=offset // 8, m=int(more), id=77)
    return ipv6(dst, header / Raw(payload), **fields)


def fragment(dst: str, offset: int, more: bool, payload: bytes, protocol: int = 17, **fields) -> Packet:
    builder = ipv6_fragment if ":" in dst else ipv4_fragment
    return builder(dst, offset, more, payload, protocol, **fields)


def ipv4_options(dst: str) -> Packet:
    return udp(dst, options=[IPOption_RR(pointer=4, routers=["0.0.0.0"])])


def hop_by_hop(dst: str) -> Packet:
    return ipv6(dst, IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2) / Raw(_pattern(32)))


def routing_header(dst: str) -> Packet:
    return ipv6(dst, IPv6ExtHdrRouting(addresses=["2001:db8:ffff::1"]) / UDP(sport=1, dport=2) / Raw(_pattern(32)))


def destination_options(dst: str) -> Packet:
    return ipv6(dst, IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / Raw(_pattern(32)))


def jumbogram(dst: str) -> Packet:
    """Only its header: payload length 0, the true one in the option."""
    return ipv6(dst, IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)]), plen=0)


def trailer(packet: Packet, extra: int) -> Packet:
    """`extra` bytes behind the datagram."""
    return packet / Padding(b"\xaa" * extra)


def padded(packet: Packet, length: int = 60) -> Packet:
    """Zeroes up to Ethernet's minimum, as a driver leaves them."""
    return packet / Padding(bytes(length - len(packet)))


def vlan(packet: Packet, vid: int) -> Packet:
    return _tagged(packet, Dot1Q(vlan=vid))


def qinq(packet: Packet, outer: int, inner: int) -> Packet:
    return _tagged(packet, Dot1AD(vlan=outer) / Dot1Q(vlan=inner))


def arp_request(target: str) -> Packet:
    question = ARP(op="who-has", hwsrc=HOST_MAC, psrc=HOST4, pdst=target)
    return padded(Ether(dst="ff:ff:ff:ff:ff:ff", src=HOST_MAC) / question)


def lldp() -> Packet:
    units = (
        LLDPDUChassisID(subtype=4, id=HOST_MAC)
        / LLDPDUPortID(subtype=5, id=b"eth0")
        / LLDPDUTimeToLive(ttl=120)
        / LLDPDUEndOfLLDPDU()
    )
    return padded(Ether(dst="01:80:c2:00:00:0e", src=HOST_MAC) / units)


def other_ethertype(ethertype: int) -> Packet:
    return Ether(dst=ROUTER_MAC, src=HOST_MAC, type=ethertype) / Raw(_pattern(46))


def with_ethertype(packet: Packet, ethertype: int) -> Packet:
    """The same bytes under an EtherType that lies about them."""
    packet = packet.copy()
    packet[Ether].type = ethertype
    return packet


def forwarded(packet: Packet, src_mac: str, dst_mac: str) -> bytes:
    """What a router makes of it: one hop less, a checksum worked out anew, the MACs of the next link."""
    packet = packet.copy()
    packet[Ether].src, packet[Ether].dst = src_mac, dst_mac
    if IP in packet:
        packet[IP].ttl -= 1
        packet[IP].chksum = None
    else:
        packet[IPv6].hlim -= 1
    return bytes(packet)


def ipv4_checksum(header: bytes) -> int:
    """Of an IPv4 header, from the definition; whatever its own checksum field holds."""
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header), 2) if i != 10)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def _tagged(packet: Packet, tags: Packet) -> Packet:
    ether = packet[Ether]
    return Ether(dst=ether.dst, src=ether.src) / tags / ether.payload.copy()


def _pattern(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))
