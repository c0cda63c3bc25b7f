# SPDX-License-Identifier: GPL-2.0-only
"""Why a device is not served, as far as the device itself and what sits on it can tell. Pure; an empty string: it is.

What is not certain to be forwarded as the kernel would do it stays on the slow path.
"""

from collections.abc import Iterable

from controlplane.link import BOND_MODES, MAC_TEXT, VLAN_REORDER_HDR, Bond, Bridge, BridgePort, Link, Vlan
from controlplane.tags import MAX_TAGS, pushed

SWITCHED_BY_UPPER = {"bridge", "bond", "team", "macvlan", "macsec", "openvswitch", "hsr", "batadv"}
"""A device enslaved to one of these holds no addresses of its own: its frames belong to the upper device."""
LEAST_AGEING_S = 30
"""Of a bridge: a host's frames reach it every FDB_REFRESH_TIME of bpf/bridge.h at least, well within this."""
_XDP_MODES = {0, 1, 2, 4}
"""Of bonds: bond_xdp_check() in drivers/net/bonding/bond_main.c"""


def cannot_be_port(link: Link, master: Link | None, above: Iterable[Link]) -> str:
    """`master`: what it is enslaved to, `above`: the devices that sit on it. Members of bridges are not judged here."""
    if link.kind == "vlan":
        return "a VLAN interface: wish for its port instead"
    if link.kind == "bridge":
        return "a bridge: wish for its members instead"
    if link.kind == "vrf":
        return "a VRF: wish for the ports in it"
    if link.upper_kind == "bond":
        return f"enslaved to a bond: wish for the bond{f' {master.name}' if master else ''} instead"
    if link.upper_kind in SWITCHED_BY_UPPER and link.upper_kind != "bridge":
        return f"enslaved to a {link.upper_kind}, which owns its frames: they stay on the slow path"
    if isinstance(link.details, Bond) and link.details.mode not in _XDP_MODES:
        return f"a bond in mode {BOND_MODES.get(link.details.mode, link.details.mode)}, which runs no XDP"
    if taker := taker_on(above):
        return f"the lower device of {taker}, which may take its frames: they stay on the slow path"
    if not is_ethernet(link):
        return "not an Ethernet device"
    return ""


def bridge_refusal(bridge: Link, above: Iterable[Link]) -> str:
    """`above`: the devices that sit on the bridge."""
    details = bridge.details
    if not isinstance(details, Bridge):
        return f"a {bridge.kind or 'device of unknown kind'} is not served"
    if details.vlan_filtering:
        return "vlan_filtering is on"
    if details.ageing_s < LEAST_AGEING_S:
        return f"its ageing time is below {LEAST_AGEING_S} s"
    if bridge.upper_kind in SWITCHED_BY_UPPER:
        return f"it is enslaved to a {bridge.upper_kind}"
    if taker := taker_on(above):
        return f"{taker} may take its frames"
    return "" if is_ethernet(bridge) else "it has no MAC"


def member_refusal(link: Link, above: Iterable[Link]) -> str:
    """Of a bridge. `above`: the devices that sit on the member itself."""
    if link.kind == "bond":
        return "a bond in a bridge is not served"
    if isinstance(link.membership, BridgePort) and link.membership.unusual:
        return f"its bridge port has {', '.join(link.membership.unusual)}"
    # The kernel asks for these before it asks the bridge.
    if vlan := next((link.name for link in above if link.kind == "vlan"), ""):
        return f"{vlan} sits below the bridge and takes frames of its own"
    return ""


def vlan_refusal(link: Link, outer: int, above: Iterable[Link]) -> str:
    """`outer`: the tags of what it sits on; `above`: the devices that sit on it."""
    vlan = link.details
    if not isinstance(vlan, Vlan):
        return "the kernel does not tell its tag"
    if outer >> 16:
        return f"more than {MAX_TAGS} tags"
    if not pushed(outer, link):
        return f"VID {vlan.vid} of protocol {vlan.protocol:#06x} is not served"
    if vlan.egress_map:
        return "its egress-qos-map sets priorities"
    if vlan.ingress_map:
        return "its ingress-qos-map sets priorities"
    if not vlan.flags & VLAN_REORDER_HDR:
        return "reorder_hdr is off"
    if link.upper_kind in SWITCHED_BY_UPPER:
        return f"enslaved to a {link.upper_kind}, which owns its frames"
    if taker := taker_on(above):
        return f"{taker} may take its frames"
    if not is_ethernet(link):
        return "not an Ethernet device"
    if not link.up:
        return "administratively down"
    return "" if link.carrier else "no carrier"


def taker_on(above: Iterable[Link]) -> str:
    """Which device on top may take frames that are addressed to the one below."""
    return next((f"{link.name} ({link.kind})" for link in above if link.takes_frames), "")


def is_ethernet(link: Link) -> bool:
    return len(link.mac) == MAC_TEXT and link.name != "lo"
