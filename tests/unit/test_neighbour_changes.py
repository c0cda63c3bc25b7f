# SPDX-License-Identifier: GPL-2.0-only
"""What is told of next hops from round to round."""

import socket

import pytest

from controlplane.neighbour import ABSENT, DELAY, FAILED, INCOMPLETE, PROBE, REACHABLE, STALE, Entry, Owner
from controlplane.neighbour_changes import TOLD_PER_ROUND, NeighbourWatch
from controlplane.next_hop import NextHop
from controlplane.notices import NeighbourChange, NeighbourChanged, NeighboursOmitted

MAC, OTHER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
FRESH = Entry(REACHABLE, Owner.US, MAC)


def hop(number: int = 1) -> NextHop:
    return NextHop(3, socket.AF_INET, bytes([10, 0, number >> 8, number & 255]))


@pytest.fixture
def watch() -> NeighbourWatch:
    return NeighbourWatch()


def rounds(watch: NeighbourWatch, *entries: Entry | None) -> list[NeighbourChanged]:
    """What is told after the last of these rounds; None: it carries no traffic."""
    told = []
    for entry in entries:
        watch.look([hop()] if entry else [], {hop(): entry} if entry and entry != ABSENT else {})
        told = watch.take()
    return told


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (FRESH, Entry(STALE, Owner.US, MAC), None),
        (FRESH, Entry(PROBE, Owner.US, MAC), None),
        (FRESH, Entry(FAILED, Owner.US), "unresolved"),
        (FRESH, ABSENT, "unresolved"),
        (Entry(INCOMPLETE, Owner.US), FRESH, "resolved"),
        (ABSENT, Entry(STALE, Owner.NOBODY, MAC), "resolved"),
        (FRESH, Entry(REACHABLE, Owner.US, OTHER_MAC), "moved"),
        (Entry(STALE, Owner.NOBODY, MAC), FRESH, "managed"),
        (FRESH, Entry(DELAY, Owner.NOBODY, MAC), "unmanaged"),
        (Entry(FAILED, Owner.US), Entry(FAILED, Owner.NOBODY), None),
        (FRESH, None, "idle"),
    ],
)
def test_a_change_is_told(watch, before, now, change):
    told = rounds(watch, before, now)
    assert [notice.change for notice in told] == ([change] if change else [])
    assert rounds(watch, now) == [], "once"


def test_the_first_round_has_nothing_to_be_compared_with(watch):
    assert rounds(watch, FRESH) == []


def test_who_begins_to_carry_traffic_is_told_of_when_the_kernel_keeps_it(watch):
    assert rounds(watch, None, Entry(STALE, Owner.NOBODY, MAC)) == []
    assert rounds(watch, FRESH) == [
        NeighbourChanged(hop(), NeighbourChange.MANAGED, "reachable", True, "02:00:00:00:00:01", "02:00:00:00:00:01")
    ]


def test_the_mac_from_before_a_failure_is_remembered(watch):
    rounds(watch, FRESH, Entry(FAILED, Owner.US))
    (told,) = rounds(watch, Entry(REACHABLE, Owner.US, OTHER_MAC))
    assert (told.change, told.lladdr_before, told.lladdr) == ("resolved", "02:00:00:00:00:01", "02:00:00:00:00:02")


def test_of_very_many_at_once_the_number_is_told(watch):
    everyone = [hop(number) for number in range(10_000)]
    watch.look(everyone, dict.fromkeys(everyone, FRESH))
    watch.look(everyone, {})
    told = watch.take()
    assert [type(notice) for notice in told] == [NeighbourChanged] * TOLD_PER_ROUND + [NeighboursOmitted]
    assert told[-1].number == 10_000 - TOLD_PER_ROUND


def test_nobody_who_takes_costs_no_memory(watch):
    everyone = [hop(number) for number in range(TOLD_PER_ROUND)]
    for _ in range(100):
        watch.look(everyone, dict.fromkeys(everyone, FRESH))
        watch.look(everyone, {})
    assert len(watch.take()) == 1024
