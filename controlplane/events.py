# SPDX-License-Identifier: GPL-2.0-only
"""What the monitor tells the engine. Everything is a value; nothing calls back."""

from dataclasses import dataclass

from controlplane.link import BridgePortOf, Link
from controlplane.notes import RouteNotes


@dataclass(frozen=True, slots=True)
class LinkSet:
    """A link is new, or something about it changed."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkGone:
    """A link was deleted or moved to another network namespace."""

    ifindex: int


@dataclass(frozen=True, slots=True)
class BridgePortSet:
    """A bridge has changed something about a member, such as its STP state."""

    port: BridgePortOf


@dataclass(frozen=True, slots=True)
class FeaturesSet:
    """A device's XDP abilities (enum netdev_xdp_act) are known or changed."""

    ifindex: int
    features: int


@dataclass(frozen=True, slots=True)
class RoutesNoted:
    """Routes of note were announced. Their removal is not: a count of the FIB misses them."""

    notes: RouteNotes


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """An address, a policy rule, a nexthop, or a sysctl of those that the kernel announces."""


@dataclass(frozen=True, slots=True)
class FirewallChanged:
    """Of nftables, tc or XFRM something was announced."""


@dataclass(frozen=True, slots=True)
class Resync:
    """Everything known so far is void; what follows, up to `Synced`, is a full dump."""

    overrun: bool


@dataclass(frozen=True, slots=True)
class Synced:
    """The dump is complete."""


Event = (
    LinkSet | LinkGone | BridgePortSet | FeaturesSet | RoutesNoted | SettingsChanged | FirewallChanged | Resync | Synced
)
