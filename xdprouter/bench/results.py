# SPDX-License-Identifier: GPL-2.0-only
"""What was measured, and what follows from it. Pure; `to_json` and `from_json` are each other's inverse."""

import dataclasses
import statistics
from dataclasses import dataclass, field

from xdprouter.errors import UsageError

SCHEMA = 1
MAX_LOSS = 0.001
STATIC, PLAIN, ROUTER, VLAN, LINUX = "static", "plain", "xdprouter", "vlan", "linux"
REFERENCES = (STATIC, PLAIN, LINUX)
"""the contenders that ratios are to"""


def short(number: int) -> str:
    """1M, 200k, 1.5k, 17."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit and number % (unit // 10) == 0:
            return f"{number / unit:g}{letter}"
    return str(number)


@dataclass(frozen=True)
class Scenario:
    """Under what circumstances the contenders ran."""

    family: int
    routes: int
    destinations: str
    updates: int = 0
    """route updates a second that were asked for"""
    cores: int = 1
    size: str = "64"
    """bytes of each frame without FCS, or `imix`"""
    next_hops: int = 1

    @property
    def words(self) -> list[str]:
        """In short: family, routes, destinations, then what is not as usual."""
        out = [f"IPv{self.family}", short(self.routes), self.destinations]
        if self.size != "64":
            out.append(f"{self.size} B" if self.size.isdigit() else self.size)
        if self.next_hops > 1:
            out.append(f"{self.next_hops} hops")
        if self.cores > 1:
            out.append(f"{self.cores} cores")
        if self.updates:
            out.append(f"{short(self.updates)} upd/s")
        return out


@dataclass(frozen=True)
class Run:
    """One contender, once."""

    sent: int
    arrived: int
    seconds: float
    updates_per_s: float = 0.0
    """route updates a second that there were"""

    @property
    def mpps(self) -> float:
        return self.arrived / self.seconds / 1e6

    @property
    def loss(self) -> float:
        return (self.sent - self.arrived) / self.sent


@dataclass
class Result:
    """What each contender did in one scenario, round by round. With more than MAX_LOSS in any round of a
    contender there is no rate of it, nor a ratio: None."""

    scenario: Scenario
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def loss(self, contender: str) -> float:
        """Of the worst round."""
        return max(run.loss for run in self.runs[contender])

    def lossy(self, contender: str) -> bool:
        return self.loss(contender) > MAX_LOSS

    def rates(self, contender: str) -> list[float]:
        """Mpps of each round; none if frames were lost."""
        return [] if self.lossy(contender) else [run.mpps for run in self.runs[contender]]

    def mpps(self, contender: str) -> float | None:
        """The median."""
        return statistics.median(rates) if (rates := self.rates(contender)) else None

    def ratio(self, contender: str, to: str) -> float | None:
        """The median over the rounds, so that both sides of a ratio met the same disturbances."""
        if to not in self.runs or self.lossy(contender) or self.lossy(to):
            return None
        return statistics.median(a / b for a, b in zip(self.rates(contender), self.rates(to), strict=True))

    @property
    def updates_per_s(self) -> float:
        return statistics.median(run.updates_per_s for runs in self.runs.values() for run in runs)


@dataclass
class Results:
    """A whole benchmark."""

    machine: dict[str, str]
    method: dict[str, int | float | str]
    results: list[Result] = field(default_factory=list)
    seeds: Result | None = None
    """the measures of the field (drop, mirror, redirect, pass) in place of contenders"""

    @property
    def worst_loss(self) -> float:
        """Of any contender in any round."""
        every = [*self.results, *([self.seeds] if self.seeds else [])]
        return max(result.loss(contender) for result in every for contender in result.runs)

    @property
    def any_loss(self) -> bool:
        """Whether that is too much."""
        return self.worst_loss > MAX_LOSS


def to_json(results: Results) -> dict:
    """Everything, raw rounds and what follows from them; enough for the table and the plot."""
    return {
        "schema": SCHEMA,
        "machine": results.machine,
        "method": results.method,
        "scenarios": [_result(result, REFERENCES) for result in results.results],
        "seeds": _result(results.seeds, ()) if results.seeds else None,
    }


def _result(result: Result, references: tuple[str, ...]) -> dict:
    out: dict = dataclasses.asdict(result.scenario)
    out["updates_per_s"] = result.updates_per_s
    out["contenders"] = {}
    if VLAN in result.runs:
        references = (*references, ROUTER)
    for name, runs in result.runs.items():
        rates = result.rates(name)
        out["contenders"][name] = {
            **{f"of_{to}": result.ratio(name, to) for to in references},
            "mpps": result.mpps(name),
            "mpps_min": min(rates, default=None),
            "mpps_max": max(rates, default=None),
            "loss": result.loss(name),
            "rounds": [dataclasses.asdict(run) for run in runs],
        }
    return out


def from_json(table: dict) -> Results:
    """Raises UsageError for anything but what `to_json` made."""
    try:
        if table["schema"] != SCHEMA:
            raise UsageError(f"these results have schema {table['schema']}; this version reads {SCHEMA}")
        out = Results(dict(table["machine"]), dict(table["method"]))
        out.results = [_read(entry) for entry in table["scenarios"]]
        out.seeds = _read(table["seeds"]) if table["seeds"] else None
        if not out.results:
            raise ValueError("no scenarios")
        to_json(out)  # fails where a number is none
        return out
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"these are not results of `xdprouter bench`: {error!r}") from error


def _read(entry: dict) -> Result:
    scenario = Scenario(**{f.name: entry[f.name] for f in dataclasses.fields(Scenario)})
    runs = {name: [Run(**run) for run in values["rounds"]] for name, values in entry["contenders"].items()}
    if not runs or not all(runs.values()):
        raise ValueError("a scenario without rounds")
    return Result(scenario, runs)
