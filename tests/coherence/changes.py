# SPDX-License-Identifier: GPL-2.0-only
"""Changes of the kernel's tables by raw netlink: when the call returns, so has the change.

Payloads follow include/uapi/linux/rtnetlink.h, neighbour.h, fib_rules.h, nexthop.h and if_link.h.
"""

import socket
import struct

from controlplane.netlink import NLM_F_CREATE, NetlinkSocket, attribute
from tests.coherence.router import NEXT_HOP, PORT_OF, Router, mac

NLM_F_REPLACE, NLM_F_EXCL = 0x100, 0x200
_NEWLINK, _NEWROUTE, _DELROUTE, _NEWNEIGH = 16, 24, 25, 28
_NEWRULE, _DELRULE, _NEWNEXTHOP, _DELNEXTHOP = 32, 33, 104, 105
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_NH_ID = 1, 4, 5, 9, 30
_MAIN, _STATIC, _UNIVERSE, _UNICAST = 254, 4, 0, 1
_NUD_PERMANENT, _NDA_DST, _NDA_LLADDR = 0x80, 1, 2
_FR_ACT_TO_TBL, _FRA_DST, _FRA_PRIORITY = 1, 1, 6
_NHA_ID, _NHA_OIF, _NHA_GATEWAY = 1, 5, 6
_IFF_UP = 1

SHORT = {4: ("10.16.0.0", 16), 6: ("fd10::", 32)}
LONG = {4: ("10.16.5.0", 24), 6: ("fd10:0:0:5::", 64)}
"""Prefixes that all of the traffic goes to"""
OTHER_TABLE, PRIORITY, NEXTHOP_ID = 100, 100, 10


class Changes:
    """Of one family, in the router's namespace."""

    def __init__(self, router: Router, family: int):
        self._router = router
        self._netlink: NetlinkSocket = router.netlink
        self._family = family
        self._number = socket.AF_INET if family == 4 else socket.AF_INET6

    def replace_route(self, prefix: tuple[str, int], *ways: int, table: int = _MAIN) -> None:
        self._route(_NEWROUTE, prefix, table, self._next_hops(ways), NLM_F_CREATE | NLM_F_REPLACE)

    def replace_route_by_nexthop(self, prefix: tuple[str, int]) -> None:
        target = attribute(_RTA_NH_ID, struct.pack("=I", NEXTHOP_ID))
        self._route(_NEWROUTE, prefix, _MAIN, target, NLM_F_CREATE | NLM_F_REPLACE)

    def delete_route(self, prefix: tuple[str, int], table: int = _MAIN) -> None:
        self._route(_DELROUTE, prefix, table, b"", 0)

    def set_mac(self, way: int, lladdr_of: int) -> None:
        """Let the next hop of a way have the MAC of another."""
        header = struct.pack("=BBHiHBB", self._number, 0, 0, self._out(way), _NUD_PERMANENT, 0, 0)
        lladdr = bytes.fromhex(mac(lladdr_of).replace(":", ""))
        body = attribute(_NDA_DST, self._packed(NEXT_HOP[self._family, way])) + attribute(_NDA_LLADDR, lladdr)
        self._netlink.request(_NEWNEIGH, header + body, NLM_F_CREATE | NLM_F_REPLACE)

    def add_rule(self, prefix: tuple[str, int]) -> None:
        """To OTHER_TABLE, for destinations in a prefix."""
        self._netlink.request(_NEWRULE, self._rule(prefix), NLM_F_CREATE | NLM_F_EXCL)

    def delete_rule(self, prefix: tuple[str, int]) -> None:
        self._netlink.request(_DELRULE, self._rule(prefix))

    def replace_nexthop(self, way: int) -> None:
        header = struct.pack("=BBBBI", self._number, 0, _STATIC, 0, 0)
        body = attribute(_NHA_ID, struct.pack("=I", NEXTHOP_ID)) + attribute(
            _NHA_OIF, struct.pack("=i", self._out(way))
        )
        body += attribute(_NHA_GATEWAY, self._packed(NEXT_HOP[self._family, way]))
        self._netlink.request(_NEWNEXTHOP, header + body, NLM_F_CREATE | NLM_F_REPLACE)

    def delete_nexthop(self) -> None:
        header = struct.pack("=BBBBI", self._number, 0, 0, 0, 0)
        self._netlink.request(_DELNEXTHOP, header + attribute(_NHA_ID, struct.pack("=I", NEXTHOP_ID)))

    def set_link(self, port: str, up: bool) -> None:
        ifindex = self._router.ifindexes[port]
        self._netlink.request(_NEWLINK, struct.pack("=BBHiII", 0, 0, 0, ifindex, _IFF_UP if up else 0, _IFF_UP))

    def _route(self, kind: int, prefix: tuple[str, int], table: int, target: bytes, flags: int) -> None:
        # "Nowhere" as the scope makes a deletion match any.
        scope, route_type = (_UNIVERSE, _UNICAST) if kind == _NEWROUTE else (255, 0)
        protocol = _STATIC if kind == _NEWROUTE else 0
        header = struct.pack("=BBBBBBBBI", self._number, prefix[1], 0, 0, table, protocol, scope, route_type, 0)
        self._netlink.request(kind, header + attribute(_RTA_DST, self._packed(prefix[0])) + target, flags)

    def _next_hops(self, ways: tuple[int, ...]) -> bytes:
        gateways = [
            (self._out(way), attribute(_RTA_GATEWAY, self._packed(NEXT_HOP[self._family, way]))) for way in ways
        ]
        if len(gateways) == 1:
            ifindex, gateway = gateways[0]
            return gateway + attribute(_RTA_OIF, struct.pack("=i", ifindex))
        hops = (struct.pack("=HBBi", 8 + len(gateway), 0, 0, ifindex) + gateway for ifindex, gateway in gateways)
        return attribute(_RTA_MULTIPATH, b"".join(hops))

    def _rule(self, prefix: tuple[str, int]) -> bytes:
        header = struct.pack("=BBBBBBBBI", self._number, prefix[1], 0, 0, OTHER_TABLE, 0, 0, _FR_ACT_TO_TBL, 0)
        return (
            header
            + attribute(_FRA_DST, self._packed(prefix[0]))
            + attribute(_FRA_PRIORITY, struct.pack("=I", PRIORITY))
        )

    def _out(self, way: int) -> int:
        return self._router.ifindexes[PORT_OF[way]]

    def _packed(self, address: str) -> bytes:
        return socket.inet_pton(self._number, address)
