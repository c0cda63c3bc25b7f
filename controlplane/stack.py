# SPDX-License-Identifier: GPL-2.0-only
"""What stands on what: from the links of a namespace and the ports that are wished for to the interfaces that the fast
path serves, and why it does not serve the others. Pure.

An interface is what the FIB knows by ifindex: a port, a bond, a bridge, a VLAN on one of them. Members of bonds and
bridges are devices below: frames come in on them that belong to the device above.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.features import Feature
from controlplane.link import FORWARDING_STATE, STP_STATES, VLAN_8021Q, Link
from controlplane.links import Links
from controlplane.place import InterfaceState, Kind, Place, Shown
from controlplane.refusal import bridge_refusal, cannot_be_port, member_refusal, taker_on, vlan_refusal
from controlplane.source import limits
from controlplane.tags import TAG_LEN, pushed


@dataclass
class Stack:
    places: dict[int, Place] = field(default_factory=dict)
    """by ifindex"""
    tagged: dict[tuple[int, int], int] = field(default_factory=dict)
    """(device, tags) -> ifindex"""
    refused: dict[str, str] = field(default_factory=dict)
    """port -> why it cannot be attached at all"""
    held: dict[str, str] = field(default_factory=dict)
    """port -> why it is attached but nothing of it is served at the moment"""
    guarded: dict[str, str] = field(default_factory=dict)
    """port -> what the kernel has to see, so that it passes everything"""
    shown: dict[int, Shown] = field(default_factory=dict)
    """by ifindex; ports that stand below a bridge are not interfaces"""
    vrfs: dict[str, Link] = field(default_factory=dict)
    """name -> device, of those that have one of the interfaces"""
    needed: frozenset[Feature] = frozenset()
    """what the program has to be compiled with for all of it"""
    fdbs: frozenset[int] = frozenset()
    """bridges whose FDB the data plane needs"""


def build(
    links: Iterable[Link],
    ports: Iterable[str],
    *,
    guarded: Mapping[str, str] | None = None,
    found: Mapping[str, str] | None = None,
    stripping: Mapping[int, Iterable[int]] | None = None,
    available: frozenset[Feature] = frozenset(Feature),
) -> Stack:
    """Never raises, whatever the links say.

    guarded: port -> what of the operator's concerns all that comes in or leaves there; found: the same for any
    device; stripping: ifindex -> protocols of tags that the hardware strips; available: what the program can do now.
    """
    builder = _Builder(links, available, found or {}, stripping or {})
    builder.stack.guarded.update(guarded or {})
    return builder.build(ports)


class _Builder:
    def __init__(
        self,
        links: Iterable[Link],
        available: frozenset[Feature],
        found: Mapping[str, str],
        stripping: Mapping[int, Iterable[int]],
    ):
        self.stack = Stack()
        self._available = available
        self._found = found
        self._stripping = stripping
        self._needed: set[Feature] = set()
        self._links = Links(links)
        self._room = limits()["MAX_INTERFACES"]

    def build(self, ports: Iterable[str]) -> Stack:
        stack = self.stack
        standing, below = self._sort_ports(ports)
        for link in standing:
            self._add_port(link)
        for bridge, members in below:
            self._add_bridge(bridge, members)
        for base in [place for place in stack.places.values() if place.kind is not Kind.MEMBER and not place.upper]:
            self._add_vlans(base)
        self._show_the_rest()
        stack.needed = frozenset(self._needed)
        return stack

    # --- ports ----------------------------------------------------------------------------------

    def _sort_ports(self, ports: Iterable[str]) -> tuple[list[Link], list[tuple[Link, list[Link]]]]:
        """(ports that are interfaces themselves, bridges with the ports below them)"""
        standing: list[Link] = []
        below: dict[int, tuple[Link, list[Link]]] = {}
        for name in ports:
            link = self._links.named(name)
            if link is None:
                continue
            master = self._links.master(link)
            if reason := cannot_be_port(link, master, self._links.above(link)):
                self.stack.refused[name] = reason
            elif link.upper_kind != "bridge":
                standing.append(link)
            elif reason := self._why_no_member(link, master):
                self.stack.refused[name] = reason
            elif master is not None:
                below.setdefault(master.ifindex, (master, []))[1].append(link)
        return standing, list(below.values())

    def _why_no_member(self, link: Link, bridge: Link | None) -> str:
        if bridge is None:
            return "enslaved to a bridge that is not to be seen"
        reason = bridge_refusal(bridge, self._links.above(bridge))
        reason = reason or member_refusal(link, self._links.above(link))
        return f"enslaved to the bridge {bridge.name}, which owns its frames; {reason}" if reason else ""

    def _add_port(self, link: Link) -> None:
        kind = Kind.BOND if link.kind == "bond" else Kind.PORT
        vrf = self._vrf(link)
        self._guard(link, (link, self._links.vrf(link)))
        self._guard_stripping(link, link)
        if kind is Kind.BOND and (reason := self._add_bond_members(link)):
            self.stack.held[link.name] = reason
        self._place(Place(link, kind, link.name, link.mtu, link.ifindex, vrf=vrf))

    def _add_bond_members(self, bond: Link) -> str:
        """Why nothing comes in; empty if it does."""
        members = [link for link in self._links.members(bond) if link.upper_kind == "bond"]
        if not members:
            return "a bond without a member"
        if not self._can(Feature.UPPER):
            return _COMPILING
        for member in members:
            self._guard(bond, (member,))
            self._guard_stripping(bond, member)
            active = getattr(member.membership, "active", False) and member.up and member.carrier
            # A VLAN has no XDP: what comes in there is seen on its own port, or on the bond.
            active = active and member.kind != "vlan"
            if active and not taker_on(self._links.above(member)) and not self._links.vlans_on(member):
                place = Place(member, Kind.MEMBER, bond.name, member.mtu, bond.ifindex, upper=bond.ifindex)
                self._place(place)
        return ""

    def _guard(self, port: Link, devices: Iterable[Link | None]) -> None:
        """What is found on one of these concerns the port."""
        if found := self._found_on(*devices):
            self.stack.guarded.setdefault(port.name, found)

    def _guard_stripping(self, port: Link, member: Link) -> None:
        """A frame whose tag the hardware has stripped looks untagged: the port cannot be served while it has VLANs."""
        if port.kind == "bond" and port is member:
            return  # a bond says so of itself in any case; its members' hardware counts
        bridge = self._links.master(port) if port.upper_kind == "bridge" else None
        protocols = self._links.protocols_on(bridge or port)
        if not protocols:
            return
        for protocol in sorted(self._stripping.get(member.ifindex, ())):
            # What a veth says of itself about it does not mean anything; but 802.1Q is the word for `off`.
            if protocol in protocols or member.kind != "veth":
                option = "rxvlan" if protocol == VLAN_8021Q else "rx-vlan-stag-hw-parse"
                self.stack.guarded.setdefault(
                    port.name,
                    f"VLAN tags are stripped by the hardware, out of XDP's sight: `ethtool -K {member.name} {option} off`",
                )

    # --- bridges --------------------------------------------------------------------------------

    def _add_bridge(self, bridge: Link, members: list[Link]) -> None:
        names = tuple(member.name for member in members)
        if not self._can(Feature.UPPER, Feature.BRIDGE):
            self._hold(bridge, names, InterfaceState.SLOW, _COMPILING)
            return
        if found := self._found_on(bridge, self._links.master(bridge)):
            self._hold(bridge, names, InterfaceState.SLOW, found)
            return
        if not bridge.up:
            self._hold(bridge, names, InterfaceState.DOWN, "administratively down")
            return
        served = []
        for member in members:
            state = getattr(member.membership, "state", 0)
            if state != FORWARDING_STATE:
                self.stack.held[member.name] = f"the bridge {bridge.name} has it {STP_STATES.get(state, state)}"
                continue
            self._guard(member, (member,))
            self._guard_stripping(member, member)
            served.append(member)
        if not served:
            self._hold(bridge, (), InterfaceState.DOWN, "no member of it that is a port is forwarding")
            return
        for member in served:
            self._place(Place(member, Kind.PORT, member.name, member.mtu, member.ifindex, upper=bridge.ifindex))
        self._place(
            Place(
                bridge, Kind.BRIDGE, served[0].name, bridge.mtu, bridge.ifindex, bridge=bridge.ifindex,
                vrf=self._vrf(bridge),
            ),
            names,
        )  # fmt: skip
        self.stack.fdbs |= {bridge.ifindex}

    def _hold(self, bridge: Link, members: Iterable[str], state: InterfaceState, reason: str) -> None:
        self._show(bridge, Kind.BRIDGE, tuple(members), 0, state, reason)
        for name in members:
            self.stack.held[name] = f"the bridge {bridge.name}: {reason}"

    # --- VLANs ----------------------------------------------------------------------------------

    def _add_vlans(self, base: Place) -> None:
        """All that sit on a port, bond or bridge, the outer ones first."""
        ports = self._ports_of(base)
        narrowest = min((link.mtu for name in ports if (link := self._links.named(name))), default=base.mtu)
        waiting: list[tuple[Link, int, str]] = [(base.link, 0, "")]
        for lower, tags, why_not in waiting:
            vlans = [link for link in self._links.vlans_on(lower) if link.ifindex not in self.stack.shown]
            taken: dict[int, int] = {}
            for link in vlans:
                own = pushed(tags, link)
                taken[own] = taken.get(own, 0) + 1
            for link in vlans:
                own = pushed(tags, link)
                state, reason = InterfaceState.SLOW, why_not
                if not reason and (reason := vlan_refusal(link, tags, self._links.above(link))):
                    state = InterfaceState.DOWN if not link.up else InterfaceState.SLOW
                if not reason and taken[own] > 1:
                    reason = "two VLAN interfaces have these tags"
                reason = reason or self._why_not_here(link)
                if reason or not own:
                    self._show(link, Kind.VLAN, ports, own or tags, state, reason)
                    waiting.append((link, own or tags, why_not or f"{link.name}, below it: {reason}"))
                    continue
                room = narrowest + TAG_LEN - TAG_LEN * (1 + bool(tags))
                place = Place(
                    link, Kind.VLAN, base.port, min(link.mtu, room), base.device, own,
                    bridge=base.bridge, vrf=self._vrf(link),
                )  # fmt: skip
                if self._place(place, ports):
                    self.stack.tagged[base.device, own] = link.ifindex
                waiting.append((link, own, ""))

    def _why_not_here(self, link: Link) -> str:
        if not self._can(Feature.VLAN):
            return _COMPILING
        return self._found_on(link, self._links.master(link))

    def _found_on(self, *devices: Link | None) -> str:
        """What the kernel has to see on the first of them that has such a thing."""
        return next((self._found[device.name] for device in devices if device and device.name in self._found), "")

    def _ports_of(self, base: Place) -> tuple[str, ...]:
        if base.kind is not Kind.BRIDGE:
            return (base.port,)
        return self.stack.shown[base.link.ifindex].ports

    # --- all ------------------------------------------------------------------------------------

    def _can(self, *features: Feature) -> bool:
        self._needed.update(features)
        return self._available.issuperset(features)

    def _vrf(self, link: Link) -> str:
        vrf = self._links.vrf(link)
        if vrf is None:
            return ""
        self._needed.add(Feature.VRF)
        self.stack.vrfs[vrf.name] = vrf
        return vrf.name

    def _place(self, place: Place, ports: tuple[str, ...] = ()) -> bool:
        """False when there is no room for one more."""
        ports = ports or (place.port,)
        if len(self.stack.places) >= self._room:
            reason = f"more than {self._room} interfaces"
            if place.kind is not Kind.MEMBER:
                self._show(place.link, place.kind, ports, place.tags, InterfaceState.SLOW, reason)
            return False
        self.stack.places[place.link.ifindex] = place
        if place.kind is not Kind.MEMBER and not place.upper:
            self._show(place.link, place.kind, ports, place.tags, InterfaceState.ACTIVE, "")
        return True

    def _show(
        self, link: Link, kind: Kind, ports: tuple[str, ...], tags: int, state: InterfaceState, reason: str
    ) -> None:
        vrf = self._links.vrf(link)
        self.stack.shown[link.ifindex] = Shown(link, kind, ports, tags, vrf.name if vrf else "", state, reason)

    def _show_the_rest(self) -> None:
        """VLANs and bridges that stand on no port."""
        for link in self._links:
            if link.ifindex in self.stack.shown:
                continue
            if link.kind == "vlan":
                self._show(link, Kind.VLAN, (), pushed(0, link), InterfaceState.SLOW, self._why_on_no_port(link))
            elif link.kind == "bridge":
                self._show(link, Kind.BRIDGE, (), 0, InterfaceState.SLOW, self._why_no_bridge(link))

    def _why_no_bridge(self, bridge: Link) -> str:
        refused = [self.stack.refused.get(link.name) for link in self._links.members(bridge)]
        reason = bridge_refusal(bridge, self._links.above(bridge))
        return reason or next((f"its member is {reason}" for reason in refused if reason), "no member of it is a port")

    def _why_on_no_port(self, link: Link) -> str:
        if link.elsewhere:
            return "its lower device is in another network namespace"
        lower = self._links.below_vlans(link)
        if lower is None:
            return "its lower device is not to be seen"
        if lower.kind == "vlan":
            return "a loop of lower devices"
        name = lower.name
        if name in self.stack.refused:
            return f"{name}, below it, is {self.stack.refused[name]}"
        if name in self.stack.held:
            return f"{name}, below it: {self.stack.held[name]}"
        if lower.kind == "bridge":
            return f"{name}, below it: {self._why_no_bridge(lower)}"
        if lower.master and lower.upper_kind in ("bond", "bridge", "team"):
            return f"{name}, below it, is enslaved to a {lower.upper_kind}"
        return f"{name}, below it, is no port"


_COMPILING = "the program for it is being compiled"
