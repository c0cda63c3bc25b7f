# SPDX-License-Identifier: GPL-2.0-only
"""Connection tracking: whether forwarded packets are tracked, and with that defragmented or dropped.

One rule that needs it, in any chain of the namespace, dormant or never jumped to, switches it on for every
packet (nf_ct_netns_get in net/netfilter/nf_conntrack_proto.c). So it is judged by who asks for it. Names that
this file does not know count as asking.
"""

import errno
import socket
import struct
from pathlib import Path

from controlplane.errors import NetlinkError
from controlplane.finding import Finding
from controlplane.netlink import NetlinkSocket, attribute

HARMLESS_EXPRESSIONS = frozenset(
    "payload cmp bitwise immediate meta counter lookup limit log reject range byteorder exthdr quota hash numgen rt "
    "fib queue osf socket tunnel xfrm objref dup fwd last inner notrack".split()
)
"""nftables expressions that do not track. Objects (objref) are judged where they are defined."""

TRACKING_OBJECTS = {3: "ct helper", 5: "connection limit", 7: "ct timeout", 9: "ct expectation", 10: "synproxy"}
"""NFT_OBJECT_*; each of them switches tracking on when it is defined, used or not."""

HARMLESS_MATCHES = frozenset(
    "standard tcp udp udplite icmp icmp6 comment multiport mark mac limit hashlimit set addrtype iprange length "
    "pkttype physdev policy owner ah esp dccp sctp dscp ecn tos ttl hl frag hbh dst rt mh eui64 "
    "ipv6header srh realm recent statistic string tcpmss time u32 bpf cgroup cpu devgroup nfacct osf quota "
    "rateest rpfilter ipcomp l2tp".split()
)
HARMLESS_TARGETS = frozenset(
    "REJECT LOG NFLOG ULOG MARK TCPMSS TCPOPTSTRIP DSCP TOS TTL HL ECN CLASSIFY CHECKSUM AUDIT SET TRACE NFQUEUE "
    "RATEEST IDLETIMER LED SECMARK HMARK TEE ERROR".split()
) | {""}  # nameless: ACCEPT, DROP, RETURN and jumps

_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_NETLINK_NETFILTER = 12
_IPCTNL_MSG_CT_GET = 1 << 8 | 1
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_PROBE_TIMEOUT_S = 0.1


def tracking_expression(name: str) -> bool:
    """Whether an nftables expression (or `match NAME`, `target NAME` of iptables-nft) may need tracking."""
    kind, _, inner = name.partition(" ")
    if kind in ("match", "target"):
        return tracking_extension(kind, inner)
    return name not in HARMLESS_EXPRESSIONS


def tracking_extension(kind: str, name: str) -> bool:
    """Whether an iptables extension, a `match` or a `target`, may need tracking."""
    return name not in (HARMLESS_MATCHES if kind == "match" else HARMLESS_TARGETS)


def examine() -> list[Finding]:
    """For when no rule was found that needs tracking: connections are in the table all the same, so something
    else may track. Or something did: entries outlive their rule, for days. A datagram over the loopback
    device tells which.

    Raises OSError when the table's size cannot be read.
    """
    try:
        if int(_COUNT.read_text()) == 0:
            return []
    except FileNotFoundError:  # not in this kernel, or the module is not loaded
        return []
    for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
        try:
            if tracks_loopback(family):
                return [Finding(None, f"conntrack: tracks {name} packets, though no rule was found that needs it")]
        except (OSError, NetlinkError) as error:
            if error.errno == errno.EAFNOSUPPORT:  # no such family in this kernel
                continue
            why = f"cannot be told without the loopback device ({error})"
            text = (
                f"conntrack: has connections in its table; whether it is in use {why}: `conntrack -F` empties the table"
            )
            return [Finding(None, text)]
    return []


def tracks_loopback(family: int) -> bool:
    """Send one UDP datagram to ourselves and ask for its entry.

    Raises OSError when the datagram does not come back, NetlinkError when the kernel refuses the question.
    """
    address = _LOOPBACK[family]
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as own:
        own.settimeout(_PROBE_TIMEOUT_S)
        own.bind((address, 0))
        port = own.getsockname()[1]
        own.sendto(b"xdprouter", (address, port))
        own.recv(16)
    try:
        with NetlinkSocket(_NETLINK_NETFILTER) as sock:
            sock.request(_IPCTNL_MSG_CT_GET, entry_request(family, address, port))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def entry_request(family: int, address: str, port: int) -> bytes:
    """IPCTNL_MSG_CT_GET for a UDP datagram from an address and port to the same."""
    packed = socket.inet_pton(family, address)
    source, destination = (1, 2) if family == socket.AF_INET else (3, 4)  # CTA_IP_*
    ends = attribute(0x8000 | 1, attribute(source, packed) + attribute(destination, packed))  # CTA_TUPLE_IP
    wire_port = struct.pack(">H", port)
    protocol = attribute(1, bytes([socket.IPPROTO_UDP])) + attribute(2, wire_port) + attribute(3, wire_port)
    tuple_ = ends + attribute(0x8000 | 2, protocol)  # CTA_TUPLE_PROTO
    return struct.pack("=BBH", family, 0, 0) + attribute(0x8000 | 1, tuple_)  # CTA_TUPLE_ORIG
