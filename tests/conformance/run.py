# SPDX-License-Identifier: GPL-2.0-only
"""Carries out a comparison: the named cases and generated packets, under one configuration after another."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import known
from tests.conformance.choices import Choices
from tests.conformance.configurations import Configuration
from tests.conformance.corpus import CASES, Case
from tests.conformance.outcome import Outcome, in_words
from tests.conformance.pair import KERNEL, OURS, ROOT, Pair
from tests.conformance.shrink import shrink
from tests.conformance.strategy import build

BATCH = 64
TIMES = 2
"""that a generated packet is sent: the second time its way out is recalled"""
MAX_SHRUNK = 20
"""Differences of generated packets that are made small, for each configuration; further ones are only counted."""


@dataclass(frozen=True)
class Difference:
    """One packet, after which the two routers did not do the same."""

    configuration: str
    name: str
    ingress: str
    frame: bytes
    kernel: str
    ours: str
    verdict: str = ""

    def __str__(self) -> str:
        return (
            f"{self.configuration}: {self.name}\n  kernel: {self.kernel}\n  ours:   {self.ours} ({self.verdict})\n"
            f"  in at {self.ingress}: {self.frame.hex()}"
        )


@dataclass
class Result:
    """What one configuration has shown."""

    configuration: Configuration
    packets: int = 0
    verdicts: Counter = field(default_factory=Counter)
    rows: dict[str, "RowResult"] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    known: Counter = field(default_factory=Counter)
    """reason -> packets that differed for it"""
    shrunk: int = 0
    not_shrunk: int = 0
    """generated packets that differed after MAX_SHRUNK others"""
    hits: int = 0
    """packets whose way was recalled, not looked up"""
    unsteady: int = 0
    """batches that differed once, and not when they were sent again"""

    @property
    def is_good(self) -> bool:
        return not self.differences and not self.not_shrunk and (self.fast > 0 or not self.configuration.fast)

    @property
    def fast(self) -> int:
        return self.verdicts["forward"] + self.verdicts["drop_blackhole"]


@dataclass
class RowResult:
    cases: int = 0
    kernel: Counter = field(default_factory=Counter)
    """in words -> cases"""
    verdicts: Counter = field(default_factory=Counter)
    different: int = 0
    known: int = 0


def compare(one: Configuration, packets: int, seed: int, cases: Iterable[Case] = CASES, root: Path = ROOT) -> Result:
    """Send the cases and `packets` generated packets under one configuration."""
    with Pair(one, root) as pair:
        result = Result(one)
        named = [one_case for one_case in cases if not one.rows or one_case.row in one.rows]
        if one.links.is_plain:
            _named(pair, result, named)
        else:
            _named_together(pair, result, named)
        _generated(pair, result, 0 if one.rows else packets, seed)
        for port, frame in sorted(pair.asked[KERNEL] - pair.asked[OURS]):
            result.differences.append(
                Difference(one.name, f"nobody is asked at {port}", port, frame, "asks", "nothing")
            )
        result.verdicts = pair.counters()
        result.hits = pair.status()["cache"]["hits"]
        return result


def _named(pair: Pair, result: Result, cases: list[Case]) -> None:
    by_row: dict[str, list[Case]] = {}
    for one in cases:
        by_row.setdefault(one.row, []).append(one)
    for name, group in by_row.items():
        row = result.rows[name] = RowResult()
        before = pair.counters()
        for one in group:
            kernel, ours = pair.exchange([(one.ingress, one.frame)], one.limited)
            row.cases += 1
            row.kernel[in_words(kernel, pair.own)] += 1
            result.packets += 1
            if kernel == ours:
                continue
            if reason := known.reason(pair.configuration, one.frame):
                row.known += 1
                result.known[reason] += 1
            else:
                row.different += 1
                result.differences.append(_difference(pair, one.name, one.ingress, one.frame, kernel, ours))
        row.verdicts = pair.counters() - before


def _named_together(pair: Pair, result: Result, cases: list[Case]) -> None:
    """Many at once, and alone only those of a batch that differs: where a machine is emulated, each takes its time."""
    plain = [one for one in cases if not one.limited]
    for start in range(0, len(plain), BATCH):
        batch = plain[start : start + BATCH]
        result.packets += len(batch)
        kernel, ours = pair.exchange((one.ingress, one.frame) for one in batch)
        if kernel == ours:
            continue
        before = len(result.differences)
        _named(pair, result, batch)
        result.packets -= len(batch)
        result.unsteady += len(result.differences) == before


def _generated(pair: Pair, result: Result, packets: int, seed: int) -> None:
    source = random.Random(f"{seed} {pair.configuration.name}")
    for start in range(0, packets, BATCH):
        batch = []
        for _ in range(min(BATCH, packets - start)):
            choices = Choices.at_random(source)
            batch.append((choices, build(choices)))
        for _ in range(TIMES):
            result.packets += len(batch)
            kernel, ours = pair.exchange(packet for _, packet in batch)
            if kernel != ours:
                _find(pair, result, batch, f"generated, seed {seed}")
                break


def _find(pair: Pair, result: Result, batch: list, name: str) -> None:
    """Every packet of a batch once more, alone; those that differ, and are not known to, are made small."""
    found = False
    for choices, (port, frame) in batch:
        kernel, ours = pair.exchange([(port, frame)])
        if kernel == ours:
            continue
        found = True
        reason = known.reason(pair.configuration, frame)
        if reason or result.shrunk >= MAX_SHRUNK:
            result.not_shrunk += not reason
            result.known[reason] += bool(reason)
            continue
        result.shrunk += 1
        small = shrink(choices.taken, lambda taken: _differs(pair, taken))
        port, frame = build(Choices.replayed(small))
        kernel, ours = pair.exchange([(port, frame)])
        result.differences.append(_difference(pair, name, port, frame, kernel, ours))
    result.unsteady += not found


def _differs(pair: Pair, taken: list[int]) -> bool:
    """And not in a known way: shrinking must not slip into one."""
    port, frame = build(Choices.replayed(taken))
    kernel, ours = pair.exchange([(port, frame)])
    return kernel != ours and not known.reason(pair.configuration, frame)


def _difference(pair: Pair, name: str, port: str, frame: bytes, kernel: Outcome, ours: Outcome) -> Difference:
    before = pair.counters()
    pair.exchange([(port, frame)])
    # The verdict of the questions in wire.py is left out.
    verdict = ", ".join(sorted({*(pair.counters() - before)} - {"pass_not_ip"})) or "pass_not_ip"
    return Difference(
        pair.configuration.name, name, port, frame, _words(kernel, ours, pair), _words(ours, kernel, pair), verdict
    )


def _words(result: Outcome, other: Outcome, pair: Pair) -> str:
    """With the bytes of frames that only this router put out."""
    only = [f"{port} {frame.hex()}" for port, frame in result - other]
    return in_words(result, pair.own) + "".join(f"\n          {one[:400]}" for one in only)


def compare_all(
    configurations: list[Configuration], packets: int, seed: int, say: Callable[[Result], None], root: Path = ROOT
) -> list[Result]:
    """`packets` generated packets in all, shared out evenly; `say` is told of each result."""
    results = []
    for one in configurations:
        results.append(
            compare(one, -(-packets // max(1, sum(not one.rows for one in configurations))), seed, root=root)
        )
        say(results[-1])
    return results
