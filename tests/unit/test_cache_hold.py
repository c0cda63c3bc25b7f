# SPDX-License-Identifier: GPL-2.0-only
"""While the key is wider than needed, what would need it is announced as if it were narrow already."""

import mmap

import pytest

from controlplane import cache as cache_module
from controlplane.cache import HOLD_S, Cache
from controlplane.cache_key import Key
from controlplane.notes import MULTIPATH

NARROW = Key()
WIDE = Key(source=True, reasons=MULTIPATH)


class Memory:
    def __init__(self):
        self._coherence = mmap.mmap(-1, 4096)

    def view(self, _: str) -> mmap.mmap:
        return self._coherence

    def clear(self, _: str) -> None:
        pass


@pytest.fixture
def seconds(monkeypatch):
    """[CLOCK_MONOTONIC]"""
    now = [1000.0]
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def cache(seconds):
    made = Cache(None, {b"known_neighbours": None}, Memory(), 16, 1, {}, lambda: 1)
    made.configure(WIDE)
    yield made
    made.close()


def test_a_multipath_route_is_told_of_while_the_key_is_held(cache, seconds):
    assert cache._state.known_reasons == MULTIPATH
    cache.configure(NARROW)
    assert (cache.key, cache._state.wide, cache._state.known_reasons) == (WIDE, 1, 0)
    seconds[0] += HOLD_S
    cache.configure(NARROW)
    assert (cache.key, cache._state.wide, cache._state.known_reasons) == (NARROW, 0, 0)


def test_what_comes_back_meanwhile_is_known_again(cache, seconds):
    cache.configure(NARROW)
    seconds[0] += HOLD_S / 2
    cache.configure(WIDE)
    assert cache._state.known_reasons == MULTIPATH
    seconds[0] += HOLD_S / 2
    cache.configure(NARROW)
    assert cache.key == WIDE
