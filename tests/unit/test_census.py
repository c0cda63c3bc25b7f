# SPDX-License-Identifier: GPL-2.0-only
"""RouteCounter: when it counts, and what it holds between a route's announcement and the count that misses it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controlplane import census
from controlplane.census import RouteCensus, RouteCounter
from controlplane.notes import Prefix, RouteNotes

OLD, NEW, OTHER = (Prefix(bytes([192, 0, 2, last]), 32) for last in (1, 2, 3))
BOUND_S = 10
QUIET_S = RouteCounter.QUIET_S


class Kernel:
    """In place of the dumps. A count can be held in the middle."""

    def __init__(self):
        self.notes = RouteNotes()
        self.counts = 0
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def count(self, tables=()) -> RouteCensus:
        own, narrow, blackholes = set(self.notes.own), dict(self.notes.narrow), set(self.notes.blackholes)
        self.counts += 1
        self.began.set()
        assert self.go_on.wait(BOUND_S)
        if self.error:
            raise self.error
        return RouteCensus(ipv4=self.counts, notes=RouteNotes(own, narrow, blackholes), empty_tables=frozenset(tables))


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(RouteCounter, "_SHORTEST_PAUSE_S", 0.0)
    monkeypatch.setattr(RouteCounter, "SHARE", 0)
    monkeypatch.setattr(RouteCounter, "SHARE_IN_CHURN", 0)
    return kernel


async def _until(predicate: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not predicate():
            await asyncio.sleep(0)


async def _counted(counter: RouteCounter, change: object) -> None:
    counter.refresh(change, QUIET_S)
    await counter._running


@asynccontextmanager
async def _in_the_middle_of_a_count(kernel: Kernel, counter: RouteCounter) -> AsyncIterator[None]:
    """Of change 1; it is over after the block."""
    kernel.go_on.clear()
    counter.refresh(1, QUIET_S)
    await _until(kernel.began.is_set)
    try:
        yield
    finally:
        kernel.go_on.set()
    await counter._running


def _settled(counter: RouteCounter) -> bool:
    return counter._running is None or counter._running.done()


def test_what_a_count_finds_is_noted(kernel):
    counter = RouteCounter(kernel.count)
    kernel.notes.own.add(OLD)
    counter.count(1)
    assert counter.notes == RouteNotes(own={OLD})
    assert counter.census.ipv4 == 1


def test_an_announcement_is_noted_at_once(kernel):
    counter = RouteCounter(kernel.count)
    kernel.notes.own.add(OLD)
    counter.count(1)
    counter.announce(RouteNotes(own={NEW}, narrow={OTHER: 1300}, blackholes={OTHER}))
    assert counter.notes == RouteNotes(own={OLD, NEW}, narrow={OTHER: 1300}, blackholes={OTHER})


def test_nothing_is_counted_without_a_change(kernel):
    async def run():
        counter = RouteCounter(kernel.count)
        await _counted(counter, 1)
        for _ in range(3):
            counter.refresh(1, QUIET_S)
            assert _settled(counter)
        assert kernel.counts == 1
        await _counted(counter, 2)
        assert kernel.counts == 2

    asyncio.run(run())


def test_what_a_count_misses_is_dropped(kernel):
    async def run():
        counter = RouteCounter(kernel.count)
        counter.announce(RouteNotes(own={NEW}, narrow={NEW: 1300}, blackholes={NEW}))
        kernel.notes.own.add(OLD)
        await _counted(counter, 1)
        assert counter.notes == RouteNotes(own={OLD})

    asyncio.run(run())


def test_an_announcement_during_a_count_is_kept(kernel):
    """The count may have passed the place of the new route already."""

    async def run():
        counter = RouteCounter(kernel.count)
        kernel.notes.own.add(OLD)
        async with _in_the_middle_of_a_count(kernel, counter):
            counter.announce(RouteNotes(own={NEW}))
        assert counter.notes.own == {OLD, NEW}

    asyncio.run(run())


def test_an_announcement_that_was_late_does_not_stay_for_ever(kernel):
    """A route that came and went before the count, but was heard of only during it: no change is left to come."""

    async def run():
        counter = RouteCounter(kernel.count)
        async with _in_the_middle_of_a_count(kernel, counter):
            counter.announce(RouteNotes(own={NEW}))
        await _counted(counter, 1)
        assert counter.notes.own == set()
        counter.announce(RouteNotes(own={OTHER}))
        await _counted(counter, 1)
        assert counter.notes.own == set()

    asyncio.run(run())


def test_a_change_during_a_count_leads_to_another(kernel):
    async def run():
        counter = RouteCounter(kernel.count)
        async with _in_the_middle_of_a_count(kernel, counter):
            counter.refresh(2, QUIET_S)
            kernel.notes.own.add(NEW)
        assert (kernel.counts, counter.notes.own) == (1, set())
        await _counted(counter, 2)
        assert (kernel.counts, counter.notes.own) == (2, {NEW})

    asyncio.run(run())


def test_only_one_count_runs_at_a_time(kernel):
    async def run():
        counter = RouteCounter(kernel.count)
        async with _in_the_middle_of_a_count(kernel, counter):
            running = counter._running
            counter.refresh(2, QUIET_S)
            assert counter._running is running
        assert kernel.counts == 1

    asyncio.run(run())


def test_a_count_that_fails_changes_nothing_and_is_made_again(kernel):
    async def run():
        counter = RouteCounter(kernel.count)
        counter.announce(RouteNotes(own={NEW}))
        kernel.error = OSError("no buffer")
        counter.refresh(1, QUIET_S)
        with pytest.raises(OSError):
            await counter._running
        assert counter.notes.own == {NEW}
        kernel.error = None
        kernel.notes.own.add(OLD)
        await _counted(counter, 1)
        assert counter.notes.own == {OLD}

    asyncio.run(run())


@pytest.mark.parametrize(("quiet_s", "pause_s"), [(QUIET_S, 10), (QUIET_S - 0.1, 30)])
def test_a_count_is_followed_by_a_pause_in_proportion(kernel, monkeypatch, quiet_s, pause_s):
    """To the CPU time that it took; longer while routes still change. The clocks are the test's own."""
    now = 100.0
    monkeypatch.setattr(census.time, "monotonic", lambda: now)
    monkeypatch.setattr(census.time, "thread_time", lambda: 0.5 * kernel.counts)
    monkeypatch.setattr(RouteCounter, "SHARE", 20)
    monkeypatch.setattr(RouteCounter, "SHARE_IN_CHURN", 1000)

    async def run():
        nonlocal now
        counter = RouteCounter(kernel.count)
        await _counted(counter, 1)
        now += pause_s - 0.1
        counter.refresh(2, quiet_s)
        assert _settled(counter)
        now += 0.2
        counter.refresh(2, quiet_s)
        await counter._running
        assert kernel.counts == 2

    asyncio.run(run())


def test_what_was_announced_just_now_is_counted_again(kernel):
    """A deletion is announced before it is done, and nothing is announced when it is."""

    async def run():
        counter = RouteCounter(kernel.count)
        counter.refresh(1, 0.0)
        await counter._running
        await _counted(counter, 1)
        assert kernel.counts == 2
        counter.refresh(1, QUIET_S)
        assert (_settled(counter), kernel.counts) == (True, 2)

    asyncio.run(run())


def test_another_table_to_ask_about_is_a_reason_to_count(kernel):
    async def main():
        counter = RouteCounter(kernel.count)
        await _counted(counter, 1)
        assert counter.census.empty_tables == frozenset()
        counter.refresh(1, QUIET_S, (10,))
        await counter._running
        assert counter.census.empty_tables == {10}
        counts = kernel.counts
        counter.refresh(1, QUIET_S, (10,))
        assert _settled(counter) and kernel.counts == counts

    asyncio.run(main())
