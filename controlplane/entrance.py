# SPDX-License-Identifier: GPL-2.0-only
"""Where frames of an interface come in: from what an operator names, such as a VLAN, a bond or a bridge, to the device
that XDP sees them on and the tags that they have there. Pure.

An interface need not be on the fast path for that: then a frame is told to be the kernel's, and why.
"""

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.errors import ControlPlaneError
from controlplane.link import Link
from controlplane.links import Links
from controlplane.refusal import cannot_be_port, is_ethernet
from controlplane.stack import Kind, Stack
from controlplane.tags import pushed

Learned = Callable[[int, str], int | None]
"""(bridge, MAC) -> ifindex of the member where it was learned"""


@dataclass(frozen=True, slots=True)
class Entrance:
    device: Link
    """that XDP sees the frames on"""
    tags: int
    """as in bpf/tags.h"""
    interface: Link
    """that was named"""
    member: str = ""
    """why this one of several: `has learned the sender`, `active`; empty: there is but one"""


class Entrances:
    """Of a namespace's interfaces: all of its `links`, and those that are served (`stack`)."""

    def __init__(self, links: Links, stack: Stack):
        self.links = links
        self._stack = stack

    def entrance(self, interface: Link, sender: str = "", learned: Learned = lambda bridge, mac: None) -> Entrance:
        """Of frames that are for this interface. `sender`: their MAC, by which a bridge's member is chosen. Raises
        ControlPlaneError for what no Ethernet frame comes in by."""
        if interface.kind == "vrf":
            inside = ", ".join(link.name for link in self.links.members(interface)) or "nothing"
            raise ControlPlaneError(f"{interface.name} is a VRF: name an interface in it (there is: {inside})")
        if not is_ethernet(interface):
            raise ControlPlaneError(
                f"{interface.name} is no Ethernet device, so it is not on the fast path: what comes in there is the kernel's"
            )
        base, tags = self._ground(interface)
        if base.kind == "bridge":
            return self._by_bridge(base, tags, interface, sender, learned)
        if base.kind == "bond":
            return self._by_bond(base, tags, interface)
        return Entrance(base, tags, interface)

    def owner(self, device: Link, tags: int) -> Link:
        """The interface whose frames with these tags are that come in on a device; the one below if none has these tags."""
        place = self._stack.places.get(device.ifindex)
        upper = (place.upper if place else 0) or (device.master if device.upper_kind in ("bridge", "bond") else 0)
        base = self.links.get(upper) or device
        if not tags:
            return base
        return next((link for link in self.links if link.kind == "vlan" and self._stands(link, base, tags)), base)

    def serves(self, interface: Link) -> bool:
        """Whether it is on the fast path."""
        return interface.ifindex in self._stack.places

    def addressed(self, mac: str, tags: int) -> list[Link]:
        """The interfaces of the fast path that frames for this MAC, with these tags, may belong to."""
        return [
            place.link
            for place in self._stack.places.values()
            if place.kind is not Kind.MEMBER and not place.upper and (place.link.mac, place.tags) == (mac, tags)
        ]

    def why_not(self, interface: Link) -> str:
        """Why an interface is not on the fast path, as far as its place tells; empty if it is, or if it may be a port."""
        if self.serves(interface):
            return ""
        shown = self._stack.shown.get(interface.ifindex)
        if shown:
            return shown.reason
        master = self.links.master(interface)
        if (
            interface.upper_kind == "bond"
            and master
            and any(place.device == master.ifindex for place in self._stack.places.values())
        ):
            return f"{interface.name} is not an active member of {master.name}: the kernel drops what comes in there"
        return cannot_be_port(interface, master, self.links.above(interface))

    def around(self, device: Link, interface: Link) -> set[str]:
        """Names of what a frame meets that comes in on a device and is for an interface."""
        found, waiting = set(), [device.ifindex, interface.ifindex]
        for ifindex in waiting:
            link = self.links.get(ifindex)
            if link and link.name not in found:
                found.add(link.name)
                waiting += [link.master, link.lower if link.kind == "vlan" else 0]
        return found

    def bridge(self, link: Link | None) -> Link | None:
        """The one that it is, stands on or is a member of."""
        if link is not None and link.kind == "vlan":
            link = self.links.below_vlans(link)
        if link is not None and link.upper_kind == "bridge":
            return self.links.master(link)
        return link if link is not None and link.kind == "bridge" else None

    # --- inside ---------------------------------------------------------------------------------

    def _ground(self, interface: Link) -> tuple[Link, int]:
        """(what its VLANs stand on, their tags)"""
        vlans: list[Link] = []
        below = interface
        while below.kind == "vlan":
            lower = self.links.get(below.lower)
            if below in vlans or lower is None:
                raise ControlPlaneError(
                    f"{interface.name} is not on the fast path: the device below {below.name} is not to be seen here"
                )
            vlans.append(below)
            below = lower
        tags = 0
        for vlan in reversed(vlans):
            tags = pushed(tags, vlan)
            if not tags:
                raise ControlPlaneError(
                    f"{interface.name} is not on the fast path: {self.why_not(interface) or 'its tags are not served'}; "
                    "what comes in there is the kernel's"
                )
        return below, tags

    def _stands(self, vlan: Link, base: Link, tags: int) -> bool:
        try:
            return self._ground(vlan) == (base, tags)
        except ControlPlaneError:
            return False

    def _by_bridge(self, bridge: Link, tags: int, interface: Link, sender: str, learned: Learned) -> Entrance:
        members = self.links.members(bridge)
        if not members:
            raise ControlPlaneError(f"{bridge.name} has no member: nothing comes in there")
        where = learned(bridge.ifindex, sender)
        if known := next((link for link in members if link.ifindex == where), None):
            return Entrance(known, tags, interface, "has learned the sender")
        served = [link for link in members if link.ifindex in self._stack.places]
        return Entrance((served or members)[0], tags, interface, "any" if len(members) > 1 else "")

    def _by_bond(self, bond: Link, tags: int, interface: Link) -> Entrance:
        members = [p.link for p in self._stack.places.values() if p.kind is Kind.MEMBER and p.upper == bond.ifindex]
        return Entrance(members[0] if members else bond, tags, interface, "active" if members else "")
