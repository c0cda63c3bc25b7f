# SPDX-License-Identifier: GPL-2.0-only
"""The cache's lease and key, with a piece of memory in the data plane's place."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import cache as cache_module
from controlplane.cache import HOLD_S, Cache, cache_sets
from controlplane.cache_key import Key
from controlplane.memory import sizes
from controlplane.source import limits

NARROW = Key()
BY_SOURCE = Key(source=True)
BY_TOS = Key(tos=True)
LEASE = round(cache_module.LEASE_S * cache_module.HZ)
ALL = Key(True, True, True, True, True, True, reasons=7)


class Memory:
    def __init__(self):
        self.coherence = mmap.mmap(-1, 4096)
        self.cleared: list[str] = []

    def view(self, name: str) -> mmap.mmap:
        assert name == "coherence"
        return self.coherence

    def clear(self, name: str) -> None:
        self.cleared.append(name)


class Clock:
    """In the data plane's units, as 32 bits, and in seconds."""

    def __init__(self, units: int = 1_000_000):
        self.units = units
        self.seconds = 1000.0


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: made.seconds)
    return made


def make(memory: Memory, sets: int = 16, cpus: int = 2, clock: Clock | None = None) -> Cache:
    clock = clock or Clock()
    return Cache(None, {b"known_neighbours": None}, memory, sets, cpus, {}, lambda: clock.units & 0xFFFFFFFF)


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def cache(memory, clock):
    made = make(memory, clock=clock)
    yield made
    made.close()


def masks(cache: Cache) -> tuple[int, ...]:
    state = cache._state
    return (
        state.wide,
        state.mask_source,
        state.mask_ports,
        state.mask_rest,
        state.mask_ingress,
        state.mask_label,
        state.known_reasons,
    )


# --- size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "sets"),
    [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (9, 4), (1000, 256), (1024, 256), (1025, 512), (1 << 18, 1 << 16)],
)
def test_sets_for_so_many_entries(entries, sets):
    assert cache_sets(entries) == sets


@given(st.integers(1, 1 << 40))
def test_sets_are_the_next_power_of_two(entries):
    sets = cache_sets(entries)
    assert sets.bit_count() == 1
    assert 4 * sets >= entries
    assert sets == 1 or 2 * sets < entries, "no more than needed"


def test_the_default_is_what_the_limits_say():
    assert cache_sets(1 << 18) == limits()["DEFAULT_CACHE_SETS"]


@pytest.mark.parametrize("cpus", [1, 2, 64])
@pytest.mark.parametrize("sets", [0, 1, 1024])
def test_memory_for_the_cache(cpus, sets, memory):
    found = sizes(cpus, sets)
    tables = {name: size for name, size in found.items() if name.startswith("cache")}
    assert tables == ({"cache4": 64 * sets * cpus, "cache6": 64 * sets * cpus} if sets else {})
    made = make(memory, sets, cpus)
    assert made.bytes == sum(tables.values())
    assert made.entries == 4 * sets * cpus
    made.close()


# --- lease ------------------------------------------------------------------------------------------


def test_nothing_is_recalled_at_first(cache):
    assert not cache.lease_ok
    cache.renew()
    assert not cache.lease_ok, "nobody has settled what there is"


def test_settling_needs_a_key(cache):
    cache.settle(cache.changes)
    assert not cache.lease_ok
    cache.configure(NARROW)
    assert not cache.lease_ok
    cache.settle(cache.changes)
    assert cache.lease_ok


@pytest.fixture
def granted(cache):
    cache.configure(NARROW)
    cache.settle(cache.changes)
    return cache


def test_settling_says_what_was_seen(cache):
    cache._state.changes = (1 << 40) + 5
    cache.configure(NARROW)
    cache.settle(cache.changes)
    assert cache._state.seen == (1 << 40) + 5


def test_a_lease_runs_out_and_is_renewed(granted, clock):
    for _ in range(3):
        clock.units += LEASE - 1
        assert granted.lease_ok
        granted.renew()
        assert granted.lease_ok
    clock.units += LEASE
    assert not granted.lease_ok
    granted.renew()
    assert granted.lease_ok


def test_it_is_renewed_often_enough():
    assert 2 * cache_module.RENEW_S < LEASE / cache_module.HZ < 0.2


@pytest.mark.parametrize("ahead", [0, 1, LEASE - 1, LEASE, LEASE + 1, 1000])
def test_a_lease_over_the_end_of_the_clock(granted, clock, ahead):
    clock.units = (1 << 32) - ahead
    granted.renew()
    assert granted.lease_ok
    assert granted._state.lease == (clock.units + LEASE) % (1 << 32)
    clock.units += LEASE - 1
    assert granted.lease_ok
    clock.units += 1
    assert not granted.lease_ok


def test_withdrawn_is_at_once_and_until_settled(granted):
    granted.withdraw("for a reason")
    assert not granted.lease_ok
    assert granted.reason == "for a reason"
    granted.renew()
    assert not granted.lease_ok
    granted.settle(granted.changes)
    assert granted.lease_ok
    assert granted.reason == ""


def test_leaving_ends_the_lease(granted):
    granted.__exit__(None, None, None)
    assert not granted.lease_ok
    granted.renew()
    assert not granted.lease_ok


def test_without_a_cache_there_is_a_reason_and_no_lease(memory, clock, monkeypatch):
    cache = make(memory, 0)
    monkeypatch.setattr(cache, "_listen", lambda name, _: listened.append(name))
    listened: list[str] = []
    for why in ("", "the kernel refused it"):
        cache.reason = why or cache.reason
        with cache:
            cache.configure(NARROW)
            cache.settle(cache.changes)
            cache.withdraw("something else")
            cache.settle(cache.changes)
            assert cache.reason == (why or "cache_entries is 0")
            assert not cache.lease_ok
            assert cache.key is None
    assert listened == ["neighbour_event"] * 2  # for the bridges
    assert memory.cleared == []
    cache.close()


# --- key --------------------------------------------------------------------------------------------


def test_masks(cache):
    full = 0xFFFFFFFF
    for key, expected in {
        NARROW: (0, 0, 0, 0, 0, 0, 0),
        Key(source=True): (1, full, 0, 0, 0, 0, 0),
        Key(ports=True): (1, 0, full, 0, 0, 0, 0),
        Key(protocol=True): (1, 0, 0, 0xFF00, 0, 0, 0),
        Key(tos=True): (1, 0, 0, 0xFF, 0, 0, 0),
        Key(ingress=True): (1, 0, 0, 0, full, 0, 0),
        Key(label=True): (1, 0, 0, 0, 0, full, 0),
        ALL: (1, full, full, 0xFFFF, full, full, 7),
        Key(reasons=1): (0, 0, 0, 0, 0, 0, 1),
    }.items():
        cache._key = None
        cache.configure(key)
        assert (str(key), masks(cache)) == (str(key), expected)


def test_the_first_key_finds_empty_tables(cache, memory):
    cache.configure(ALL)
    assert (cache.key, memory.cleared) == (ALL, [])


def test_a_wider_key_is_taken_at_once(granted, memory):
    own = granted._state.own
    granted.configure(BY_SOURCE)
    assert (granted.key, masks(granted)[0]) == (BY_SOURCE, 1)
    assert memory.cleared == ["cache4", "cache6"]
    assert granted._state.own > own, "what was asked under the other key is not remembered"
    assert not granted.lease_ok, "until what is announced is in force"
    granted.settle(granted.changes)
    assert granted.lease_ok


def test_the_same_key_changes_nothing(granted, memory):
    own = granted._state.own
    granted.configure(NARROW)
    assert (granted._state.own, memory.cleared) == (own, [])
    assert granted.lease_ok


def test_a_narrower_key_waits(granted, clock, memory):
    granted.configure(ALL)
    granted.settle(granted.changes)
    memory.cleared.clear()
    start = clock.seconds
    for after in (0, 1, HOLD_S / 2, HOLD_S - 0.1):
        clock.seconds = start + after
        granted.configure(NARROW)
        assert (after, granted.key, memory.cleared) == (after, ALL, [])
        assert granted.lease_ok
    clock.seconds = start + HOLD_S
    granted.configure(NARROW)
    assert (granted.key, masks(granted)) == (NARROW, (0,) * 7)
    assert memory.cleared == ["cache4", "cache6"]


def test_it_waits_anew_when_the_wide_key_was_needed_again(granted, clock):
    granted.configure(ALL)
    granted.configure(NARROW)
    clock.seconds += HOLD_S - 1
    granted.configure(ALL)
    clock.seconds += 2
    granted.configure(NARROW)
    assert granted.key == ALL
    clock.seconds += HOLD_S
    granted.configure(NARROW)
    assert granted.key == NARROW


def test_another_key_joins_the_old_one(granted, clock):
    granted.configure(BY_SOURCE)
    granted.configure(BY_TOS)
    assert granted.key == BY_SOURCE | BY_TOS
    granted.configure(BY_TOS)
    clock.seconds += HOLD_S
    granted.configure(BY_TOS)
    assert granted.key == BY_TOS


def test_nothing_is_recalled_while_the_key_changes(granted, memory, monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "clear", lambda name: seen.append((granted.lease_ok, granted._granted)))
    granted.configure(ALL)
    assert seen == [(False, False)] * 2


@given(st.lists(st.tuples(st.sampled_from([NARROW, BY_SOURCE, BY_TOS, ALL]), st.floats(0, 100)), max_size=12))
def test_the_key_always_has_what_is_needed(steps):
    memory, now = Memory(), 0.0
    cache = make(memory)
    with pytest.MonkeyPatch.context() as patch:
        for needed, seconds in steps:
            now += seconds
            patch.setattr(cache_module.time, "monotonic", lambda now=now: now)
            cache.configure(needed)
            assert cache.key | needed == cache.key
            assert bool(masks(cache)[0]) == cache.key.wide
    cache.close()


def test_invalidating_is_a_generation(granted):
    before = granted._state.own
    granted.invalidate()
    assert granted._state.own == before + 1
    granted._state.own = 0xFFFFFFFF
    granted.invalidate()
    assert granted._state.own == 0
