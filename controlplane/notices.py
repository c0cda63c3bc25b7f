# SPDX-License-Identifier: GPL-2.0-only
"""What the engine tells whoever listens: something has changed, and why. Everything is a value.

A listener is called from the engine's loop, and must neither wait nor raise.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.finding import Finding
from controlplane.next_hop import NextHop


@dataclass(frozen=True, slots=True)
class PortChanged:
    """A port is in another state, or for another reason."""

    port: str
    state: str
    reason: str
    before: str | None
    """the state; None: it was no port"""


@dataclass(frozen=True, slots=True)
class PortForgotten:
    """It is no port any more."""

    port: str


@dataclass(frozen=True, slots=True)
class DeviceChanged:
    """A port's device: another MAC, MTU or ifindex than it had, under the same name."""

    port: str
    what: str
    """mac, mtu or ifindex"""
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class FindingCame:
    finding: Finding


@dataclass(frozen=True, slots=True)
class FindingGone:
    finding: Finding


class NeighbourChange(enum.StrEnum):
    """Of a next hop that carries fast-path traffic."""

    UNRESOLVED = "unresolved"
    """it has no link-layer address any more: its packets take the slow path"""
    RESOLVED = "resolved"
    MOVED = "moved"
    """it has another link-layer address"""
    MANAGED = "managed"
    """the kernel keeps it fresh from now on"""
    UNMANAGED = "unmanaged"
    """somebody took that away; the next round asks for it again"""
    IDLE = "idle"
    """it has carried no traffic for long, and is left to itself"""


@dataclass(frozen=True, slots=True)
class NeighbourChanged:
    hop: NextHop
    change: NeighbourChange
    state: str
    """as in `ip neigh`, in lower case; absent: the kernel has no entry"""
    managed: bool
    lladdr: str
    """empty: unknown"""
    lladdr_before: str


@dataclass(frozen=True, slots=True)
class NeighboursOmitted:
    """So many more neighbours have changed in one round than are told one by one."""

    number: int


@dataclass(frozen=True, slots=True)
class NetlinkLost:
    """The kernel had more to tell than the buffers hold; everything is, or will be, read anew."""

    overruns: int
    """since the last notice"""
    resyncs: int


@dataclass(frozen=True, slots=True)
class ChurnRate:
    """Routes a second."""

    added: float
    """or replaced"""
    deleted: float


@dataclass(frozen=True, slots=True)
class RouteChurn:
    """Routes are announced. Without rates: they no longer are."""

    rates: dict[str, ChurnRate]
    """by protocol, over the last second"""
    changes: int
    """since the churn began"""
    lasted_s: float


@dataclass(frozen=True, slots=True)
class CacheGranted:
    """Answers of the FIB are recalled."""


@dataclass(frozen=True, slots=True)
class CacheWithdrawn:
    reason: str


@dataclass(frozen=True, slots=True)
class ProgramSwapped:
    """Another program runs on the ports."""

    program_id: int
    before: int


@dataclass(frozen=True, slots=True)
class SyncChanged:
    """Whether the data plane is as configured; if not, why not."""

    reasons: tuple[str, ...]
    """none: it is"""


Notice = (
    PortChanged
    | PortForgotten
    | DeviceChanged
    | FindingCame
    | FindingGone
    | NeighbourChanged
    | NeighboursOmitted
    | NetlinkLost
    | RouteChurn
    | CacheGranted
    | CacheWithdrawn
    | ProgramSwapped
    | SyncChanged
)
Listener = Callable[[Notice], None]


def nobody(notice: Notice) -> None:
    """A listener."""
