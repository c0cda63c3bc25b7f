# SPDX-License-Identifier: GPL-2.0-only
"""What the data plane should be, what it is, and the operations between the two. Pure: no kernel here.

A port's identity is its name, as in the configuration: a device that comes back under the name gets
the port's slot and counters, whatever its ifindex; a device renamed away is a port no longer.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.interface import NO_NARROW_ROUTE, Interface, describe
from controlplane.link import Link
from controlplane.netdev import NDO_XMIT
from controlplane.settings import Settings

SWITCHED_BY_UPPER = {"bridge", "bond", "team", "macvlan", "macsec", "openvswitch"}
"""A device enslaved to one of these holds no addresses of its own: its frames belong to the upper device."""


class Mode(enum.StrEnum):
    NATIVE = "native"
    GENERIC = "generic"


class PortState(enum.StrEnum):
    ACTIVE = "active"
    ABSENT = "absent"
    DOWN = "down"
    GUARDED = "guarded"
    UNSUPPORTED = "unsupported"


@dataclass
class Actual:
    """The data plane as read back from the kernel."""

    attached: dict[int, Mode] = field(default_factory=dict)
    """ifindex -> mode, of the living links"""
    dead: set[int] = field(default_factory=set)
    """ifindexes whose pinned link has lost its device"""
    interfaces: dict[int, Interface] = field(default_factory=dict)
    transmitting: dict[int, int] = field(default_factory=dict)
    """slot -> ifindex, as in the devmap"""


@dataclass
class Desired:
    ports: Mapping[str, Mode]
    slots: Mapping[str, int]
    links: Mapping[str, Link]
    """by name, of this network namespace"""
    features: Mapping[int, int] | None
    """ifindex -> XDP feature bits; None where the kernel does not tell"""
    settings: Settings = field(default_factory=Settings)
    guarded: Mapping[str, str] = field(default_factory=dict)
    """port -> what of the operator's would be bypassed: it stays attached, and passes everything"""
    wide_own_sources: bool = False
    narrow_mtu: int = NO_NARROW_ROUTE


@dataclass(frozen=True, slots=True)
class Detach:
    ifindex: int


@dataclass(frozen=True, slots=True)
class DropInterface:
    ifindex: int


@dataclass(frozen=True, slots=True)
class StopTransmit:
    slot: int


@dataclass(frozen=True, slots=True)
class SetInterface:
    ifindex: int
    interface: Interface


@dataclass(frozen=True, slots=True)
class Attach:
    name: str
    ifindex: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Transmit:
    slot: int
    ifindex: int


Operation = Detach | DropInterface | StopTransmit | SetInterface | Attach | Transmit


def refusal(link: Link, links: Iterable[Link]) -> str:
    """Why a device cannot be a port at all; empty if it can."""
    if link.upper_kind in SWITCHED_BY_UPPER:
        return f"enslaved to a {link.upper_kind}, which owns its frames: they stay on the slow path"
    for other in links:
        if other.lower == link.ifindex and other.takes_frames:
            upper = f"{other.name} ({other.kind})"
            return f"the lower device of {upper}, which may take its frames: they stay on the slow path"
    if len(link.mac) != 17 or link.name == "lo":
        return "not an Ethernet device"
    return ""


def transmit_refusal(link: Link, desired: Desired) -> str:
    """Why nothing may be redirected to a device; empty if it may."""
    if link.name in desired.guarded:
        return desired.guarded[link.name]
    if not link.up:
        return "administratively down"
    if not link.carrier:
        return "no carrier"
    if desired.features is not None and not desired.features.get(link.ifindex, 0) & NDO_XMIT:
        hint = ": on its veth peer, `ethtool -K PEER gro off gro on` while both are up" if link.kind == "veth" else ""
        return f"nothing can be redirected to it (no ndo_xdp_xmit){hint}"
    return ""


def reconcile(desired: Desired, actual: Actual) -> list[Operation]:
    """Operations in the order in which they keep every packet right: first what must no longer happen
    (redirects, then programs, then what they know), then what may."""
    wanted: dict[int, tuple[str, Mode, Interface]] = {}
    transmit: dict[int, int] = {}
    for name, mode in desired.ports.items():
        link = desired.links.get(name)
        if link is None or refusal(link, desired.links.values()):
            continue
        interface = describe(
            link,
            desired.slots[name],
            None if desired.features is None else desired.features.get(link.ifindex, 0),
            desired.settings,
            name in desired.guarded,
            desired.wide_own_sources,
            desired.narrow_mtu,
        )
        wanted[link.ifindex] = (name, mode, interface)
        if not transmit_refusal(link, desired):
            transmit[interface.slot] = link.ifindex

    stop = [StopTransmit(slot) for slot, ifindex in actual.transmitting.items() if transmit.get(slot) != ifindex]
    detach = [Detach(ifindex) for ifindex in actual.dead]
    detach += [
        Detach(ifindex)
        for ifindex, mode in actual.attached.items()
        if ifindex not in wanted or wanted[ifindex][1] != mode
    ]
    drop = [DropInterface(ifindex) for ifindex in actual.interfaces if ifindex not in wanted]
    know = [
        SetInterface(ifindex, interface)
        for ifindex, (_, _, interface) in wanted.items()
        if actual.interfaces.get(ifindex) != interface
    ]
    attach = [
        Attach(name, ifindex, mode)
        for ifindex, (name, mode, _) in wanted.items()
        if actual.attached.get(ifindex) != mode
    ]
    start = [Transmit(slot, ifindex) for slot, ifindex in transmit.items() if actual.transmitting.get(slot) != ifindex]
    return [*stop, *detach, *drop, *know, *attach, *start]
