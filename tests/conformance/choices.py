# SPDX-License-Identifier: GPL-2.0-only
"""A sequence of choices that a packet is built from: random, replayed, or hypothesis's.

Whoever builds asks for numbers. The simplest answer to every question is 0, so that a sequence of smaller numbers,
or a shorter one, means a simpler packet: that is what shrinking works with.
"""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_RAMP = bytes(range(256)) * 2


class Choices:
    """`taken` is what was answered so far."""

    def __init__(self, below: Callable[[int], int]):
        self._below = below
        self.taken: list[int] = []

    @classmethod
    def at_random(cls, source: random.Random) -> "Choices":
        return cls(lambda number: int(source.random() * number))

    @classmethod
    def replayed(cls, sequence: Sequence[int]) -> "Choices":
        """Zeroes once the sequence is used up."""
        left = iter(sequence)
        return cls(lambda number: min(next(left, 0), number - 1))

    def below(self, number: int) -> int:
        """0 to number - 1"""
        answer = self._below(number)
        self.taken.append(answer)
        return answer

    def pick(self, options: Sequence[T]) -> T:
        """The first option is the simplest."""
        return options[self.below(len(options))]

    def chance(self, one_in: int) -> bool:
        """True once in so many times; False is the simpler."""
        return self.below(one_in) == one_in - 1

    def octets(self, number: int) -> bytes:
        """Meaningless ones, but not all alike: one choice for all of them."""
        start = self.below(256)
        return _RAMP[start : start + number] if number <= 256 else _RAMP[start : start + 256] + bytes(number - 256)
