# SPDX-License-Identifier: GPL-2.0-only
"""Neighbour messages in and out. The order of attributes is the kernel's own (neigh_fill_info), and any other."""

import random
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import neighbour
from controlplane.neighbour import Entry, Owner, parse
from controlplane.netlink import HEADER, NLM_F_CREATE, attribute, attributes
from controlplane.next_hop import NextHop

V4 = NextHop(3, socket.AF_INET, socket.inet_aton("10.2.0.2"))
V6 = NextHop(4, socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "fe80::1"))
NDMSG = struct.Struct("=BBHiHBB")
PROBES = 4
MAC = bytes.fromhex("020000000102")


def message(
    hop: NextHop, state: int, *more: bytes, flags: int = 0, kind: int = neighbour.RTM_NEWNEIGH, lladdr: bytes = MAC
) -> bytes:
    """As the kernel dumps an entry; `more`: attributes behind the usual ones."""
    body = NDMSG.pack(hop.family, 0, 0, hop.ifindex, state, flags, 1) + attribute(neighbour.NDA_DST, hop.address)
    if state & neighbour.VALID:
        body += attribute(neighbour.NDA_LLADDR, lladdr)
    body += attribute(neighbour.NDA_CACHEINFO, struct.pack("=IIII", 250, 1, 2, 1))
    body += attribute(PROBES, bytes(4)) + b"".join(more)
    return HEADER.pack(HEADER.size + len(body), kind, 2, 1, 0) + body


def protocol(number: int) -> bytes:
    return attribute(neighbour.NDA_PROTOCOL, bytes([number]))


def extended(flags: int) -> bytes:
    return attribute(neighbour.NDA_FLAGS_EXT, struct.pack("=I", flags))


MANAGED, OURS = extended(neighbour.NTF_EXT_MANAGED), protocol(neighbour.OUR_PROTOCOL)


def parsed(data: bytes) -> dict[NextHop, Entry]:
    table = {}
    parse(data, table)
    return table


@pytest.mark.parametrize("hop", [V4, V6], ids=str)
@pytest.mark.parametrize(
    ("more", "flags", "owner"),
    [
        ((), 0, Owner.NOBODY),
        ((OURS, MANAGED), 0, Owner.US),
        ((MANAGED, OURS), 0, Owner.US),
        ((OURS, MANAGED, attribute(99, b"what a later kernel adds")), 0, Owner.US),
        ((OURS,), 0, Owner.NOBODY),
        ((MANAGED,), 0, Owner.OTHER),
        ((protocol(11), MANAGED), 0, Owner.OTHER),
        ((), neighbour.NTF_EXT_LEARNED, Owner.OTHER),
        ((extended(1 << 2),), 0, Owner.OTHER),
    ],
)
def test_whose_an_entry_is(hop, more, flags, owner):
    assert parsed(message(hop, neighbour.STALE, *more, flags=flags)) == {hop: Entry(neighbour.STALE, owner, MAC)}


@pytest.mark.parametrize("more", [(), (OURS, MANAGED)], ids=["an ordinary one", "ours"])
def test_no_part_of_an_address_that_is_no_mac_is_taken_for_one(more):
    entry = parsed(message(V4, neighbour.STALE, *more, lladdr=bytes(range(20))))[V4]
    assert entry.lladdr in (b"", bytes(range(20)))
    assert parsed(message(V4, neighbour.FAILED, *more))[V4].lladdr == b""


def test_all_entries_of_a_buffer_and_nothing_else():
    bridge = NextHop(5, 7, bytes(4))
    buffer = (
        message(V4, neighbour.REACHABLE, OURS, MANAGED)
        + message(bridge, neighbour.REACHABLE)
        + message(NextHop(9, *V4[1:]), neighbour.STALE, kind=29)
        + message(V6, neighbour.FAILED)
        + HEADER.pack(HEADER.size + 4, 3, 2, 1, 0)
        + bytes(4)
    )
    assert parsed(buffer) == {
        V4: Entry(neighbour.REACHABLE, Owner.US, MAC),
        V6: Entry(neighbour.FAILED, Owner.NOBODY),
    }


@given(st.binary(max_size=200))
def test_garbage_ends(data):
    parsed(data)


@given(st.integers(0, 1 << 30))
def test_cut_messages_end(seed):
    whole = message(V4, neighbour.REACHABLE, OURS, MANAGED) + message(V6, neighbour.STALE)
    cut = random.Random(seed).randrange(len(whole))
    assert set(parsed(whole[:cut])) <= {V4, V6}


def read(request: neighbour.Request) -> tuple[tuple[int, int, int, int], dict[int, bytes], bool]:
    """((family, ifindex, state, flags), attributes, whether an absent entry is made)"""
    family, _, _, ifindex, state, flags, _ = NDMSG.unpack_from(request.payload)
    return (
        (family, ifindex, state, flags),
        dict(attributes(request.payload[NDMSG.size :])),
        request.flags == NLM_F_CREATE,
    )


@pytest.mark.parametrize("hop", [V4, V6], ids=str)
def test_requests_say_neither_state_nor_address_but_where_they_mean_it(hop):
    """The state 0 of a request with `managed` or `use` leaves state and link-layer address as they are."""
    dst = {neighbour.NDA_DST: hop.address}
    mark = {neighbour.NDA_PROTOCOL: b"\x58", neighbour.NDA_FLAGS_EXT: struct.pack("=I", 1)}
    assert read(neighbour.manage(hop)) == ((hop.family, hop.ifindex, 0, 0), dst | mark, True)
    assert read(neighbour.use(hop)) == ((hop.family, hop.ifindex, 0, neighbour.NTF_USE), dst, True)
    kernel = {neighbour.NDA_PROTOCOL: b"\x02"}
    assert read(neighbour.release(hop)) == ((hop.family, hop.ifindex, 0, neighbour.NTF_USE), dst | kernel, False)
    assert read(neighbour.probe(hop)) == ((hop.family, hop.ifindex, neighbour.PROBE, 0), dst, False)
    assert read(neighbour.fail(hop)) == ((hop.family, hop.ifindex, neighbour.FAILED, 0), dst, False)
