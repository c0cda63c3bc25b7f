# SPDX-License-Identifier: GPL-2.0-only
"""What the two maps say about next hops, added up."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from controlplane import next_hop
from controlplane.next_hop import HOP, RECENT, TRAFFIC, NextHop, Use, uses

V4 = NextHop(3, socket.AF_INET, socket.inet_aton("10.2.0.2"))
V6 = NextHop(4, socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "fe80::1"))
LOOKS_LIKE_V4 = NextHop(3, socket.AF_INET6, V4.address + bytes(12))

hops = st.builds(
    lambda ifindex, v4, address: NextHop(
        ifindex, socket.AF_INET if v4 else socket.AF_INET6, address[:4] if v4 else address
    ),
    st.integers(1, 5), st.booleans(), st.binary(min_size=16, max_size=16),
)  # fmt: skip
traffic = st.tuples(st.integers(1, 1 << 40), st.integers(1, 1 << 40))


def table(entries) -> tuple[bytes, bytes]:
    """next_hops as the kernel hands it out."""
    return b"".join(HOP.pack(*hop) for hop, _ in entries), b"".join(TRAFFIC.pack(*counts) for _, counts in entries)


def recent(entries) -> bytes:
    return b"".join(RECENT.pack(*hop, *counts) for hop, counts in entries)


def test_nothing_has_carried_traffic():
    assert uses(b"", b"", bytes(RECENT.size * 1024)) == {}


def test_families_are_told_apart():
    found = uses(*table([(V4, (1, 60)), (V6, (2, 120)), (LOOKS_LIKE_V4, (3, 180))]), b"")
    assert found == {V4: Use(1, 60), V6: Use(2, 120), LOOKS_LIKE_V4: Use(3, 180)}
    assert [str(hop) for hop in found] == ["10.2.0.2", "fe80::1", "a02:2::"]


@given(st.dictionaries(hops, traffic, max_size=5), st.lists(st.tuples(hops, traffic), max_size=8))
def test_a_use_is_the_sum_over_both_maps_and_all_cpus(shared, by_cpu):
    wanted = {}
    for hop, (packets, octets) in [*shared.items(), *by_cpu]:
        before = wanted.get(hop, Use(0, 0))
        wanted[hop] = Use(before.packets + packets, before.bytes + octets)
    assert uses(*table(shared.items()), recent(by_cpu) + bytes(RECENT.size)) == wanted


@given(hops)
def test_a_key_is_read_as_it_is_written(hop):
    assert list(uses(next_hop.key(hop), TRAFFIC.pack(1, 2), b"")) == [hop]
