# SPDX-License-Identifier: GPL-2.0-only
"""A router with a cache, and what its tests ask of it. What becomes of the packets is in test_cached_packet_table.py."""

import struct

import pytest
from scapy.packet import Packet

from controlplane import cache as cache_module
from controlplane.cache_key import Key
from controlplane.monitor import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE
from controlplane.netlink import NetlinkSocket
from controlplane.notes import MULTIPATH
from controlplane.pins import PinDirectory
from tests.bpf.network import Namespace, Router, destination
from tests.bpf.network import rise as difference

XDP_REDIRECT = 4
OUT = {4: destination("out", 4), 6: destination("out", 6)}
ELSEWHERE = {4: "10.99.0.5", 6: "2a00:1::5"}
"""Another next hop, port and block"""
NARROW = Key(reasons=MULTIPATH)
WIDE = Key(True, True, True, True, True, True, MULTIPATH)
families = pytest.mark.parametrize("family", [4, 6])
keys = pytest.mark.parametrize("key", [NARROW, WIDE], ids=["narrow", "wide"])
LONG, SHORT = {4: "10.10.64.0/18", 6: "2001:db8:10:4000::/50"}, {4: "10.0.0.0/8", 6: "2000::/8"}
"""Prefixes around OUT: within one block, and longer than one"""
VIA = {4: "via 10.0.1.2 dev out0", 6: "via 2001:db8:0:1::2 dev out0"}
BLOCK = struct.Struct("=II")  # struct block of bpf/maps.h
FAR = 15 * cache_module.HZ
"""A life in the units of the data plane's clock that no test outlasts"""


class Cached(Router):
    """A router with a cache and with all that makes its answers void, but no daemon that follows."""

    def __init__(self, ns: Namespace, pins: PinDirectory, cache_sets: int = 1024):
        super().__init__(ns, pins, cache_sets=cache_sets)
        self.alive = True
        self.cache = self.dataplane.cache
        Cached.clock = self.dataplane._jiffies
        with ns.entered():
            self.routes = NetlinkSocket()
        self.routes.attach_filter(self.dataplane.route_filter_fd)
        for group in (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE):
            self.routes.join(group)

    @property
    def state(self):
        return self.cache._state

    def close(self) -> None:
        self.routes.close()
        super().close()

    def recalls(self, packet: Packet, ingress: str = "in0", verdict: str = "forward") -> bool:
        """Whether its way was recalled. False: the FIB was asked; and nothing else was."""
        before = self.counters()
        self.run(bytes(packet), ingress)
        found = difference(before, self.counters())[ingress]
        assert found.ingress.keys() == {verdict}
        assert found.cache_hits + sum(found.fib_codes.values()) == 1
        return bool(found.cache_hits)

    def settle(self) -> None:
        """As the daemon does when it has looked."""
        self.cache.settle(self.cache.changes)
        self.alive = True

    def run(self, frame: bytes, ingress: str = "in0") -> tuple[int, bytes]:
        """With the lease that a daemon would have renewed meanwhile."""
        if self.alive:
            self.cache.renew()
        return super().run(frame, ingress)

    def calm(self, key: Key = NARROW) -> None:
        """As if nothing had been announced for long, and nothing is remembered."""
        self.grant(key)
        self.settle()
        self.state.unsettled[:] = [now() - 1] * 2
        for family in (4, 6):
            self.write_blocks(family, [(generation, now() - 1) for generation, _ in self.blocks(family)])
        self.state.life = FAR
        self.cache.invalidate()

    def blocks(self, family: int) -> list[tuple[int, int]]:
        """(generation, unsettled) of each."""
        return list(BLOCK.iter_unpack(self.dataplane._memory.view(f"blocks{family}")[:]))

    def write_blocks(self, family: int, blocks: list[tuple[int, int]]) -> None:
        self.dataplane._memory.view(f"blocks{family}")[:] = b"".join(BLOCK.pack(*block) for block in blocks)

    def warm(self, *packets_: Packet, key: Key = NARROW, **more) -> None:
        """Have their ways remembered."""
        self.calm(key)
        for packet in packets_:
            assert not self.recalls(packet, **more)
            assert self.recalls(packet, **more)


def now() -> int:
    """In jiffies, as the data plane has them."""
    return Cached.clock()


def mac_of(router: Router, packet: Packet) -> str:
    action, after = router.run(bytes(packet))
    assert action == XDP_REDIRECT
    return after[:6].hex(":")
