# SPDX-License-Identifier: GPL-2.0-only
"""A network device as RTM_NEWLINK describes it."""

from dataclasses import dataclass

IFF_UP = 1 << 0
IFF_LOWER_UP = 1 << 16

XDP_ATTACHED = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded"}
"""IFLA_XDP_ATTACHED as pyroute2 names it -> mode."""

LEAVES_FRAMES_ALONE = {
    "vlan", "veth", "vxlan", "geneve", "bareudp", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan",
    "ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm",
}  # fmt: skip
"""Kinds that name a lower device (or a peer) without taking frames that are addressed to it, untagged."""
_MACVLAN_MODES = {"private", "vepa", "bridge"}
"""Of macvlan and macvtap: these take what is addressed to their own MAC; passthru and source take more."""


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

    @classmethod
    def from_message(cls, message) -> "Link":
        """From a pyroute2 ifinfmsg."""
        info = message.get_attr("IFLA_LINKINFO")
        xdp = message.get_attr("IFLA_XDP")
        flags = message["flags"]
        kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
        elsewhere = message.get_attr("IFLA_LINK_NETNSID") is not None
        lower = 0 if elsewhere else message.get_attr("IFLA_LINK") or 0
        name = message.get_attr("IFLA_IFNAME") or ""
        return cls(
            ifindex=message["index"],
            # pyroute2 leaves a name that is not UTF-8 as bytes; such a device cannot be configured.
            name=name.decode(errors="replace") if isinstance(name, bytes) else name,
            mac=message.get_attr("IFLA_ADDRESS") or "",
            mtu=message.get_attr("IFLA_MTU") or 0,
            up=bool(flags & IFF_UP),
            carrier=bool(flags & IFF_LOWER_UP),
            kind=kind,
            upper_kind=(info.get_attr("IFLA_INFO_SLAVE_KIND") if info else None) or "",
            xdp=XDP_ATTACHED.get(xdp.get_attr("IFLA_XDP_ATTACHED")) if xdp else None,
            lower=lower,
            takes_frames=lower != 0 and _takes_frames(kind, info.get_attr("IFLA_INFO_DATA") if info else None),
        )


def _takes_frames(kind: str, data) -> bool:
    if kind in ("macvlan", "macvtap"):
        mode = data.get_attr(f"IFLA_{kind.upper()}_MODE") if data else None
        return mode not in _MACVLAN_MODES
    return kind not in LEAVES_FRAMES_ALONE
