# SPDX-License-Identifier: GPL-2.0-only
"""What the program can be compiled with: each choice makes another program, which the kernel must take as well."""

import itertools

CHOICES: dict[str, tuple[int, ...]] = {
    "cache_sets": (0, 1024),
}
"""Keyword of Dataplane -> values of which each stands for one way to compile it"""


def variants() -> list[dict[str, int]]:
    """Every combination, as keyword arguments of Dataplane."""
    return [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
