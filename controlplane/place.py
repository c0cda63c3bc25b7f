# SPDX-License-Identifier: GPL-2.0-only
"""Where an interface stands. It is what the FIB knows by ifindex: a port, a bond, a bridge, a VLAN on one of them."""

import enum
from dataclasses import dataclass

from controlplane.link import Link


class Kind(enum.StrEnum):
    PORT = "port"
    BOND = "bond"
    BRIDGE = "bridge"
    VLAN = "vlan"
    MEMBER = "member"
    """of a bond; members of bridges are ports"""


class InterfaceState(enum.StrEnum):
    ACTIVE = "active"
    DOWN = "down"
    SLOW = "slow"
    """its packets take the slow path"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an interface, or a device below one, stands. Becomes a struct interface of bpf/maps.h."""

    link: Link
    kind: Kind
    port: str
    """by whose slot it counts; of a bridge: one of several"""
    mtu: int
    """that a frame's datagram may have on its way out here"""
    device: int
    """ifindex of the port, bond or bridge that it is, or sits on"""
    tags: int = 0
    """bpf/tags.h"""
    upper: int = 0
    bridge: int = 0
    vrf: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An interface for `status`."""

    link: Link
    kind: Kind
    ports: tuple[str, ...]
    tags: int
    vrf: str
    state: InterfaceState
    reason: str
