# SPDX-License-Identifier: GPL-2.0-only
"""Frames that cross a router from one interface to another, whatever tags they bear on either side."""

import itertools
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from lab import namespace
from lab.lab import Lab
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import Wire, mac
from tests.vlan_tag import DOT1AD, DOT1Q

PORT = 9
TTL = 64
TRUTH_S = 30.0
"""Bound of every wait for a state, generous: a program may have to be compiled meanwhile."""
TIMES = 3
_MARK = struct.Struct("!4sI")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Side:
    """What a router sees on one side: a host, and how its frames look on the wire."""

    host: str
    """Node that has the addresses"""
    device: str
    """of the host, that has them, too"""
    port: str
    """of the router"""
    interface: str
    """of the router: the port itself or what sits on it"""
    addresses: tuple[str, str]
    """IPv4, IPv6"""
    tags: tuple[tuple[int, int], ...] = ()
    """(protocol, VID), the outer first"""
    wires: tuple[tuple[str, str], ...] = ()
    """(node, device) at the far end of the router's port; more than one for a bond. Empty: the host's own"""

    vrf: str = ""
    """of the host, that it is to speak from"""
    listener: str = ""
    """The node that speaks and listens there, if `host` is only the next hop towards it"""

    @property
    def station(self) -> str:
        return self.listener or self.host

    @property
    def ends(self) -> tuple[tuple[str, str], ...]:
        return self.wires or ((self.host, self.device.partition(".")[0]),)

    def address(self, family: int) -> str:
        return self.addresses[family == 6]

    def ethernet(self, destination: str, source: str) -> bytes:
        macs = bytes.fromhex((destination + source).replace(":", ""))
        return macs + b"".join(struct.pack("!HH", protocol, vid) for protocol, vid in self.tags)


def dot1q(*vids: int) -> tuple[tuple[int, int], ...]:
    return tuple((DOT1Q, vid) for vid in vids)


def dot1ad(outer: int, inner: int) -> tuple[tuple[int, int], ...]:
    return ((DOT1AD, outer), (DOT1Q, inner))


class Crossing:
    """From `source` to `target` by way of `router`. A context manager; somebody listens at the target meanwhile."""

    def __init__(self, lab: Lab, router: Router, source: Side, target: Side):
        self.lab, self.router, self.source, self.target = lab, router, source, target
        self._undo = ExitStack()
        self._macs: dict[tuple[str, str], str] = {}

    def __enter__(self) -> "Crossing":
        with namespace.entered(self.lab.ns(self.target.station)):
            sink = self._undo.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sink.bind(("::", PORT))
        node, device = self.source.ends[0]
        self._sender = self._undo.enter_context(Wire(self.lab.ns(node), device))
        self._receivers = [
            self._undo.enter_context(Wire(self.lab.ns(node), device)) for node, device in self.target.ends
        ]
        return self

    def __exit__(self, *_) -> None:
        self._undo.close()

    def frame(self, family: int, size: int = 100, **fields) -> tuple[bytes, bytes]:
        """(as it is sent, as the router must send it). `size` with the IP header; `fields` go to the IP header."""
        number = next(_numbers)
        source, target = (side.address(family) for side in (self.source, self.target))
        if family == 4:
            head = IP(**{"src": source, "dst": target, "ttl": TTL, "id": number & 0xFFFF, "flags": "DF"} | fields)
        else:
            head = IPv6(**{"src": source, "dst": target, "hlim": TTL} | fields)
        body = bytes(size - len(head) - 8 - _MARK.size) + _MARK.pack(b"mark", number)
        packet = head / UDP(sport=4000 + number % 1000, dport=PORT) / Raw(body)
        ethertype = struct.pack("!H", 0x0800 if family == 4 else 0x86DD)
        router = self.router.node
        host = self._mac(self.source.host, self.source.device)
        sent = self.source.ethernet(self._mac(router, self.source.interface), host) + ethertype + bytes(packet)
        again = packet.copy()
        if family == 4:
            again.ttl -= 1
            del again.chksum
        else:
            again.hlim -= 1
        beyond = self._mac(self.target.host, self.target.device)
        expected = self.target.ethernet(beyond, self._mac(router, self.target.interface)) + ethertype + bytes(again)
        return sent, expected

    def _mac(self, node: str, device: str) -> str:
        if (node, device) not in self._macs:
            self._macs[node, device] = mac(self.lab.ns(node), device)
        return self._macs[node, device]

    def send(self, frame: bytes) -> None:
        self._sender.send(frame)

    def resolve(self) -> None:
        """Both hosts are known to the router, and it to them."""
        for family in (4, 6):
            address = self.target.address(family)
            inside = ["-I", self.source.vrf] if self.source.vrf else []
            ping = ["ping", f"-{family}", *inside, "-c", "1", "-W", "2", address]
            wait_until(
                lambda ping=ping: self.lab.exec(self.source.station, ping).returncode == 0,
                TRUTH_S,
                f"{self.source.station} to reach {address}",
            )

    def crosses(self, count: int = 5, families: tuple[int, ...] = (4, 6), fast: bool | None = True, **fields) -> None:
        """`count` frames of each family arrive as they must; `fast`: on the fast path, all or (False) none of them.

        None: either way. A bridge is given a frame of each sender every ten seconds, and its copy is not believed when a
        slow machine keeps the daemon waiting: so all of them on the fast path, at the latest at the third time.
        """
        for attempt in range(1, TIMES + 1):
            risen = self._cross(count, families, **fields)
            if fast is not True or risen >= count * len(families):
                break
            assert attempt < TIMES, f"{risen} of {count * len(families)} on the fast path"
        assert fast is not False or risen == 0, f"{risen} on the fast path"

    def _cross(self, count: int, families: tuple[int, ...], **fields) -> int:
        """How many were on the fast path."""
        self._macs.clear()
        for wire in self._receivers:
            wire.forget()
        before = self.router.verdict("forward", self.source.port)
        for family in families:
            expected = []
            for _ in range(count):
                frame, result = self.frame(family, **fields)
                self.send(frame)
                expected.append(result)
            arrived = self.arrived(expected)
            assert arrived == expected, f"IPv{family}:\n{_hex(arrived)}\ninstead of\n{_hex(expected)}"
        return self.router.verdict("forward", self.source.port) - before

    def becomes_fast(self, families: tuple[int, ...] = (4, 6), **fields) -> None:
        """Within TRUTH_S frames take the fast path; until then they cross by the kernel."""

        wait_until(
            lambda: self._cross(1, families, **fields) >= len(families),
            TRUTH_S,
            f"frames from {self.source.interface} to {self.target.interface} to be fast",
        )
        self.crosses(families=families, **fields)

    def arrived(self, expected: list[bytes], timeout_s: float = 10.0, until: bytes = b"") -> list[bytes]:
        """Frames with the marks of the expected ones, in the order of these; over all ends of the target. All that came
        before `until`, if that is one of them."""
        marks = {frame[-_MARK.size :]: place for place, frame in enumerate(expected)}
        found: dict[int, bytes] = {}

        def all_there() -> bool:
            for wire in self._receivers:
                for frame in wire.frames(0.001):
                    if (place := marks.get(frame[-_MARK.size :])) is not None:
                        assert place not in found, "twice"
                        found[place] = frame
            return len(found) == len(expected) or marks.get(until[-_MARK.size :]) in found

        try:
            wait_until(all_there, timeout_s, "the frames")
        except TimeoutError:
            pass
        return [found[place] for place in sorted(found)]

    def receives(self, frame: bytes) -> bool:
        """Whether exactly this frame arrives at one of the target's ends."""
        return any(wire.expect(1, lambda found: found == frame) for wire in self._receivers)

    def nothing_of(self, frames: list[bytes], timeout_s: float = 0.5) -> None:
        """None of these arrives, in any shape."""
        for frame in frames:
            self.send(frame)
        arrived = self.arrived(frames, timeout_s)
        assert arrived == [], _hex(arrived)

    def vanishes(self, frames: list[bytes]) -> None:
        """None of these arrives, in any shape; known when one sent after them, which crosses, has arrived."""
        for frame in frames:
            self.send(frame)
        sent, expected = self.frame(4)
        self.send(sent)
        arrived = self.arrived([*frames, expected], until=expected)
        assert arrived == [expected], _hex(arrived)


@contextmanager
def crossing(lab: Lab, router: Router, source: Side, target: Side, resolve: bool = True) -> Iterator[Crossing]:
    with Crossing(lab, router, source, target) as made:
        if resolve:
            made.resolve()
        yield made


def shows(router: Router, name: str, **expected) -> None:
    """Within TRUTH_S `status` shows the interface so; of a `reason` a part is enough."""

    def looks_so() -> bool:
        found = interface(router, name)
        return found is not None and all(
            value in found[key] if key == "reason" else found[key] == value for key, value in expected.items()
        )

    try:
        wait_until(looks_so, TRUTH_S, f"{name} to show {expected}")
    except TimeoutError as error:
        raise AssertionError(f"{error}; it shows {interface(router, name)}") from error


def is_gone(router: Router, name: str) -> None:
    wait_until(lambda: interface(router, name) is None, TRUTH_S, f"{name} to be gone")


def interface(router: Router, name: str) -> dict | None:
    return next((one for one in router.status()["interfaces"] if one["name"] == name), None)


def ip(lab: Lab, node: str, line: str) -> None:
    """An `ip` command on a node."""
    done = lab.exec(node, ["ip", *line.split()])
    assert done.returncode == 0, f"ip {line}: {done.stderr}"


def _hex(frames: list[bytes]) -> str:
    return "\n".join(frame.hex() for frame in frames) or "nothing"
