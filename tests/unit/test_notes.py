# SPDX-License-Identifier: GPL-2.0-only
"""RouteNotes: which routes are of note, read from rtnetlink messages as the kernel writes them."""

import copy
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.netlink import HEADER, attribute
from controlplane.notes import (
    BY_SOURCE,
    BY_TOS,
    MTU_METRIC,
    MULTIPATH,
    MULTIPATH_ATTRIBUTE,
    RTMSG,
    RTN_ANYCAST,
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    Prefix,
    RouteNotes,
)

RTM_NEWROUTE, RTN_UNICAST, RTN_UNREACHABLE = 24, 1, 7
RTA_DST, RTA_OIF, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE = 1, 4, 8, 9, 15
RTAX_LOCK, RTAX_MTU, RTAX_ADVMSS = 1, 2, 8
MTU_BIT = 1 << RTAX_MTU
OWN_TYPES = (RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST)


def prefix(text: str) -> Prefix:
    net = ipaddress.ip_network(text)
    return Prefix(net.network_address.packed, net.prefixlen)


def metrics(mtu: int | None = None, lock: int | None = None) -> bytes:
    """As rtnetlink_put_metrics() writes them: in the order of their numbers."""
    values = {RTAX_LOCK: lock, RTAX_MTU: mtu, RTAX_ADVMSS: 1220}
    rows = [attribute(kind, struct.pack("=I", value)) for kind, value in values.items() if value is not None]
    return attribute(RTA_METRICS, b"".join(rows))


def route(
    text: str, kind: int = RTN_UNICAST, more: bytes = b"", table: int = 254, source: int = 0, tos: int = 0
) -> bytes:
    """An RTM_NEWROUTE message; a prefix of length 0 carries no destination, as in the kernel's own."""
    where = ipaddress.ip_network(text)
    family = socket.AF_INET if where.version == 4 else socket.AF_INET6
    body = RTMSG.pack(family, where.prefixlen, source, tos, table, 3, 0, kind, 0)
    body += attribute(RTA_TABLE, struct.pack("=I", table))
    if where.prefixlen:
        body += attribute(RTA_DST, where.network_address.packed)
    body += more + attribute(RTA_OIF, struct.pack("=I", 7))
    return HEADER.pack(HEADER.size + len(body), RTM_NEWROUTE, 0, 1, 0) + body


def noted(*routes: bytes) -> RouteNotes:
    notes = RouteNotes()
    for data in routes:
        notes.take(data, 0, len(data))
    return notes


# --- kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWN_TYPES)
@pytest.mark.parametrize("text", ["192.0.2.1/32", "10.77.0.0/16", "0.0.0.0/0"])
def test_addresses_of_the_routers_own(kind, text):
    assert noted(route(text, kind, table=255)) == RouteNotes(own={prefix(text)})


@pytest.mark.parametrize("table", [254, 100])
def test_a_local_route_counts_in_any_table(table):
    assert noted(route("10.77.0.0/16", RTN_LOCAL, table=table)).own == {prefix("10.77.0.0/16")}


@pytest.mark.parametrize("kind", OWN_TYPES)
@pytest.mark.parametrize("text", ["2001:db8::1/128", "2001:db8::/64", "::/0"])
def test_ipv6_knows_no_martian_of_its_own(kind, text):
    assert noted(route(text, kind)) == RouteNotes()


@pytest.mark.parametrize(
    "text", ["127.0.0.1/32", "127.0.0.0/8", "127.255.255.255/32", "0.0.0.0/8", "0.0.0.0/32", "224.0.0.0/8",
             "224.0.0.1/32", "239.1.2.0/24", "240.0.0.0/8", "255.255.255.255/32"],
)  # fmt: skip
@pytest.mark.parametrize("kind", OWN_TYPES)
def test_what_the_program_passes_anyhow_is_left_out(kind, text):
    assert noted(route(text, kind)) == RouteNotes()


@pytest.mark.parametrize(
    "text", ["126.0.0.0/7", "0.0.0.0/1", "0.0.0.0/7", "192.0.0.0/2", "223.255.255.255/32", "1.0.0.0/8"]
)
def test_what_only_overlaps_with_that_is_noted(text):
    assert noted(route(text, RTN_LOCAL)).own == {prefix(text)}


@pytest.mark.parametrize(
    "text", ["198.51.100.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8:9::/48", "2001:db8::7/128", "::/0"]
)
def test_blackholes(text):
    assert noted(route(text, RTN_BLACKHOLE)) == RouteNotes(blackholes={prefix(text)})


@pytest.mark.parametrize("text", ["198.51.100.0/24", "2001:db8:9::/48"])
@pytest.mark.parametrize("kind", [RTN_UNICAST, RTN_UNREACHABLE])
def test_other_routes_are_not_of_note(text, kind):
    assert noted(route(text, kind)) == RouteNotes()
    assert noted(route(text, kind, metrics())) == RouteNotes()


REASONS = {
    "several next hops": (dict(more=attribute(RTA_MULTIPATH, bytes(32))), MULTIPATH),
    "a source prefix": (dict(source=48), BY_SOURCE),
    "a tos": (dict(tos=0x10), BY_TOS),
    "all of it": (dict(more=attribute(RTA_MULTIPATH, bytes(32)), source=1, tos=1), MULTIPATH | BY_SOURCE | BY_TOS),
    "several next hops and an mtu": (dict(more=metrics(1300) + attribute(RTA_MULTIPATH, bytes(32))), MULTIPATH),
}


@pytest.mark.parametrize("case", REASONS)
@pytest.mark.parametrize("text", ["198.51.100.0/24", "2001:db8:9::/48", "0.0.0.0/0"])
@pytest.mark.parametrize("kind", [RTN_UNICAST, RTN_BLACKHOLE, RTN_LOCAL])
def test_routes_whose_answer_depends_on_more_than_the_destination(case, text, kind):
    fields, reasons = REASONS[case]
    assert noted(route(text, kind, **fields)).reasons == reasons


@pytest.mark.parametrize("hop", [8, 16, 20, 28, 44])
def test_multipath_is_found_in_a_buffer_whatever_the_number_of_next_hops(hop):
    """Whose length goes through every low byte: a count looks into a buffer only if this finds one."""
    one = struct.pack("=HBBi", hop, 0, 0, 7) + bytes(hop - 8)
    for number in range(2, 128):
        data = route("198.51.100.0/24", more=attribute(RTA_MULTIPATH, number * one))
        assert MULTIPATH_ATTRIBUTE.search(data), number
    assert not MULTIPATH_ATTRIBUTE.search(route("198.51.100.0/24"))
    assert not MULTIPATH_ATTRIBUTE.search(route("2001:db8:9::/48", more=metrics(1300)))


def test_reasons_add_up():
    more = attribute(RTA_MULTIPATH, bytes(32))
    both = noted(route("198.51.100.0/24"), route("2001:db8::/32", source=8), route("10.0.0.0/8", more=more))
    assert both.reasons == MULTIPATH | BY_SOURCE
    both.merge(noted(route("10.0.0.0/8", tos=4)))
    assert both.reasons == MULTIPATH | BY_SOURCE | BY_TOS
    both.merge(RouteNotes())
    assert both.reasons == MULTIPATH | BY_SOURCE | BY_TOS


@pytest.mark.parametrize("family", [0, socket.AF_UNIX, 28, 128, 129])
def test_other_families_are_not_of_note(family):
    """28 is MPLS, 128 and 129 are multicast routes (RTNL_FAMILY_IPMR and IP6MR)."""
    body = RTMSG.pack(family, 20, 0, 0, 254, 3, 0, RTN_BLACKHOLE, 0) + attribute(RTA_DST, bytes(4))
    data = HEADER.pack(HEADER.size + len(body), RTM_NEWROUTE, 0, 1, 0) + body
    assert noted(data) == RouteNotes()


# --- route MTUs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["198.51.100.0/24", "192.0.2.7/32", "0.0.0.0/0"])
@pytest.mark.parametrize("lock", [None, 0, 1 << RTAX_ADVMSS])
def test_an_unlocked_mtu(text, lock):
    assert noted(route(text, more=metrics(1300, lock))) == RouteNotes(narrow={prefix(text): 1300})


@pytest.mark.parametrize("lock", [MTU_BIT, MTU_BIT | 1 << RTAX_ADVMSS, 0xFFFFFFFF])
def test_a_locked_mtu_is_the_lookups_own_affair(lock):
    assert noted(route("198.51.100.0/24", more=metrics(1300, lock))) == RouteNotes()


def test_an_ipv6_mtu_is_noted_too():
    assert noted(route("2001:db8::/48", more=metrics(1300))) == RouteNotes(narrow={prefix("2001:db8::/48"): 1300})


@pytest.mark.parametrize("mtus", [(1300, 1400), (1400, 1300), (1300, 1300)])
def test_of_several_routes_of_a_prefix_the_smallest_counts(mtus):
    routes = [
        route("198.51.100.0/24", more=metrics(mtu), table=table) for mtu, table in zip(mtus, (254, 100), strict=True)
    ]
    assert noted(*routes).narrow == {prefix("198.51.100.0/24"): 1300}


def test_an_mtu_on_a_route_without_next_hop_is_of_no_use():
    assert noted(route("198.51.100.0/24", RTN_BLACKHOLE, metrics(1300))).narrow == {}
    assert noted(route("192.0.2.1/32", RTN_LOCAL, metrics(1300))).narrow == {}


@given(st.integers(1, 0xFFFFFFFF), st.sampled_from([None, 0, MTU_BIT]))
def test_a_buffer_with_an_mtu_can_be_told_by_its_bytes(mtu, lock):
    assert MTU_METRIC in route("198.51.100.0/24", more=metrics(mtu, lock))


def test_a_buffer_without_an_mtu_can_be_told_by_its_bytes():
    assert MTU_METRIC not in route("198.51.100.0/24", more=metrics())


# --- messages ---------------------------------------------------------------------------------------


def test_a_message_within_a_buffer():
    first, second = route("192.0.2.1/32", RTN_LOCAL), route("198.51.100.0/24", RTN_BLACKHOLE)
    notes = RouteNotes()
    notes.take(first + second, len(first), len(second))
    assert notes == RouteNotes(blackholes={prefix("198.51.100.0/24")})


WHOLE = [
    route("198.51.100.0/24", RTN_BLACKHOLE),
    route("198.51.100.0/24", RTN_LOCAL),
    route("198.51.100.0/24", more=metrics(1300, 0)),
    route("2001:db8::/48", RTN_BLACKHOLE),
]


@pytest.mark.parametrize("data", WHOLE)
def test_a_message_cut_short_does_no_harm(data):
    for length in range(len(data)):
        RouteNotes().take(data[:length], 0, length)
        RouteNotes().take(data[:length], 0, len(data))
        RouteNotes().take(data, 0, length)
    for length in range(HEADER.size + RTMSG.size):
        assert noted(data[:length]) == RouteNotes()


@given(st.sampled_from(WHOLE), st.data())
def test_garbled_messages_do_no_harm(data, draw):
    garbled = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        garbled[draw.draw(st.integers(HEADER.size, len(data) - 1))] = draw.draw(st.integers(0, 255))
    notes = noted(bytes(garbled))
    for found in [*notes.own, *notes.narrow, *notes.blackholes]:
        assert len(found.address) in (4, 16)


# --- prefixes and merging ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "fd00::1/128"])
def test_a_prefix_reads_as_people_write_it(text):
    assert str(prefix(text)) == text


_PREFIXES = st.sampled_from([prefix(f"10.{n}.0.0/16") for n in range(5)])
_NOTES = st.builds(
    RouteNotes,
    own=st.sets(_PREFIXES, max_size=3),
    narrow=st.dictionaries(_PREFIXES, st.integers(68, 9000), max_size=3),
    blackholes=st.sets(_PREFIXES, max_size=3),
)


@given(_NOTES, _NOTES)
def test_merging_takes_all_of_both_and_the_smaller_mtu(one, other):
    merged, untouched = copy.deepcopy(one), copy.deepcopy(other)
    merged.merge(other)
    assert other == untouched
    assert (merged.own, merged.blackholes) == (one.own | other.own, one.blackholes | other.blackholes)
    assert merged.narrow == {
        p: min(notes.narrow[p] for notes in (one, other) if p in notes.narrow) for p in one.narrow.keys() | other.narrow
    }
