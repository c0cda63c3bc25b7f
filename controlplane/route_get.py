# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel itself says about a packet's way: `ip route get`, by RTM_GETROUTE.

It goes through the whole of the routing code with the packet's ingress, and so says of a martian source or of
rp_filter what a FIB lookup does not: inet_rtm_getroute() in net/ipv4/route.c, inet6_rtm_getroute() in
net/ipv6/route.c.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.census import PROTOCOLS
from controlplane.errors import NetlinkError
from controlplane.netlink import NetlinkSocket, attribute, attributes, objects
from controlplane.notes import RTMSG

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 2, 3, 4, 5, 6
_RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 8, 9, 15, 18
_RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT = 27, 28, 29
_RTAX_MTU = 2
_TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
)  # fmt: skip
_TABLES = {253: "default", 254: "main", 255: "local"}
_WITH_PORTS = {socket.IPPROTO_TCP, socket.IPPROTO_UDP}
_TAKEN = {*_WITH_PORTS, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6}
"""rtm_getroute_parse_ip_proto() refuses any other protocol"""
_DSCP = 0xFC
_ERRORS = {
    errno.EINVAL: "a blackhole route, rp_filter, or a martian address",
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "unreachable, or no way to answer the sender",
    errno.EACCES: "prohibited",
    errno.EXDEV: "refused by rp_filter, or the source is martian",
}


@dataclass(frozen=True)
class Question:
    """Addresses are packed, `source` may be empty; numbers as in the packet. `ifindex`: where it comes in; 0: the machine
    sends it itself."""

    source: bytes
    destination: bytes
    ifindex: int = 0
    tos: int = 0
    protocol: int = 0
    sport: int = 0
    dport: int = 0


@dataclass(frozen=True)
class Route:
    kind: str
    """unicast, local, broadcast, ..."""
    prefix: str
    """that matched; of an answer in full, the destination itself"""
    gateway: str = ""
    ifindex: int = 0
    table: int = 0
    protocol: str = ""
    metric: int | None = None
    mtu: int = 0
    paths: int = 1

    def text(self, names: Mapping[int, str]) -> str:
        """As `ip route` has it."""
        words = [] if self.kind == "unicast" else [self.kind]
        words.append(self.prefix)
        if self.gateway:
            words += ["via", self.gateway]
        if self.ifindex:
            words += ["dev", names.get(self.ifindex, f"#{self.ifindex}")]
        if self.paths > 1:
            words.append(f"({self.paths} next hops)")
        if self.table:
            words += ["table", _TABLES.get(self.table, str(self.table))]
        if self.protocol:
            words += ["proto", self.protocol]
        if self.metric is not None:
            words += ["metric", str(self.metric)]
        if self.mtu:
            words += ["mtu", str(self.mtu)]
        return " ".join(words)


@dataclass(frozen=True)
class Answer:
    route: Route | None
    """None: an error"""
    error: str = ""
    matched: Route | None = None
    """the route of the table that it came from, where the kernel tells (5.17)"""


def ask(sock: NetlinkSocket, question: Question) -> Answer:
    """Never raises for what the kernel has to say about the route."""
    try:
        route = _get(sock, question)
    except NetlinkError as error:
        meaning = _ERRORS.get(error.errno)
        return Answer(None, f"{error} ({meaning})" if meaning else str(error))
    try:
        matched = _get(sock, question, RTM_F_FIB_MATCH)
    except NetlinkError:
        matched = None
    return Answer(route, matched=matched)


def _get(sock: NetlinkSocket, question: Question, flags: int = 0) -> Route:
    bits = 8 * len(question.destination)
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    if family == socket.AF_INET:
        flags |= RTM_F_LOOKUP_TABLE  # IPv6 tells the table anyhow, and refuses the flag
    payload = RTMSG.pack(family, bits, 8 * len(question.source), question.tos & _DSCP, 0, 0, 0, 0, flags)
    payload += attribute(_RTA_DST, question.destination)
    payload += attribute(_RTA_SRC, question.source) if question.source else b""
    if question.ifindex:
        payload += attribute(_RTA_IIF, struct.pack("=I", question.ifindex))
    if question.protocol in _TAKEN:
        payload += attribute(_RTA_IP_PROTO, bytes([question.protocol]))
    if question.protocol in _WITH_PORTS:
        for kind, port in ((_RTA_SPORT, question.sport), (_RTA_DPORT, question.dport)):
            payload += attribute(kind, port.to_bytes(2)) if port else b""
    for data in sock.request(RTM_GETROUTE, payload):
        for head, fields in objects(data, RTMSG, {RTM_NEWROUTE}):
            return _route(family, head, fields)
    raise NetlinkError("the kernel gave no route", errno.ENODATA)


def _route(family: int, head: tuple, fields: Mapping[int, bytes]) -> Route:
    _, bits, _, _, table, protocol, _, kind, _ = head
    size = 4 if family == socket.AF_INET else 16
    address = socket.inet_ntop(family, fields.get(_RTA_DST, b"").ljust(size, b"\0")[:size])
    prefix = "default" if bits == 0 else address if bits == 8 * size else f"{address}/{bits}"
    paths = list(_paths(fields.get(_RTA_MULTIPATH, b"")))
    return Route(
        kind=_TYPES[kind] if kind < len(_TYPES) else str(kind),
        prefix=prefix,
        gateway=_gateway(family, fields),
        ifindex=_integer(fields, _RTA_OIF) or 0,
        table=_integer(fields, _RTA_TABLE) or table,
        protocol=PROTOCOLS.get(protocol, str(protocol) if protocol else ""),
        metric=_integer(fields, _RTA_PRIORITY),
        mtu=_mtu(fields.get(_RTA_METRICS, b"")),
        paths=len(paths) or 1,
    )


def _gateway(family: int, fields: Mapping[int, bytes]) -> str:
    if (gateway := fields.get(_RTA_GATEWAY)) is not None:
        return socket.inet_ntop(family, gateway)
    if via := fields.get(_RTA_VIA):  # struct rtvia: family, address
        return socket.inet_ntop(struct.unpack_from("=H", via)[0], via[2:])
    return ""


def _paths(data: bytes) -> Iterator[int]:
    """The lengths of the struct rtnexthop in RTA_MULTIPATH."""
    while len(data) >= 8:
        (length,) = struct.unpack_from("=H", data)
        if length < 8:
            return
        yield length
        data = data[(length + 3) & ~3 :]


def _mtu(metrics: bytes) -> int:
    return _integer(dict(attributes(metrics)), _RTAX_MTU) or 0


def _integer(fields: Mapping[int, bytes], kind: int) -> int | None:
    value = fields.get(kind)
    return struct.unpack("=I", value)[0] if value is not None and len(value) == 4 else None
