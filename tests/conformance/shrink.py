# SPDX-License-Identifier: GPL-2.0-only
"""Makes the choices behind a packet smaller for as long as both routers still differ over it."""

from collections.abc import Callable, Sequence

MAX_TRIES = 600


def shrink(taken: Sequence[int], differs: Callable[[list[int]], bool]) -> list[int]:
    """A sequence for which `differs` holds, as `taken` does, with as many choices at 0 as could be brought there."""
    best, tries, improved = list(taken), 0, True

    def better(candidate: list[int]) -> bool:
        nonlocal best, tries, improved
        if candidate == best or tries >= MAX_TRIES:
            return False
        tries += 1
        if not differs(candidate):
            return False
        best = improved = candidate
        return True

    while improved and tries < MAX_TRIES:
        improved = False
        for size in (16, 8, 4, 2, 1):
            for start in range(0, len(best), size):
                better(best[:start] + [0] * len(best[start : start + size]) + best[start + size :])
        for place in range(len(best)):
            _lower(best, place, lambda value, place=place: better([*best[:place], value, *best[place + 1 :]]))
    return best


def _lower(best: list[int], place: int, accepts: Callable[[int], bool]) -> None:
    """The smallest value there, by halving."""
    low, high = 0, best[place]
    while low < high:
        middle = (low + high) // 2
        if accepts(middle):
            high = middle
        else:
            low = middle + 1
