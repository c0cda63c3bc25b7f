# SPDX-License-Identifier: GPL-2.0-only
"""What the data plane should be, what it is, and the operations between the two. Pure: no kernel here.

A port's identity is its name, as in the configuration: a device that comes back under the name gets
the port's slot and counters, whatever its ifindex; a device renamed away is a port no longer.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.features import ALL, Feature
from controlplane.interface import NO_NARROW_ROUTE, Common, Interface, describe
from controlplane.link import Link
from controlplane.netdev import NDO_XMIT
from controlplane.place import Kind
from controlplane.settings import Settings
from controlplane.stack import Stack, build


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
    tagged: dict[tuple[int, int], int] = field(default_factory=dict)
    """(device, tags) -> ifindex"""


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
    found: Mapping[str, str] = field(default_factory=dict)
    """the same for any device, as far as it concerns that one alone: what sits on it is not served"""
    stripping: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """ifindex -> protocols of VLAN tags that the hardware strips"""
    vrfs: Mapping[str, int] = field(default_factory=dict)
    """name -> number, of the VRFs that have one"""
    available: frozenset[Feature] = ALL
    """what the program is compiled with"""


@dataclass(frozen=True)
class Plan:
    """What Desired comes to."""

    stack: Stack
    attach: dict[int, tuple[str, Mode]]
    interfaces: dict[int, Interface]
    transmit: dict[int, int]
    """slot -> ifindex"""


@dataclass(frozen=True, slots=True)
class Detach:
    ifindex: int


@dataclass(frozen=True, slots=True)
class DropTagged:
    device: int
    tags: int


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
class SetTagged:
    device: int
    tags: int
    ifindex: int


@dataclass(frozen=True, slots=True)
class Attach:
    name: str
    ifindex: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Transmit:
    slot: int
    ifindex: int


Operation = Detach | DropTagged | DropInterface | StopTransmit | SetInterface | SetTagged | Attach | Transmit


def transmit_refusal(link: Link, desired: Desired, stack: Stack) -> str:
    """Why nothing may be redirected to a port; empty if it may."""
    if link.name in stack.guarded:
        return stack.guarded[link.name]
    if not link.up:
        return "administratively down"
    if link.name in stack.held:
        return stack.held[link.name]
    if not link.carrier:
        return "no carrier"
    if desired.features is not None and not desired.features.get(link.ifindex, 0) & NDO_XMIT:
        hint = ": on its veth peer, `ethtool -K PEER gro off gro on` while both are up" if link.kind == "veth" else ""
        return f"nothing can be redirected to it (no ndo_xdp_xmit){hint}"
    return ""


def plan(desired: Desired, survey: Stack | None = None) -> Plan:
    """`survey`: what build() made of the same links and ports alone, which is the answer as long as nothing is found and
    everything is available."""
    if survey and not desired.found and not desired.stripping and desired.available >= survey.needed:
        stack = replace(survey, guarded={**survey.guarded, **desired.guarded})
    else:
        stack = _build(desired)
    return _plan(desired, stack)


def _build(desired: Desired) -> Stack:
    return build(
        desired.links.values(),
        desired.ports,
        guarded=desired.guarded,
        found=desired.found,
        stripping=desired.stripping,
        available=desired.available,
    )


def _plan(desired: Desired, stack: Stack) -> Plan:
    links = desired.links
    common = Common(desired.settings, desired.wide_own_sources, desired.narrow_mtu)
    attach = {
        links[name].ifindex: (name, mode)
        for name, mode in desired.ports.items()
        if name in links and name not in stack.refused
    }
    out = Plan(stack, attach, {}, {})
    for ifindex, place in stack.places.items():
        egress = place.device if place.kind is Kind.VLAN and not place.bridge else ifindex
        out.interfaces[ifindex] = describe(
            place.link.name,
            place.link.mac,
            place.mtu,
            desired.slots[place.port],
            None if desired.features is None else desired.features.get(egress, 0),
            common,
            guarded=place.port in stack.guarded and not place.bridge and place.kind is not Kind.VLAN,
            tags=place.tags,
            upper=place.upper,
            bridge=place.bridge,
            vrf=desired.vrfs.get(place.vrf, 0),
        )
    for ifindex, (name, _) in attach.items():
        if ifindex in stack.places and not transmit_refusal(links[name], desired, stack):
            out.transmit[desired.slots[name]] = ifindex
    return out


def reconcile(desired: Desired, actual: Actual) -> list[Operation]:
    return operations(plan(desired), actual)


def operations(wanted: Plan, actual: Actual) -> list[Operation]:
    """In the order in which they keep every packet right: first what must no longer happen (redirects, then programs,
    then what they know), then what may."""
    transmit, interfaces, tagged = wanted.transmit, wanted.interfaces, wanted.stack.tagged
    stop = [StopTransmit(slot) for slot, ifindex in actual.transmitting.items() if transmit.get(slot) != ifindex]
    detach = [Detach(ifindex) for ifindex in actual.dead]
    detach += [
        Detach(ifindex)
        for ifindex, mode in actual.attached.items()
        if ifindex not in wanted.attach or wanted.attach[ifindex][1] != mode
    ]
    untag = [DropTagged(*key) for key, ifindex in actual.tagged.items() if tagged.get(key) != ifindex]
    drop = [DropInterface(ifindex) for ifindex in actual.interfaces if ifindex not in interfaces]
    know = [
        SetInterface(ifindex, interface)
        for ifindex, interface in interfaces.items()
        if actual.interfaces.get(ifindex) != interface
    ]
    tag = [SetTagged(*key, ifindex) for key, ifindex in tagged.items() if actual.tagged.get(key) != ifindex]
    attach = [
        Attach(name, ifindex, mode)
        for ifindex, (name, mode) in wanted.attach.items()
        if actual.attached.get(ifindex) != mode
    ]
    start = [Transmit(slot, ifindex) for slot, ifindex in transmit.items() if actual.transmitting.get(slot) != ifindex]
    return [*stop, *detach, *untag, *drop, *know, *tag, *attach, *start]
