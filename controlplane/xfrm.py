# SPDX-License-Identifier: GPL-2.0-only
"""XFRM (IPsec): policies that a forwarded packet meets, in `fwd` on its way in and in `out` on its way out
(ip_forward in net/ipv4/ip_forward.c). `in` is for packets to the router itself.

Layouts: include/uapi/linux/xfrm.h.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from controlplane.errors import NetlinkError
from controlplane.finding import Finding
from controlplane.netlink import HEADER, NetlinkSocket, attributes, objects

NETLINK_XFRM = 6
XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY, XFRM_MSG_GETSPDINFO, XFRM_MSG_GETDEFAULT = 19, 21, 37, 40
_POLICY = struct.Struct("=16s16sHHHHHBBB3xiI64x32xIIBBBB4x")  # struct xfrm_userpolicy_info; selector first
_SPD_INFO = 1
_IF_ID = 31
_DIRECTIONS = {1: "out", 2: "fwd"}
_BLOCK = 1


class Xfrm:
    """Remembers the policies until their number changes, or an event says that they did."""

    def __init__(self):
        self._absent = False
        self._counts: tuple[int, int] | None = None
        self._policies: list[Finding] = []

    def examine(self, changed: bool = True) -> list[Finding]:
        """Findings in the caller's network namespace. `changed`: forget what is remembered.

        Raises NetlinkError or OSError when the kernel does not tell.
        """
        if changed:
            self._absent, self._counts = False, None
        if self._absent:
            return []
        try:
            sock = NetlinkSocket(NETLINK_XFRM)
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise
            self._absent = True  # a kernel without XFRM
            return []
        with sock:
            counts = policy_counts(sock.request(XFRM_MSG_GETSPDINFO, struct.pack("=I", 0))[0])
            if counts != self._counts:
                self._counts = None
                self._policies = judge(sock.dump(XFRM_MSG_GETPOLICY, b"")) if any(counts) else []
                self._counts = counts
            return _defaults(sock) + self._policies


def policy_counts(answer: bytes) -> tuple[int, int]:
    """Number of policies (out, fwd) from an XFRM_MSG_NEWSPDINFO."""
    row = dict(attributes(answer[HEADER.size + 4 :]))
    _, out, forward = struct.unpack_from("=3I", row[_SPD_INFO])
    return out, forward


def judge(buffers: list[bytes]) -> list[Finding]:
    """One line for each direction."""
    first: dict[int, str] = {}
    number: dict[int, int] = {}
    for data in buffers:
        for direction, text in policies(data):
            first.setdefault(direction, text)
            number[direction] = number.get(direction, 0) + 1
    return [
        Finding(None, f"xfrm: policy dir {_DIRECTIONS[direction]} {text}{_more(number[direction] - 1)}")
        for direction, text in sorted(first.items())
    ]


def policies(data: bytes) -> Iterator[tuple[int, str]]:
    """(direction, selector in words) of the policies in a buffer that a forwarded packet can meet."""
    for fields, row in objects(data, _POLICY, {XFRM_MSG_NEWPOLICY}):
        destination, source, family, destination_len, source_len = fields[0], fields[1], *fields[6:9]
        direction = fields[14]
        if direction not in _DIRECTIONS:  # in, or of one socket
            continue
        if any(row.get(_IF_ID, b"")):
            continue  # for packets through an xfrm interface of that number only, which no port is
        text = f"{_prefix(family, source, source_len)} -> {_prefix(family, destination, destination_len)}"
        yield direction, text


def _defaults(sock: NetlinkSocket) -> list[Finding]:
    """The policy for packets that match none; it is `accept` unless somebody said `block`."""
    try:
        answer = sock.request(XFRM_MSG_GETDEFAULT, bytes(4))[0]
    except NetlinkError as error:
        if error.errno == errno.EINVAL:  # before Linux 5.15 there was no choice
            return []
        raise
    return default_findings(answer[HEADER.size :])


def default_findings(payload: bytes) -> list[Finding]:
    """From struct xfrm_userpolicy_default: one byte each for in, fwd, out."""
    _, forward, out = payload[:3]
    blocked = [name for name, action in (("fwd", forward), ("out", out)) if action == _BLOCK]
    return [Finding(None, f"xfrm: default policy dir {name} block") for name in blocked]


def _prefix(family: int, address: bytes, length: int) -> str:
    if family == socket.AF_INET6:
        return f"{ipaddress.IPv6Address(address)}/{length}"
    return f"{ipaddress.IPv4Address(address[:4])}/{length}"


def _more(number: int) -> str:
    return f" (and {number} more {'policies' if number != 1 else 'policy'})" if number else ""
