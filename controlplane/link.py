# SPDX-License-Identifier: GPL-2.0-only
"""A network device as RTM_NEWLINK describes it."""

from dataclasses import dataclass

IFF_UP = 1 << 0
IFF_LOWER_UP = 1 << 16

XDP_ATTACHED = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded"}
"""IFLA_XDP_ATTACHED as pyroute2 names it -> mode."""


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

    @classmethod
    def from_message(cls, message) -> "Link":
        """From a pyroute2 ifinfmsg."""
        info = message.get_attr("IFLA_LINKINFO")
        xdp = message.get_attr("IFLA_XDP")
        flags = message["flags"]
        name = message.get_attr("IFLA_IFNAME") or ""
        return cls(
            ifindex=message["index"],
            # pyroute2 leaves a name that is not UTF-8 as bytes; such a device cannot be configured.
            name=name.decode(errors="replace") if isinstance(name, bytes) else name,
            mac=message.get_attr("IFLA_ADDRESS") or "",
            mtu=message.get_attr("IFLA_MTU") or 0,
            up=bool(flags & IFF_UP),
            carrier=bool(flags & IFF_LOWER_UP),
            kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
            upper_kind=(info.get_attr("IFLA_INFO_SLAVE_KIND") if info else None) or "",
            xdp=XDP_ATTACHED.get(xdp.get_attr("IFLA_XDP_ATTACHED")) if xdp else None,
        )
