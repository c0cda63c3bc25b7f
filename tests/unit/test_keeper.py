# SPDX-License-Identifier: GPL-2.0-only
"""What the keeper asks of the kernel, for every state of an entry, and over time."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import keeper as keeper_module
from controlplane import neighbour
from controlplane.keeper import Counts, Keeper, decide
from controlplane.neighbour import Entry, Owner, fail, manage, probe, release, use
from controlplane.next_hop import NextHop, Use

A, B, C = (NextHop(3, socket.AF_INET, bytes([10, 2, 0, host])) for host in (2, 3, 4))
HAS_NO_NEED = [neighbour.PERMANENT, neighbour.NOARP]
NO_ADDRESS = [0, neighbour.INCOMPLETE, neighbour.FAILED]
IDLE_S = 10.0


def asked(state: int, owner: Owner, managing: bool = True, used=(A,), silent=()) -> list:
    return decide(used, set(silent), {A: Entry(state, owner)}, managing)


@pytest.mark.parametrize(
    ("state", "managing", "requests"),
    [
        (neighbour.REACHABLE, True, [manage(A)]),
        (neighbour.PROBE, True, [manage(A)]),
        (neighbour.STALE, True, [probe(A), manage(A)]),
        (neighbour.DELAY, True, [probe(A), manage(A)]),
        (neighbour.REACHABLE, False, []),
        (neighbour.PROBE, False, []),
        (neighbour.STALE, False, [probe(A)]),
        (neighbour.DELAY, False, [probe(A)]),
    ],
)
def test_an_ordinary_entry_that_carries_traffic(state, managing, requests):
    assert asked(state, Owner.NOBODY, managing) == requests


@pytest.mark.parametrize(
    ("state", "requests"),
    [
        (neighbour.REACHABLE, []),
        (neighbour.PROBE, []),
        (neighbour.STALE, [probe(A), manage(A)]),
        (neighbour.DELAY, [probe(A), manage(A)]),
        (neighbour.INCOMPLETE, []),
        (neighbour.FAILED, []),
    ],
)
def test_an_entry_that_is_managed_already(state, requests):
    assert asked(state, Owner.US) == requests


@pytest.mark.parametrize("managing", [True, False])
@pytest.mark.parametrize("silent", [(), (A,)])
def test_what_is_not_ours_to_touch(managing, silent):
    states = [1 << bit for bit in range(8)]
    assert all(asked(state, Owner.OTHER, managing, silent=silent) == [] for state in states)
    assert all(asked(state, Owner.NOBODY, managing, silent=silent) == [] for state in HAS_NO_NEED)


@pytest.mark.parametrize("managing", [True, False])
def test_the_unresolved_is_left_to_the_traffic(managing):
    assert all(asked(state, Owner.NOBODY, managing) == [] for state in NO_ADDRESS)


@pytest.mark.parametrize("owner", [Owner.NOBODY, Owner.OTHER])
def test_the_unused_is_left_alone(owner):
    assert all(asked(1 << bit, owner, used=()) == [] for bit in range(8))


def test_what_became_idle_is_released_in_any_state():
    assert all(asked(1 << bit, Owner.US, used=()) == [release(A)] for bit in range(7))
    assert decide((), set(), {A: Entry(neighbour.STALE, Owner.US)}, False) == [release(A)], "of an earlier daemon"


def test_what_the_kernel_lost_is_put_back():
    assert decide([A], set(), {}, True) == [manage(A)]
    assert decide([A], set(), {}, False) == [use(A)]


def test_what_does_not_answer_by_unicast_is_resolved_anew():
    assert asked(neighbour.PROBE, Owner.US, silent=[A]) == [fail(A), manage(A)]
    assert asked(neighbour.PROBE, Owner.NOBODY, False, silent=[A]) == [fail(A), use(A)]
    assert asked(neighbour.REACHABLE, Owner.US, silent=[A]) == []


states = st.sampled_from([1 << bit for bit in range(8)])
tables = st.dictionaries(st.sampled_from([A, B, C]), st.builds(Entry, states, st.sampled_from(Owner)))


@given(st.sets(st.sampled_from([A, B, C])), tables)
def test_a_second_look_finds_nothing_more_to_do(used, table):
    """Once everything that was asked for has come about, in states that need no question."""
    settled = dict(table)
    for hop in used:
        entry = table.get(hop, Entry(neighbour.REACHABLE, Owner.NOBODY))
        if entry.owner is not Owner.OTHER and entry.state in (
            neighbour.REACHABLE, neighbour.STALE, neighbour.DELAY, neighbour.PROBE,
        ):  # fmt: skip
            settled[hop] = Entry(neighbour.REACHABLE, Owner.US)
    for hop in settled.keys() - used:
        if settled[hop].owner is Owner.US:
            settled[hop] = Entry(settled[hop].state, Owner.NOBODY)
    assert decide(used, set(), settled, True) == []


# --- over time --------------------------------------------------------------------------------------


class Kernel:
    """A neighbour table that does as it is told, and a Keeper over it without sockets."""

    def __init__(self, monkeypatch):
        self.table = {}
        self.requests = []
        monkeypatch.setattr(keeper_module.neighbour, "read", lambda sock: dict(self.table))
        monkeypatch.setattr(keeper_module.neighbour, "send", lambda sock, requests: self.requests.append(requests))
        monkeypatch.setattr(keeper_module, "NetlinkSocket", lambda: None)
        self.keeper = Keeper(IDLE_S, managing=True)

    def tick(self, now: float, **packets: int) -> tuple[list, list]:
        """(requests, forgotten); `a=5`: five packets to A so far"""
        uses = {
            hop: Use(packets[name], 60 * packets[name])
            for name, hop in zip("abc", (A, B, C), strict=True)
            if name in packets
        }
        forgotten = self.keeper.tick(now, uses)
        return self.requests[-1], forgotten


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


def test_managed_when_used_forgotten_when_idle(kernel):
    kernel.table = {A: Entry(neighbour.REACHABLE, Owner.NOBODY)}
    assert kernel.tick(0) == ([], [])
    assert kernel.tick(1, a=1) == ([manage(A)], [])
    kernel.table = {A: Entry(neighbour.REACHABLE, Owner.US)}
    assert kernel.tick(2, a=1) == ([], [])
    assert kernel.keeper.counts == Counts(managed=1, resolved=1)
    assert kernel.tick(9, a=2) == ([], [])
    assert kernel.tick(18.9, a=2) == ([], [])
    assert kernel.tick(19, a=2) == ([release(A)], [A])
    kernel.table = {A: Entry(neighbour.STALE, Owner.NOBODY)}
    assert kernel.tick(20) == ([], [])
    assert kernel.keeper.counts == Counts()


def test_the_whole_table_is_counted_but_who_needs_no_address(kernel):
    kernel.table = {
        A: Entry(neighbour.STALE, Owner.NOBODY),
        B: Entry(neighbour.INCOMPLETE, Owner.NOBODY),
        C: Entry(neighbour.NOARP, Owner.NOBODY),
    }
    kernel.tick(0)
    assert kernel.keeper.census == neighbour.Census(resolved=1, unresolved=1)


def test_what_a_cpu_still_remembers_of_the_forgotten_is_no_use(kernel):
    kernel.table = {A: Entry(neighbour.REACHABLE, Owner.NOBODY)}
    kernel.tick(0)
    kernel.tick(1, a=100)
    assert kernel.tick(11, a=100) == ([], [A])
    assert kernel.tick(12, a=7) == ([], [])
    assert kernel.tick(13, a=7) == ([], [])
    assert kernel.tick(14, a=8) == ([manage(A)], [])


def test_an_earlier_daemons_next_hops(kernel):
    """Managed by it: kept for the idle time. Only counted by it: must carry traffic first, and is forgotten too."""
    kernel.table = {
        A: Entry(neighbour.REACHABLE, Owner.US),
        B: Entry(neighbour.STALE, Owner.NOBODY),
        C: Entry(neighbour.STALE, Owner.NOBODY),
    }
    assert kernel.tick(100, b=5, c=5) == ([], [])
    assert kernel.tick(101, b=5, c=6) == ([probe(C), manage(C)], [])
    kernel.table[C] = Entry(neighbour.REACHABLE, Owner.US)
    requests, forgotten = kernel.tick(110, b=5, c=6)
    assert requests == [release(A)]
    assert set(forgotten) == {A, B}
    kernel.table[A] = Entry(neighbour.REACHABLE, Owner.NOBODY)
    assert kernel.tick(111, c=6) == ([release(C)], [C])


def test_who_is_silent_to_unicast_is_resolved_anew_in_the_next_round(kernel):
    kernel.table = {A: Entry(neighbour.STALE, Owner.US)}
    assert kernel.tick(0) == ([probe(A), manage(A)], [])
    kernel.table = {A: Entry(neighbour.PROBE, Owner.US)}
    assert kernel.tick(0.5)[0] == []
    assert kernel.tick(1.0)[0] == [fail(A), manage(A)]
    kernel.table = {A: Entry(neighbour.INCOMPLETE, Owner.US)}
    assert kernel.tick(2.0)[0] == []
    kernel.table = {A: Entry(neighbour.REACHABLE, Owner.US)}
    assert kernel.tick(3.0)[0] == []
    kernel.table = {A: Entry(neighbour.PROBE, Owner.US)}
    assert kernel.tick(9.0)[0] == [], "asked anew: the time begins anew"


def test_release_all_spares_what_is_not_ours(kernel):
    kernel.table = {
        A: Entry(neighbour.REACHABLE, Owner.US),
        B: Entry(neighbour.REACHABLE, Owner.OTHER),
        C: Entry(neighbour.STALE, Owner.NOBODY),
    }
    kernel.keeper.release_all()
    assert kernel.requests[-1] == [release(A)]
