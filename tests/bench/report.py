# SPDX-License-Identifier: GPL-2.0-only
"""Results, as a table for people and as JSON."""

import dataclasses
import statistics
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.bench.daemon import Figures
from tests.bench.harness import CONTENDERS, LINUX, ROUTER, STATIC, Run

REQUIRED_OF_LINUX = 2.0


@dataclass
class Scenario:
    """One family and number of routes: what each contender did, round by round."""

    family: int
    routes: int
    runs: dict[str, list[Run]] = field(default_factory=lambda: {name: [] for name in CONTENDERS})

    def mpps(self, contender: str) -> list[float]:
        return [run.mpps for run in self.runs[contender]]

    def ratio(self, contender: str, to: str) -> float:
        """The median over the rounds, so that both sides of a ratio met the same disturbances."""
        return statistics.median(a / b for a, b in zip(self.mpps(contender), self.mpps(to), strict=True))

    @property
    def good_enough(self) -> bool:
        return self.ratio(ROUTER, LINUX) >= REQUIRED_OF_LINUX


def table(scenarios: list[Scenario]) -> Table:
    out = Table(title="Forwarding on one CPU, 64-byte UDP frames, generator and sink included")
    for heading in ("family", "routes", "contender", "x linux", "of static", "Mpps", "min-max"):
        out.add_column(heading, justify="left" if heading in ("family", "contender") else "right", no_wrap=True)
    for scenario in scenarios:
        for name in CONTENDERS:
            rates = scenario.mpps(name)
            out.add_row(
                f"IPv{scenario.family}", f"{scenario.routes:,}", name,
                f"{scenario.ratio(name, LINUX):.2f}", f"{scenario.ratio(name, STATIC):.2f}",
                f"{statistics.median(rates):.2f}", f"{min(rates):.2f}-{max(rates):.2f}",
                end_section=name == CONTENDERS[-1],
            )  # fmt: skip
    return out


def show(console: Console, scenarios: list[Scenario], daemon: Figures | None) -> None:
    console.print(table(scenarios))
    worst = max(run.loss for scenario in scenarios for runs in scenario.runs.values() for run in runs)
    console.print(f"loss: at most {worst:.3%} in any run")
    for scenario in scenarios:
        if not scenario.good_enough:
            console.print(
                f"IPv{scenario.family}, {scenario.routes:,} routes: xdprouter is only {scenario.ratio(ROUTER, LINUX):.2f} "
                f"times as fast as Linux; required are {REQUIRED_OF_LINUX}"
            )
    if daemon:
        console.print(f"daemon: 4 ports active {daemon.start_s:.2f} s after exec, RSS {daemon.rss_bytes / 1e6:.0f} MB")
        console.print(f"xdprouter status: {1000 * daemon.status_s:.0f} ms, the whole process")


def as_json(scenarios: list[Scenario], daemon: Figures | None) -> dict:
    return {
        "required_of_linux": REQUIRED_OF_LINUX,
        "scenarios": [
            {
                "family": scenario.family,
                "routes": scenario.routes,
                "contenders": {
                    name: {
                        "of_linux": scenario.ratio(name, LINUX),
                        "of_static": scenario.ratio(name, STATIC),
                        "mpps": statistics.median(scenario.mpps(name)),
                        "rounds": [dataclasses.asdict(run) for run in scenario.runs[name]],
                    }
                    for name in CONTENDERS
                },
            }
            for scenario in scenarios
        ],
        "daemon": dataclasses.asdict(daemon) if daemon else None,
    }
