# SPDX-License-Identifier: GPL-2.0-only
"""Tagged entries are in a hash and, where numbers are low and their place is free, in an array: both say the same."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.interface_maps import _low_place
from controlplane.source import limits

LOW, HIGH = limits()["LOW_IFINDEXES"] - 1, limits()["LOW_IFINDEXES"]


def keys_of_one_place(number: int) -> list[tuple[int, int]]:
    """(device, tags), all with the same place in the array."""
    place = _low_place(2, 10)
    keys = ((device, tags) for device, tags in itertools.product(range(2, 60), range(1, 0x2000)))
    return list(itertools.islice((key for key in keys if _low_place(*key) == place), number))


KEYS = [*keys_of_one_place(4), (LOW, 0x0005_1064), (HIGH, 10), (1 << 31, 10)]


@pytest.fixture
def maps(dataplane):
    yield dataplane._interfaces
    for key in dataplane._interfaces.tagged():
        dataplane._interfaces.untag(*key)
    assert not any(dataplane._interfaces._low_tagged)


def array(maps) -> dict[tuple[int, int], int]:
    """(device, tags) -> ifindex, each at its place."""
    out = {}
    for place, word in enumerate(maps._low_tagged):
        if word:
            key = word >> 48, word >> 16 & 0xFFFFFFFF
            assert _low_place(*key) == place
            out[key] = word & 0xFFFF
    return out


@pytest.mark.parametrize(
    "keys",
    [
        [(5, vid) for vid in range(1, 4000)],
        [(device, vid) for device in range(2, 10) for vid in range(1, 501)],
        [(device, 10 * vid) for device in range(2, 102) for vid in range(1, 11)],
        [(2, 0x1000 | outer | inner << 16) for outer in range(1, 65) for inner in range(1, 63)],
    ],
    ids=["one-device", "eight", "a-hundred", "qinq"],
)
def test_tags_as_networks_have_them_find_their_places_free(keys):
    assert len({_low_place(*key) for key in keys}) == len(keys)


def test_the_keys_meet():
    assert len(KEYS) == 7
    assert len({_low_place(*key) for key in KEYS[:4]}) == 1


def test_what_comes_first_has_the_place(maps):
    first, second = KEYS[:2]
    maps.tag(*first, 7)
    maps.tag(*second, 8)
    assert (array(maps), maps.tagged()) == ({first: 7}, {first: 7, second: 8})
    maps.untag(*first)
    assert (array(maps), maps.tagged()) == ({}, {second: 8})
    maps.tag(*second, 9)
    assert array(maps) == maps.tagged() == {second: 9}


def test_a_number_that_is_not_low_is_in_the_hash_alone(maps):
    maps.tag(2, 10, LOW)
    assert array(maps) == {(2, 10): LOW}
    maps.tag(2, 10, HIGH)
    assert (array(maps), maps.tagged()) == ({}, {(2, 10): HIGH})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([0, 3, LOW, HIGH])), max_size=12))
def test_the_array_says_nothing_that_the_hash_does_not(maps, steps):
    for key in maps.tagged():
        maps.untag(*key)
    wanted = {}
    for key, ifindex in steps:  # 0: untag
        if ifindex:
            maps.tag(*key, ifindex)
            wanted[key] = ifindex
        elif wanted.pop(key, None):
            maps.untag(*key)
        assert maps.tagged() == wanted
        assert array(maps).items() <= wanted.items()
