# SPDX-License-Identifier: GPL-2.0-only
"""Carries scenarios out, round by round, and notes by how much the old way outlives a change."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.errors import LabTimeout
from tests.coherence.changes import Changes
from tests.coherence.router import Router
from tests.coherence.scenarios import Scenario, Step
from tests.coherence.traffic import Traffic, until

HOT_FRAMES = 2_000
"""Frames that must have gone the way of now, and hits, before it is changed"""
WATCHED_S, WATCHED_LONG_S = 0.003, 0.025
"""How long a change is watched; the second where the old way has some time left"""
HOPELESS_S = 0.1
HOT_TIMEOUT_S, NEW_WAY_TIMEOUT_S = 10.0, 2.0
CLOCK_S = 0.000_05
"""The frames are stamped with ktime_get_mono_fast_ns(), which may differ from CLOCK_MONOTONIC by a little."""


@dataclass
class Outcome:
    """Of one kind of change, one family."""

    name: str
    family: int
    bound_s: float
    late_s: list[float] = field(default_factory=list)
    """of each round: when the youngest frame that went the old way was made, after the change had returned; less
    than 0: before that"""
    arrived_s: list[float] = field(default_factory=list)
    """when the last frame of the old way arrived"""

    def add(self, late_s: float, arrived_s: float) -> None:
        self.late_s.append(late_s)
        self.arrived_s.append(arrived_s)

    @property
    def worst_s(self) -> float:
        return max(self.late_s)

    @property
    def median_s(self) -> float:
        return statistics.median(self.late_s)

    @property
    def late_rounds(self) -> int:
        """Rounds in which a frame went the old way that was made after the change had returned."""
        return sum(late > CLOCK_S for late in self.late_s)

    @property
    def is_good(self) -> bool:
        return self.worst_s <= self.bound_s + CLOCK_S


def play(router: Router, traffic: Traffic, scenario: Scenario, family: int, rounds: int, cached: bool) -> list[Outcome]:
    """`rounds` of each kind of change; `cached`: frames are recalled before each. The router must be without routes
    to the traffic's destinations."""
    outcomes: dict[str, Outcome] = {}
    changes = Changes(router, family)
    with scenario.steps(router, changes, family) as steps, on_the_other_core(router), traffic.flowing(family):
        number = 0
        while not outcomes or any(len(outcome.late_s) < rounds for outcome in outcomes.values()):
            step = steps[number % len(steps)]
            number += 1
            wait_until_hot(traffic, step.old, cached)
            if not step.name:
                step.change()
                continue
            found = outcomes.setdefault(step.name, Outcome(step.name, family, step.bound_s))
            found.add(*_change(traffic, step))
            step.afterwards()
            if found.worst_s > found.bound_s + HOPELESS_S:
                break  # the others would wait for the new way as long
    return list(outcomes.values())


def wait_until_hot(traffic: Traffic, way: int, cached: bool) -> None:
    """Frames go that way, recalled from the cache if it is on."""
    frames, hits = traffic.way(way).frames, traffic.hits()

    def hot() -> bool:
        recalled = not cached or traffic.hits() >= hits + HOT_FRAMES
        return recalled and traffic.way(way).frames >= frames + HOT_FRAMES

    made = traffic.made()
    try:
        until(hot, HOT_TIMEOUT_S, f"way {way} to be hot")
    except LabTimeout as error:
        seen = (traffic.way(way).frames - frames, traffic.hits() - hits, traffic.made() - made)
        raise LabTimeout(
            f"{error}: {{}} frames came by it, {{}} were recalled, {{}} were made".format(*seen)
        ) from error


def _change(traffic: Traffic, step: Step) -> tuple[float, float]:
    """(late_s, arrived_s) of one round."""
    step.change()
    returned = time.monotonic_ns()
    watch = returned + round(1e9 * (WATCHED_LONG_S if step.bound_s else WATCHED_S))
    try:
        until(lambda: traffic.way(step.new).made_ns > watch, NEW_WAY_TIMEOUT_S, "the new way")
    except LabTimeout:
        pass  # the old way says why
    seen = [traffic.way(step.old), *([traffic.refused(step.refused_at)] if step.refused_at else [])]
    old = max(seen, key=lambda way: way.made_ns)
    return (old.made_ns - returned) / 1e9, (old.arrived_ns - returned) / 1e9


@contextmanager
def on_the_other_core(router: Router) -> Iterator[None]:
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {router.cpus[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, home)
