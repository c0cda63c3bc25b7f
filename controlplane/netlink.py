# SPDX-License-Identifier: GPL-2.0-only
"""Netlink sockets of our own, because an overrun must be an event and a dump must not block the loop's state.

pyroute2 parses the attributes of what arrives; its sockets are not used here: after ENOBUFS they are
dead, and they read a million routes at 33 us each.
"""

import errno
import itertools
import os
import socket
import struct
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager

from controlplane.errors import NetlinkError, NetlinkOverrun

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x10, 0x300, 0x400
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP, NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK = 1, 11, 10, 12
NLMSGERR_ATTR_MSG = 1
RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE = 1, 3, 4, 7, 11
RTNLGRP_SETTINGS = (5, 8, 9, 19, 24, 25, 32)
"""IPv4 and IPv6 addresses, rules and sysctls, nexthops: IFADDR, RULE, NETCONF, NEXTHOP of
include/uapi/linux/rtnetlink.h"""
SO_RCVBUFFORCE = 33
SO_ATTACH_BPF = 50

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port id
_DUMP_ATTEMPTS = 10
_DUMP_TIMEOUT_S = 30
_RECEIVE_BYTES = 1 << 18
_BATCH = 128
"""requests in one send: the answers of all of them fit the smallest receive buffer"""


class NetlinkSocket:
    """One socket of one netlink protocol, in the caller's network namespace."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE, receive_buffer: int = 1 << 20):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        # Forced past net.core.rmem_max, and before any group is joined: a burst must fit.
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def join(self, group: int) -> None:
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def attach_filter(self, program_fd: int) -> None:
        """Let a BPF socket filter see each message before it is queued."""
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, program_fd)

    def receive(self) -> bytes | None:
        """What is queued now, without waiting; None when there is nothing.

        Raises NetlinkOverrun when the kernel had to throw messages away (ENOBUFS).
        """
        try:
            return self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise NetlinkOverrun("netlink events were lost") from error
            raise

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        """Send one request and return the messages of its answer, headers included.

        Raises NetlinkError with the kernel's reason (its extended acknowledgement, if it gave one).
        """
        return list(self._exchange(kind, payload, flags | NLM_F_ACK))

    def batch(self, kind: int, requests: Iterable[tuple[bytes, int]]) -> int:
        """Send many requests of one kind, (payload, flags) each, in their order; returns how many were refused.

        Each refusal is one small answer; all the others have none but the last.
        """
        refused, requests = 0, iter(requests)
        while part := list(itertools.islice(requests, _BATCH)):
            refused += self._send_part(kind, part)
        return refused

    def _send_part(self, kind: int, part: list[tuple[bytes, int]]) -> int:
        out = []
        for number, (payload, flags) in enumerate(part, start=1):
            self._sequence += 1
            flags |= NLM_F_REQUEST | (NLM_F_ACK if number == len(part) else 0)
            out.append(HEADER.pack(HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload)
        refused = 0
        with self._patience():
            self._socket.send(b"".join(out))
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                for offset, _, _, _ in messages(data):
                    refused += _error_code(data, offset) != 0
                    if HEADER.unpack_from(data, offset)[3] == self._sequence:
                        return refused

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """All objects of one kind as buffers of whole messages. A dump that the kernel marks as
        interrupted by a change is taken again."""
        for _ in range(_DUMP_ATTEMPTS):
            buffers = list(self._exchange(kind, payload, NLM_F_DUMP))
            if not any(flags & NLM_F_DUMP_INTR for data in buffers for _, _, flags, _ in messages(data)):
                return buffers
        return buffers  # under constant churn: the events that are queued behind it complete it

    def stream(self, kind: int, payload: bytes) -> Iterator[bytes]:
        """A dump as it arrives, never whole in memory; under churn it can miss or repeat an object."""
        return self._exchange(kind, payload, NLM_F_DUMP)

    def _exchange(self, kind: int, payload: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        length = HEADER.size + len(payload)
        with self._patience():
            self._socket.send(HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0) + payload)
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                yield data
                for offset, message_kind, _, _ in messages(data):
                    if message_kind == NLMSG_DONE:
                        return
                    if message_kind == NLMSG_ERROR:
                        _raise_if_refused(data, offset)
                        return

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait for answers, but not for ever."""
        self._socket.settimeout(_DUMP_TIMEOUT_S)
        try:
            yield
        except TimeoutError as error:
            raise NetlinkError(f"the kernel did not answer within {_DUMP_TIMEOUT_S} s") from error
        finally:
            # With a timeout set, Python polls before each recv, and MSG_DONTWAIT would wait.
            self._socket.settimeout(None)


def messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(offset, type, flags, length) of each message in a buffer."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            return
        yield offset, kind, flags, length
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type without its flags, value) of each attribute in a row of them."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def objects(data: bytes, header: struct.Struct, kinds: Container[int]) -> Iterator[tuple[tuple, dict[int, bytes]]]:
    """(fields of `header`, attributes) of each message of these types in a buffer. `header` is what the family puts
    between struct nlmsghdr and the attributes, such as struct rtmsg; a message too short for it is passed over."""
    for offset, kind, _, length in messages(data):
        start, end = offset + HEADER.size, min(offset + length, len(data))
        if kind in kinds and start + header.size <= end:
            yield header.unpack_from(data, start), dict(attributes(data[start + header.size : end]))


def _error_code(data: bytes, offset: int) -> int:
    """The errno of an NLMSG_ERROR message, 0 for an acknowledgement."""
    if len(data) < offset + HEADER.size + 4:
        raise NetlinkError("the kernel's error message is cut short")
    return -struct.unpack_from("=i", data, offset + HEADER.size)[0]


def _raise_if_refused(data: bytes, offset: int) -> None:
    length = HEADER.unpack_from(data, offset)[0]
    code = _error_code(data, offset)
    if code == 0:
        return
    # NETLINK_CAP_ACK: only the request's header follows the code, then the attributes.
    extended = dict(attributes(data[offset + HEADER.size + 4 + HEADER.size : offset + length]))
    reason = extended.get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    raise NetlinkError(reason or os.strerror(code), code)
