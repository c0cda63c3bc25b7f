# SPDX-License-Identifier: GPL-2.0-only
"""A network device as RTM_NEWLINK describes it.

Parsed here: pyroute2 takes 320 us for a message, this file 25, and there may be a thousand VLANs. Layouts:
include/uapi/linux/if_link.h, if_vlan.h, if_bridge.h.
"""

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.netlink import HEADER, attributes, messages

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
IFINFOMSG = struct.Struct("=BBHiII")  # family, pad, type, ifindex, flags, change
AF_BRIDGE = 7
MAC_TEXT = 17
"""Characters of an Ethernet address, as Link.mac has it; other devices have shorter or longer ones, or none"""
IFF_UP = 1 << 0
IFF_LOWER_UP = 1 << 16

_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _PROTINFO, _LINKINFO, _LINK_NETNSID, _XDP = 1, 3, 4, 5, 10, 12, 18, 37, 43
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_XDP_ATTACHED_ATTRIBUTE = 2
XDP_ATTACHED = {1: "native", 2: "generic", 3: "offloaded"}
"""IFLA_XDP_ATTACHED -> mode"""

LEAVES_FRAMES_ALONE = {
    "vlan", "veth", "vxlan", "geneve", "bareudp", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan",
    "ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm",
}  # fmt: skip
"""Kinds that name a lower device (or a peer) without taking frames that are addressed to it, untagged."""
_MACVLAN_MODES = {1, 2, 4}
"""Of macvlan and macvtap: private, vepa and bridge take what is addressed to their own MAC; passthru and source take
more."""

VLAN_8021Q, VLAN_8021AD = 0x8100, 0x88A8
VLAN_REORDER_HDR = 1 << 0
FORWARDING_STATE = 3
STP_STATES = {0: "disabled", 1: "listening", 2: "learning", FORWARDING_STATE: "forwarding", 4: "blocking"}
BOND_MODES = {
    0: "balance-rr", 1: "active-backup", 2: "balance-xor", 3: "broadcast", 4: "802.3ad", 5: "balance-tlb",
    6: "balance-alb",
}  # fmt: skip
_PORT_FEATURES = {
    4: "hairpin", 10: "proxy_arp", 12: "proxy_arp_wifi", 29: "vlan_tunnel", 32: "neigh_suppress", 33: "isolated",
    39: "locked", 40: "mab", 43: "neigh_vlan_suppress",
}  # fmt: skip
_PORT_STATE, _PORT_LEARNING = 1, 8
_USER_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Vlan:
    vid: int
    protocol: int = VLAN_8021Q
    flags: int = VLAN_REORDER_HDR
    ingress_map: bool = False
    """ingress-qos-map is not empty"""
    egress_map: bool = False


@dataclass(frozen=True, slots=True)
class Vrf:
    table: int


@dataclass(frozen=True, slots=True)
class Bond:
    mode: int


@dataclass(frozen=True, slots=True)
class Bridge:
    vlan_filtering: bool = False
    ageing_s: float = 300.0


@dataclass(frozen=True, slots=True)
class BondMember:
    active: bool
    """what comes in on the others the kernel drops"""


@dataclass(frozen=True, slots=True)
class BridgePort:
    state: int = FORWARDING_STATE
    unusual: tuple[str, ...] = ()
    """settings that make more of a frame's way than FDB and STP state do"""


@dataclass(frozen=True, slots=True)
class Link:
    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    kind: str = ""
    upper_kind: str = ""
    """Kind of the device this one is enslaved to: bridge, bond, vrf, ..."""
    xdp: str | None = None
    lower: int = 0
    """ifindex of the device that this one sits on, in the same namespace; 0: none"""
    takes_frames: bool = False
    """may take frames of its lower device that are addressed to that device"""
    master: int = 0
    """ifindex of the device that this one is enslaved to; 0: none"""
    details: Vlan | Vrf | Bond | Bridge | None = None
    membership: BondMember | BridgePort | None = None
    elsewhere: bool = False
    """its lower device is in another namespace"""

    @classmethod
    def from_attributes(cls, header: tuple, row: dict[int, bytes]) -> "Link":
        """From the fields of IFINFOMSG and the attributes of a message. What is missing or odd counts as not said."""
        _, _, _, ifindex, flags, _ = header
        info = dict(attributes(row.get(_LINKINFO, b"")))
        data = dict(attributes(info.get(_DATA, b"")))
        kind, upper_kind = _text(info.get(_KIND, b"")), _text(info.get(_SLAVE_KIND, b""))
        elsewhere = _LINK_NETNSID in row
        lower = 0 if elsewhere else _number(row.get(_LINK))
        xdp = dict(attributes(row.get(_XDP, b"")))
        return cls(
            ifindex=ifindex,
            name=_text(row.get(_IFNAME, b"")),
            mac=row.get(_ADDRESS, b"").hex(":"),
            mtu=_number(row.get(_MTU)),
            up=bool(flags & IFF_UP),
            carrier=bool(flags & IFF_LOWER_UP),
            kind=kind,
            upper_kind=upper_kind,
            xdp=XDP_ATTACHED.get(_number(xdp.get(_XDP_ATTACHED_ATTRIBUTE))),
            lower=lower,
            takes_frames=lower != 0 and _takes_frames(kind, data),
            master=_number(row.get(_MASTER)),
            details=_DETAILS[kind](data) if kind in _DETAILS else None,
            membership=_membership(upper_kind, dict(attributes(info.get(_SLAVE_DATA, b"")))),
            elsewhere=elsewhere,
        )


@dataclass(frozen=True, slots=True)
class BridgePortOf:
    """What a bridge says of a member, in its own family: its STP state changes without another word."""

    ifindex: int
    membership: BridgePort


def links_of(data: bytes) -> Iterator[tuple[int, Link | BridgePortOf]]:
    """(RTM_NEWLINK or RTM_DELLINK, link) of each device message in a buffer. A bridge announces that a member leaves as
    RTM_DELLINK in its own family: that is not a device's, and is left out."""
    for offset, kind, _, length in messages(data):
        start = offset + HEADER.size
        if kind not in (RTM_NEWLINK, RTM_DELLINK) or start + IFINFOMSG.size > min(offset + length, len(data)):
            continue
        header = IFINFOMSG.unpack_from(data, start)
        row = dict(attributes(data[start + IFINFOMSG.size : offset + length]))
        if header[0] != AF_BRIDGE:
            yield kind, Link.from_attributes(header, row)
        elif kind == RTM_NEWLINK and _PROTINFO in row:
            yield kind, BridgePortOf(header[3], _bridge_port(dict(attributes(row[_PROTINFO]))))


def _takes_frames(kind: str, data: dict[int, bytes]) -> bool:
    if kind in ("macvlan", "macvtap"):
        return _number(data.get(1)) not in _MACVLAN_MODES  # IFLA_MACVLAN_MODE
    return kind not in LEAVES_FRAMES_ALONE


def _vlan(data: dict[int, bytes]) -> Vlan:
    flags = data.get(2, b"")  # struct ifla_vlan_flags: flags, mask
    return Vlan(
        vid=_number(data.get(1)),
        protocol=int.from_bytes(data.get(5, b"\x81\x00"), "big"),
        flags=_number(flags[:4]) if flags else VLAN_REORDER_HDR,
        ingress_map=bool(data.get(4)),
        egress_map=bool(data.get(3)),
    )


def _bridge(data: dict[int, bytes]) -> Bridge:
    return Bridge(vlan_filtering=bool(_number(data.get(7))), ageing_s=_number(data.get(4)) / _USER_HZ)


_DETAILS = {
    "vlan": _vlan,
    "vrf": lambda data: Vrf(_number(data.get(1))),
    "bond": lambda data: Bond(_number(data.get(1))),
    "bridge": _bridge,
}


def _membership(upper_kind: str, data: dict[int, bytes]) -> BondMember | BridgePort | None:
    if upper_kind == "bond":
        # IFLA_BOND_SLAVE_STATE 0: active
        return BondMember(active=_number(data.get(1, b"\1")) == 0)
    if upper_kind == "bridge":
        return _bridge_port(data)
    return None


def _bridge_port(data: dict[int, bytes]) -> BridgePort:
    unusual = [name for number, name in _PORT_FEATURES.items() if _number(data.get(number))]
    if not _number(data.get(_PORT_LEARNING, b"\1")):
        unusual.append("learning off")
    return BridgePort(_number(data.get(_PORT_STATE)), tuple(unusual))


def _text(value: bytes) -> str:
    # A name that is not UTF-8 cannot be configured; it must not end the daemon either.
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)
