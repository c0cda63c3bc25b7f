# SPDX-License-Identifier: GPL-2.0-only
"""Adjacencies that are taken by others while answers name them."""

import struct

import pytest

from controlplane.source import limits
from tests import packets
from tests.bpf.cache.cached import XDP_REDIRECT
from tests.bpf.network import rise as difference

pytestmark = pytest.mark.usefixtures("one_cpu")


def test_more_next_hops_than_places_never_send_a_packet_to_another_ones_mac(router):
    """Answers stay in the cache while the adjacencies that they name are taken by others."""
    places = limits()["ADJACENCY_SETS"] * limits()["ADJACENCY_WAYS"]
    macs = {f"10.200.{n >> 8}.{n & 255}": struct.pack(">HI", 0x0200, n) for n in range(256, 256 + 2 * places)}
    with_macs = [f"neigh add {a} dev out0 lladdr {mac.hex(':')}" for a, mac in macs.items()]
    router.ns.ip("addr add 10.200.0.1/16 dev out0")
    try:
        router.ns.ip(*with_macs)
        # As many as the cache can hold beside each other.
        busy = [*macs][:: len(macs) // 1500]
        frames = {address: bytes(packets.udp(address)) for address in macs}
        router.calm()
        before, wrong = router.counters(), []
        with router.ns.entered():
            ifindex, run = router.indexes["in0"], router.dataplane.test_run
            for part in range(8):
                router.settle()
                for address in [*busy, *busy, *[*macs][part::8]]:
                    action, after = run(frames[address], ifindex)
                    if (action, after[:6]) != (XDP_REDIRECT, macs[address]):
                        wrong.append((address, action, after[:6].hex(":")))
        assert wrong == []
        hits = difference(before, router.counters())["in0"].cache_hits
        assert hits > 8 * len(busy) / 2, "most of the second time"
    finally:
        router.ns.ip("addr del 10.200.0.1/16 dev out0", "neigh flush to 10.200.0.0/16 dev out0 nud permanent")
