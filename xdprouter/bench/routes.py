# SPDX-License-Identifier: GPL-2.0-only
"""The routing tables that are measured with, put into the kernel by raw netlink messages.

Without acknowledgement and a thousand to a send: a million IPv4 routes in a few seconds. The kernel answers
refused messages all the same, so none goes unnoticed.
"""

import errno
import ipaddress
import random
import socket
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from xdprouter.errors import XdprouterError

# Per cent of the prefixes by length, about as in the Internet's table.
LENGTHS = {
    4: {24: 60, 22: 11, 23: 10, 21: 5, 20: 5, 19: 3, 16: 3, 18: 2, 17: 1},
    6: {48: 60, 32: 15, 44: 10, 40: 10, 36: 5},
}
BITS = {4: 32, 6: 128}
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
NLM_F_REQUEST, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_CREATE = 0x1, 0x200, 0x100, 0x400
_ADD, _REPLACE = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, NLM_F_REQUEST | NLM_F_REPLACE
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RT_SCOPE_NOWHERE, _RTN_UNICAST = 254, 4, 0, 255, 1
_NLMSG_ERROR = 2
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_MESSAGES_PER_SEND = 1000
_BUFFER_BYTES = 1 << 20

Prefix = tuple[int, int]
"""address as a number, length"""


class RouteMessages:
    """Messages about routes of one family by next hops on one device."""

    def __init__(self, family: int, gateways: Iterable[str], ifindex: int):
        self._family = socket.AF_INET if family == 4 else socket.AF_INET6
        self._address_bytes = BITS[family] // 8
        device = struct.pack("=HHI", 8, _RTA_OIF, ifindex)
        hops = [ipaddress.ip_address(gateway).packed for gateway in gateways]
        self._hops = [struct.pack("=HH", 4 + len(hop), _RTA_GATEWAY) + hop + device for hop in hops]
        self._heads: dict[tuple[int, int, int], bytes] = {}

    def add(self, prefix: Prefix, hop: int = 0) -> bytes:
        return self._message(RTM_NEWROUTE, _ADD, prefix, self._hops[hop])

    def replace(self, prefix: Prefix, hop: int = 0) -> bytes:
        return self._message(RTM_NEWROUTE, _REPLACE, prefix, self._hops[hop])

    def delete(self, prefix: Prefix) -> bytes:
        return self._message(RTM_DELROUTE, NLM_F_REQUEST, prefix, b"")

    def _message(self, kind: int, flags: int, prefix: Prefix, hop: bytes) -> bytes:
        address, length = prefix
        key = (kind, flags, length)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._head(kind, flags, length, len(hop))
        return head + address.to_bytes(self._address_bytes, "big") + hop

    def _head(self, kind: int, flags: int, prefix_length: int, hop_bytes: int) -> bytes:
        """struct nlmsghdr, struct rtmsg, and the head of RTA_DST."""
        scope = _RT_SCOPE_UNIVERSE if kind == RTM_NEWROUTE else _RT_SCOPE_NOWHERE
        length = 16 + 12 + 4 + self._address_bytes + hop_bytes
        return (
            struct.pack("=IHHII", length, kind, flags, 0, 0)
            + struct.pack(
                "=BBBBBBBBI",
                self._family, prefix_length, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_UNICAST, 0,
            )
            + struct.pack("=HH", 4 + self._address_bytes, _RTA_DST)
        )  # fmt: skip


class RouteSocket:
    """Sends messages to the kernel of the namespace that the caller is in."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._socket.bind((0, 0))

    def __enter__(self) -> "RouteSocket":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def send(self, messages: bytes) -> None:
        """Carried out when this returns. Raises XdprouterError with the kernel's reason if it refused one."""
        self._socket.send(messages)
        try:
            answer = self._socket.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:  # ENOBUFS: so many refusals that they did not fit
            raise XdprouterError(f"the kernel refused routes: {error.strerror}") from error
        kind, code = struct.unpack_from("=4xH10xi", answer)
        if kind == _NLMSG_ERROR and code:
            raise XdprouterError(f"the kernel refused a route: {errno.errorcode.get(-code, code)}")

    def send_all(self, messages: Iterator[bytes]) -> None:
        while chunk := list(islice(messages, _MESSAGES_PER_SEND)):
            self.send(b"".join(chunk))


class RouteTable:
    """Routes of one family that only ever grow: the first is the default route, the next are random
    prefixes, the same in every run, each by a next hop chosen at random."""

    def __init__(self, family: int, gateways: list[str], ifindex: int):
        self._family = family
        self._messages = RouteMessages(family, gateways, ifindex)
        self._hops = range(len(gateways))
        self._random = random.Random(family)
        self._known: dict[Prefix, None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def grow(self, size: int) -> None:
        """Add routes until there are `size`; in the namespace that the caller is in."""
        with RouteSocket() as sock:
            sock.send_all(self._messages.add(prefix, self._random.choice(self._hops)) for prefix in self._new(size))

    def _new(self, size: int) -> Iterator[Prefix]:
        lengths = LENGTHS[self._family]
        if not self._known:
            self._known[(0, 0)] = None
            yield 0, 0
        while len(self._known) < size:
            for length in self._random.choices(list(lengths), list(lengths.values()), k=size - len(self._known)):
                prefix = self._draw(length)
                if prefix not in self._known:
                    self._known[prefix] = None
                    yield prefix

    def destinations(self, count: int) -> list[int]:
        """Addresses in randomly chosen prefixes; with the default route alone, anywhere. Of IPv6 the upper
        halves: the generator's lower half is constant."""
        bits = 32 if self._family == 4 else 64
        shift = BITS[self._family] - bits
        prefixes = list(self._known)[1:]
        if prefixes:
            chosen = self._random.choices(prefixes, k=count)
        else:
            chosen = [self._draw(length) for length in self._random.choices(list(LENGTHS[self._family]), k=count)]
        fill = self._random.getrandbits
        return [(address >> shift) | fill(bits - length) for address, length in chosen]

    def _draw(self, length: int) -> Prefix:
        if self._family == 6:  # 2000::/3
            return (1 << (length - 3) | self._random.getrandbits(length - 3)) << (128 - length), length
        while True:
            address = self._random.getrandbits(length) << (32 - length)
            if 1 <= address >> 24 < 224 and address >> 24 not in (10, 127):
                return address, length
