# SPDX-License-Identifier: GPL-2.0-only
"""What a packet to be explained is made from."""

from dataclasses import dataclass

PROTOCOLS = {"tcp": 6, "udp": 17}
"""Those whose ports can be given"""
_L4_HEADERS = {1: 8, 6: 20, 17: 8, 58: 8}


@dataclass(frozen=True)
class Flow:
    source: str
    destination: str
    protocol: int
    sport: int = 1024
    dport: int = 33434
    """of UDP and TCP; where traceroute knocks"""
    size: int = 84
    """bytes of the IP datagram; a ping's"""
    tos: int = 0
    ttl: int = 64
    tags: tuple[int, ...] = ()
    """VLAN ids, the outer one first"""

    @property
    def version(self) -> int:
        return 6 if ":" in self.source else 4

    @property
    def smallest(self) -> int:
        """Bytes of the headers."""
        return (40 if self.version == 6 else 20) + _L4_HEADERS.get(self.protocol, 0)
