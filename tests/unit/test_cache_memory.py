# SPDX-License-Identifier: GPL-2.0-only
"""What the daemon makes of cache_entries, before the kernel is asked for anything; and after it has refused."""

import logging

import pytest

from controlplane.errors import DataplaneError, MissingDependency
from controlplane.features import NONE
from controlplane.memory import LARGEST
from xdprouter import load
from xdprouter.config import Config
from xdprouter.errors import UsageError

MB = 10**6
PLENTY = 1 << 50


@pytest.mark.parametrize(("entries", "sets"), [(0, 0), (4, 1), (1024, 256), (Config().cache_entries, 1 << 16)])
def test_powers_of_two_are_taken_as_they_are(caplog, entries, sets):
    assert load.sets_that_fit(entries, 2, PLENTY) == sets
    assert caplog.records == []


@pytest.mark.parametrize(("entries", "becomes"), [(1, 4), (3, 4), (5, 8), (1000, 1024), (1025, 2048)])
def test_others_are_rounded_up_and_it_is_said(caplog, entries, becomes):
    with caplog.at_level(logging.WARNING):
        assert 4 * load.sets_that_fit(entries, 2, PLENTY) == becomes
    assert caplog.messages == [f"cache_entries {entries} is rounded up to {becomes}"]


def test_it_must_fit_into_memory():
    """16 bytes an entry, for each family and CPU."""
    entries, cpus = 1 << 20, 4
    needed = 2 * 16 * entries * cpus
    assert load.sets_that_fit(entries, cpus, needed) == entries // 4
    with pytest.raises(UsageError, match=f"takes {needed // MB} MB, and at most {(needed - 1) // MB} MB are possible"):
        load.sets_that_fit(entries, cpus, needed - 1)


def test_it_must_be_within_a_programs_reach():
    most = LARGEST // 16
    assert 64 * load.sets_that_fit(most, 1, PLENTY) == LARGEST
    for entries in (most + 1, 1 << 70, 10**400):
        with pytest.raises(UsageError, match=f"at most {2 * LARGEST // MB} MB are possible"):
            load.sets_that_fit(entries, 1, PLENTY)


def test_an_empty_cache_fits_anywhere():
    assert load.sets_that_fit(0, 4096, 0) == 0


def test_available_memory_is_of_this_machine():
    assert 1 << 20 < load.available_bytes() < 1 << 50


class Dataplane:
    """One that the kernel does not let have a cache, or does not let be."""

    def __init__(self, pins, cache_sets=0, *, features=NONE, refuses=lambda sets: sets > 0, error=DataplaneError):
        if refuses(cache_sets):
            raise error("the kernel did not load program router: Invalid argument")
        self.sets = cache_sets
        self.cache = type("Cache", (), {"reason": "cache_entries is 0"})()


def made(monkeypatch, entries: int = 1024, **options):
    monkeypatch.setattr(load, "table_cpus", lambda: 2)
    monkeypatch.setattr(load, "Dataplane", lambda pins, **arguments: Dataplane(pins, **arguments, **options))
    return load.make_dataplane(None, entries)


def test_a_kernel_that_refuses_the_cache_gets_none(monkeypatch, caplog):
    dataplane = made(monkeypatch)
    assert dataplane.sets == 0
    assert dataplane.cache.reason == "the kernel did not load program router: Invalid argument"
    assert caplog.messages == [f"without a destination cache: {dataplane.cache.reason}"]


def test_a_kernel_that_takes_it_is_asked_once(monkeypatch, caplog):
    dataplane = made(monkeypatch, refuses=lambda sets: sets == 0)
    assert (dataplane.sets, caplog.messages) == (256, [])


@pytest.mark.parametrize("entries", [0, 1024])
def test_a_kernel_that_refuses_everything_is_an_error(monkeypatch, entries):
    with pytest.raises(DataplaneError):
        made(monkeypatch, entries, refuses=lambda _: True)


def test_what_is_missing_is_not_the_caches_fault(monkeypatch):
    with pytest.raises(MissingDependency):
        made(monkeypatch, error=MissingDependency)
