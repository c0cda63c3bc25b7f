# SPDX-License-Identifier: GPL-2.0-only
"""Forwarded packets are counted for their next hop, and for no other; nothing else is."""

import itertools
import socket

import pytest

from controlplane import source
from controlplane.dataplane import Dataplane
from controlplane.next_hop import NextHop, Use, key
from tests import packets
from tests.bpf.network import PORTS, Router, destination, whole_network

XDP_REDIRECT = 4
SETS = 64
MANY = 700
"""More than a CPU's table has places in own_router: SETS of four."""


@pytest.fixture
def own_router(pins):
    """A router of the test's own, whose maps may be filled, with fewer places for each CPU than limits.h gives."""
    with whole_network() as ns:
        router = Router(ns, pins, (f"-DADJACENCY_SETS={SETS}",))
        yield router
        router.close()


def hop(router: Router, port: str, address: str) -> NextHop:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return NextHop(router.indexes[port], family, socket.inet_pton(family, address))


def rise(router: Router, frame: bytes) -> dict[NextHop, Use]:
    """What one frame added."""
    before = router.dataplane.next_hops()
    router.run(frame)
    after = router.dataplane.next_hops()
    return {
        found: Use(use.packets - old.packets, use.bytes - old.bytes)
        for found, use in after.items()
        if use != (old := before.get(found, Use(0, 0)))
    }


@pytest.mark.parametrize(
    ("target", "port", "address"),
    [
        (destination("out", 4), "out0", "10.0.1.2"),
        (destination("out", 6), "out0", "2001:db8:0:1::2"),
        (destination("big", 4), "big0", "10.0.2.2"),
        ("10.0.1.3", "out0", "10.0.1.3"),  # connected: the destination itself
        ("2001:db8:0:1::3", "out0", "2001:db8:0:1::3"),
        ("10.40.0.5", "out0", "2001:db8:0:1::2"),  # RFC 8950
    ],
)
def test_a_forwarded_packet_counts_for_its_next_hop(router, target, port, address):
    frame = bytes(packets.udp(target))
    assert rise(router, frame) == {hop(router, port, address): Use(1, len(frame))}


@pytest.mark.parametrize(
    "kind", ["blackhole", "unreachable", "unresolved", "failed", "hairpin", "side", "idle", "small"]
)
@pytest.mark.parametrize("family", [4, 6])
def test_what_is_not_forwarded_counts_for_nobody(router, kind, family):
    frame = bytes(packets.udp(destination(kind, family), size=1300))
    assert rise(router, frame) == {}


def _neighbours(router: Router, count: int) -> list[str]:
    """Addresses on out0's subnet of a permanent neighbour each."""
    addresses = [f"10.200.{number >> 8}.{number & 255}" for number in range(1, count + 1)]
    mac = PORTS["out0"].next_hop_mac
    router.ns.ip("addr add 10.200.255.254/16 dev out0")
    router.ns.ip(*(f"neigh add {address} dev out0 lladdr {mac}" for address in addresses))
    return addresses


def test_none_is_lost_when_there_are_more_than_a_cpu_has_places_for(own_router):
    addresses = _neighbours(own_router, MANY)
    frames = [bytes(packets.udp(address)) for address in addresses]
    for turn in range(1, 4):
        assert {own_router.run(frame)[0] for frame in frames} == {XDP_REDIRECT}
        found = own_router.dataplane.next_hops()
        assert found == {
            hop(own_router, "out0", address): Use(turn, turn * len(frame))
            for address, frame in zip(addresses, frames, strict=True)
        }
    total = sum(leaf.packets for leaf in own_router.dataplane._tables[b"next_hops"].values())
    assert 0 < total < 3 * MANY, "some are in the shared map, some not yet"


def test_a_full_map_breaks_nothing(own_router):
    table = own_router.dataplane._tables[b"next_hops"]
    for number in range(source.limits()["MAX_NEXT_HOPS"]):
        table[table.Key.from_buffer_copy(key(NextHop(9, socket.AF_INET, number.to_bytes(4, "big"))))] = table.Leaf(1, 1)
    frames = [bytes(packets.udp(address)) for address in _neighbours(own_router, MANY)]
    assert {own_router.run(frame)[0] for frame in itertools.chain(frames, frames)} == {XDP_REDIRECT}
    found = own_router.dataplane.next_hops()
    assert len(found) > source.limits()["MAX_NEXT_HOPS"]
    own_router.dataplane.forget_next_hops(found)
    assert own_router.dataplane.next_hops().keys() == {
        found for found in own_router.dataplane.next_hops() if found.ifindex == own_router.indexes["out0"]
    }, "only what is in a CPU's own table"


def test_they_outlive_the_daemon(own_router, pins):
    frame = bytes(packets.udp(destination("out", 4)))
    own_router.run(frame)
    before = own_router.dataplane.next_hops()
    with own_router.ns.entered():
        second = Dataplane(pins)
        assert second.next_hops() == before == {hop(own_router, "out0", "10.0.1.2"): Use(1, len(frame))}
        second.close()
