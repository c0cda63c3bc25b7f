# SPDX-License-Identifier: GPL-2.0-only
"""Events of the daemon, declared once.

On the wire: two frames, the kind and one JSON object.

    port
    {"version": 1, "seq": 7, "time": 1790000000.123, "pid": 812, "kind": "port", "port": "eth0", "state": "down", ...}

`seq` counts the events of one daemon (`pid`), `alive` apart: a gap is what a subscriber has lost. `time` is in
seconds since 1970. Kinds and keys are added, never changed.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

VERSION = 1
SILENCE_S = 3.0
"""A daemon that lives and works says something, and answers, every second: after so long it is stopped, or stuck."""


@dataclass(frozen=True)
class Daemon:
    """A daemon has begun its work, or ends it."""

    KIND: ClassVar[str] = "daemon"
    state: str
    """started or stopping"""
    program_id: int
    text: str


@dataclass(frozen=True)
class Alive:
    """Once a second, so that silence means something. `seq` is that of the last event."""

    KIND: ClassVar[str] = "alive"


@dataclass(frozen=True)
class Port:
    KIND: ClassVar[str] = "port"
    port: str
    state: str
    """as in `status`"""
    reason: str
    before: str | None
    """the state; null: it was no port"""


@dataclass(frozen=True)
class PortRemoved:
    KIND: ClassVar[str] = "port_removed"
    port: str


@dataclass(frozen=True)
class Device:
    """A port's device is another one under the same name, or has another MAC or MTU."""

    KIND: ClassVar[str] = "device"
    port: str
    what: str
    """ifindex, mac or mtu"""
    before: str
    now: str


@dataclass(frozen=True)
class Guard:
    """A finding has come or gone."""

    KIND: ClassVar[str] = "guard"
    found: bool
    device: str | None
    """the port it concerns; null: all of them"""
    text: str


@dataclass(frozen=True)
class Neighbour:
    """A next hop that carries fast-path traffic."""

    KIND: ClassVar[str] = "neighbour"
    change: str
    """unresolved, resolved, moved (another MAC), managed, unmanaged, idle"""
    device: str
    ifindex: int
    address: str
    state: str
    """as in `ip neigh`; absent: the kernel has no entry"""
    managed: bool
    mac: str | None
    mac_before: str | None


@dataclass(frozen=True)
class Omitted:
    """So many more changed at the same moment than are told one by one."""

    KIND: ClassVar[str] = "omitted"
    of: str
    """the kind"""
    number: int


@dataclass(frozen=True)
class Netlink:
    """The kernel's announcements did not fit into the buffers; everything was read anew."""

    KIND: ClassVar[str] = "netlink"
    overruns: int
    """since the last such event"""
    resyncs: int


@dataclass(frozen=True)
class Rate:
    """Routes a second."""

    added_per_s: float
    """or replaced"""
    deleted_per_s: float


@dataclass(frozen=True)
class Routes:
    """Routes come and go: once a second while they do, and once, without protocols, when they no longer do."""

    KIND: ClassVar[str] = "routes"
    by_protocol: dict[str, Rate]
    changes: int
    """since the churn began"""
    lasted_s: float


@dataclass(frozen=True)
class Cache:
    """The FIB's answers are recalled from now on, or no longer."""

    KIND: ClassVar[str] = "cache"
    granted: bool
    reason: str
    """why not"""


@dataclass(frozen=True)
class Program:
    """Another program runs on the ports."""

    KIND: ClassVar[str] = "program"
    program_id: int
    before: int


@dataclass(frozen=True)
class Sync:
    """Whether everything is as configured."""

    KIND: ClassVar[str] = "sync"
    in_sync: bool
    reasons: list[str]


# Made by the client, where the daemon cannot tell.


@dataclass(frozen=True)
class Disconnected:
    KIND: ClassVar[str] = "disconnected"


@dataclass(frozen=True)
class Connected:
    """There is a daemon again."""

    KIND: ClassVar[str] = "connected"


@dataclass(frozen=True)
class Lost:
    """So many events were dropped, since this subscriber did not read them in time."""

    KIND: ClassVar[str] = "lost"
    number: int


FROM_DAEMON = (
    Daemon, Alive, Port, PortRemoved, Device, Guard, Neighbour, Omitted, Netlink, Routes, Cache, Program, Sync,
)  # fmt: skip
FROM_CLIENT = (Disconnected, Connected, Lost)
Event = (
    Daemon | Alive | Port | PortRemoved | Device | Guard | Neighbour | Omitted | Netlink | Routes | Cache | Program
    | Sync | Disconnected | Connected | Lost
)  # fmt: skip


def table(event: Event, seq: int, time: float, pid: int) -> dict:
    """As it goes over the wire. A client's own have seq 0."""
    head = {"version": VERSION, "seq": seq, "time": round(time, 3), "pid": pid, "kind": event.KIND}
    return head | dataclasses.asdict(event)


def encode(message: dict) -> list[bytes]:
    """The frames of one message."""
    return [message["kind"].encode(), json.dumps(message, separators=(",", ":")).encode()]


def decode(frames: list[bytes]) -> dict | None:
    """The message, or None if that is none of a version that can be understood."""
    try:
        message = json.loads(frames[-1])
        if message["version"] == VERSION and type(message["seq"]) is type(message["pid"]) is int:
            return message if isinstance(message["kind"], str) else None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass
    return None
