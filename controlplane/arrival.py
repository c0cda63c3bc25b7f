# SPDX-License-Identifier: GPL-2.0-only
"""A frame that is to be explained, at the place where it comes in: found out, or as the operator names it."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane import frame as heads
from controlplane import neighbour, route_get
from controlplane.entrance import Entrance, Entrances, Learned
from controlplane.errors import ControlPlaneError
from controlplane.frame import Head
from controlplane.link import MAC_TEXT, Link
from controlplane.netlink import NetlinkSocket
from controlplane.next_hop import NextHop
from controlplane.ports import PortView
from controlplane.route_get import Route
from controlplane.tags import number, octets, text

_MACS = 12
"""Bytes of a frame in front of its tags"""


@dataclass(frozen=True)
class Arrival:
    frame: bytes
    head: Head
    entrance: Entrance
    owner: Link
    """the interface that the frame belongs to, by the kernel's devices"""
    chosen: str
    """how the place was found: given, destination MAC, only port, or way back to the source"""


class Arriving:
    """`sock` and `entrances` are of the caller's network namespace; `ports`: all that are wished for."""

    def __init__(self, sock: NetlinkSocket, entrances: Entrances, ports: Iterable[PortView], learned: Learned):
        self._sock = sock
        self._entrances = entrances
        self._ports = list(ports)
        self._present = {view.name: view.link for view in self._ports if view.link}
        self._learned = learned

    def arrive(self, frame: bytes, named: str, made: bool) -> Arrival:
        """`named`: the interface that it comes in by; empty: find out. `made`: the frame was made from addresses, and
        gets the tags and the MAC of the interface. Raises ControlPlaneError, also for a captured frame whose tags are not
        those of the interface."""
        head = heads.read(frame)
        back = self._way_back(head) if made or not named else None
        interface, chosen = (self._named(named), "given") if named else self._found(head, made, back)
        own = max(0, number(head.tags))
        # Of a port, bond or bridge the frame's own tags tell to which interface it belongs.
        meant = interface if interface.kind == "vlan" else self._entrances.owner(interface, own)
        sender = (self._sender(head, meant, back) if made else "") or head.source_mac
        place = self._entrances.entrance(interface, sender, self._learned)
        if interface.kind == "vlan" and (head.tags or not made) and number(head.tags) != place.tags:
            raise ControlPlaneError(_contradiction(head, place, made))
        tags = own if head.tags else place.tags
        owner = self._entrances.owner(place.device, tags)
        if made:
            macs = bytes.fromhex((owner.mac + sender).replace(":", ""))
            frame = macs + (b"" if head.tags else octets(tags)) + frame[_MACS:]
        return Arrival(frame, heads.read(frame), place, owner, chosen)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _known(self) -> str:
        return f"ports: {', '.join(self._present) or 'none'}"

    def _named(self, name: str) -> Link:
        if link := self._entrances.links.named(name):
            return link
        if any(view.name == name for view in self._ports):
            raise ControlPlaneError(f"nothing comes in on {name}: its device is absent ({self._known})")
        raise ControlPlaneError(f"there is no device {name} here ({self._known})")

    def _found(self, head: Head, made: bool, way_back: Route | None) -> tuple[Link, str]:
        if not self._present:
            raise ControlPlaneError("there are no ports: xdprouter attach PORT makes one")
        if not made:
            owners = self._entrances.addressed(head.destination_mac, max(0, number(head.tags)))
            # A port that is down, or whose tag is of no interface, is known by its own MAC.
            owners = owners or [link for link in self._present.values() if link.mac == head.destination_mac]
            if len(owners) == 1:
                return owners[0], "destination MAC"
        back = self._entrances.links.get(way_back.ifindex) if way_back else None
        if back and self._entrances.serves(back):
            return back, "way back to the source"
        if len(self._present) == 1:
            return next(iter(self._present.values())), "only port"
        if back:
            return back, "way back to the source"
        raise ControlPlaneError(f"which port does it come in on? Give one with --iif ({self._known})")

    def _way_back(self, head: Head) -> Route | None:
        """By which the kernel reaches the source."""
        if not head.source:
            return None
        back = route_get.ask(self._sock, route_get.Question(source=b"", destination=head.source)).route
        return back if back and back.kind == "unicast" else None

    def _sender(self, head: Head, interface: Link, back: Route | None) -> str:
        """The MAC of who would send such a packet here: the next hop on the way back, if the kernel knows it."""
        if back is None or back.ifindex != interface.ifindex:
            return ""
        address = ipaddress.ip_address(back.gateway or head.source)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        found = neighbour.find(self._sock, NextHop(interface.ifindex, family, address.packed))
        return found.lladdr if found and len(found.lladdr) == MAC_TEXT else ""


def _contradiction(head: Head, place: Entrance, made: bool) -> str:
    has = " then ".join(f"{protocol} {vid}" for protocol, vid in head.tags) or "no tag"
    name, wanted = place.device.name, " then ".join(text(place.tags))
    if made:
        return f"the frame has {has}, and those of {place.interface.name} have {wanted}: leave --vlan out, or give --iif {name}"
    return (
        f"the captured frame has {has}, and what comes in for {place.interface.name} on {name} has {wanted}: "
        f"a capture is taken as it is, name the port with --iif {name}"
    )
