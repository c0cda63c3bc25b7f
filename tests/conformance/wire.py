# SPDX-License-Identifier: GPL-2.0-only
"""The far ends of one router's links: frames go in here, and everything that comes out is collected here.

How it is known that nothing is under way any more, without waiting: each port is asked by ARP for its own address. The
answer leaves behind all that the port has taken in before (first round), and so a second answer from each port comes
behind all that any port has put out. Both hold because sender and softirqs share one CPU (see `Pair`), and a
veth's ring keeps its order.
"""

import errno
import itertools
import socket
import struct
from collections.abc import Iterable, Mapping

from lab import namespace
from lab.errors import LabTimeout
from tests import vlan_tag
from tests.conformance.topology import NUMBERS, PROBE_HOST, address

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33
ANSWER_TIMEOUT_S = 10.0
BURST = 64
"""Frames between two questions; a veth's ring holds 256, and a frame may come out as several."""

WRONG_TAG = b"\xff\xff"
"""In the place of the tags of a frame that lacks its port's"""

Frames = list[tuple[str, bytes]]
"""(port, frame) pairs."""

_serial = itertools.count(1)


class FarEnds:
    """A context manager."""

    def __init__(self, ns: str, tags: Mapping[str, bytes]):
        """`tags`: port -> what its frames bear, which is taken off and put on here."""
        self._tags = {port: tags.get(port, b"") for port in NUMBERS}
        self._own = {port: address(port, 4) for port in NUMBERS}
        self._sockets = {port: _open(ns, port) for port in NUMBERS}
        self._arrived: Frames = []

    def __enter__(self) -> "FarEnds":
        return self

    def __exit__(self, *_) -> None:
        for sock in self._sockets.values():
            sock.close()

    def exchange(self, frames: Iterable[tuple[str, bytes]]) -> Frames:
        """Send frames into ports; everything that has come out of all ports when nothing is under way any more."""
        frames = iter(frames)
        while burst := list(itertools.islice(frames, BURST)):
            for port, frame in burst:
                self._send(port, frame)
            self._settle()
        return self.take()

    def take(self) -> Frames:
        """What has come out since it was last asked."""
        self._settle()
        arrived, self._arrived = self._arrived, []
        return arrived

    def _settle(self) -> None:
        for _ in range(2):
            questions = {port: self._ask(port) for port in self._sockets}
            for port, token in questions.items():
                self._collect_until(port, token)

    def _ask(self, port: str) -> bytes:
        """The token is the hardware address that the answer goes to."""
        token = b"\x06" + next(_serial).to_bytes(5)
        sender = socket.inet_aton(f"{self._own[port].rpartition('.')[0]}.{PROBE_HOST}")
        question = struct.pack(
            "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, token, sender, bytes(6), socket.inet_aton(self._own[port])
        )
        self._send(port, b"\xff" * 6 + token + b"\x08\x06" + question)
        return token

    def _collect_until(self, port: str, token: bytes) -> None:
        sock = self._sockets[port]
        while True:
            try:
                data, control, _, _ = sock.recvmsg(65535, vlan_tag.AUXDATA_SPACE)
            except TimeoutError:
                raise LabTimeout(f"{port}: no answer to an ARP question in {ANSWER_TIMEOUT_S:g} s") from None
            if data[:6] == token:
                return
            self._arrived.append((port, self._untagged(port, vlan_tag.with_tag(data, control))))

    def _send(self, port: str, frame: bytes) -> None:
        tags = self._tags[port]
        try:
            self._sockets[port].send(frame[:12] + tags + frame[12:])
        except OSError as error:
            # With a second tag it may be longer than the other end takes, which veth tells its sender.
            if error.errno != errno.ENOBUFS or len(tags) < 8:
                raise

    def _untagged(self, port: str, frame: bytes) -> bytes:
        """Without the port's tags; one that lacks them is no longer like any that has them."""
        tags = self._tags[port]
        if frame[12:].startswith(tags):
            return frame[:12] + frame[12 + len(tags) :]
        return frame[:12] + WRONG_TAG + frame[12:]


def _open(ns: str, port: str) -> socket.socket:
    with namespace.entered(ns):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    vlan_tag.show(sock)
    sock.bind((port, ETH_P_ALL))
    sock.settimeout(ANSWER_TIMEOUT_S)
    return sock
