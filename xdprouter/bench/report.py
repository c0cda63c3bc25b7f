# SPDX-License-Identifier: GPL-2.0-only
"""Results for people: a table on standard output, ratios first."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from xdprouter.bench.results import LINUX, MAX_LOSS, PLAIN, ROUTER, STATIC, VLAN, Result, Results

_PIPE_WIDTH, _MIN_WIDTH = 160, 100


def show(results: Results) -> None:
    # Piped output has no width of its own, and on a narrow terminal figures are better broken than cut. Names of
    # programs come from outside: nothing in them is markup.
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = max(console.width, _MIN_WIDTH) if sys.stdout.isatty() else _PIPE_WIDTH
    if results.results:
        console.print(table(results))
    if results.seeds:
        console.print(seeds_table(results.seeds))
    console.print(_machine(results))
    console.print(_method(results))
    if results.any_loss:
        console.print(f"frames were lost: no rate where more than {MAX_LOSS:.1%} did not arrive as they should")


def table(results: Results) -> Table:
    """One line for each contender in each scenario."""
    out = _table("forwarding, median of the rounds", "scenario", "contender")
    beside = {"of static": STATIC, "x plain": PLAIN, "x linux": LINUX}
    if any(VLAN in result.runs for result in results.results):
        beside["of untagged"] = ROUTER
    for heading in (*beside, "Mpps", "min-max"):
        out.add_column(heading, justify="right", no_wrap=True)
    for result in results.results:
        names = list(result.runs)
        scenario = " ".join(result.scenario.words) + _updates(result)
        for name in names:
            ratios = [_number(result.ratio(name, to)) for to in beside.values()]
            out.add_row(scenario, name, *ratios, *_rates(result, name), end_section=name == names[-1])
    return out


def seeds_table(seeds: Result) -> Table:
    out = _table("verdicts by themselves", "verdict")
    out.add_column("Mpps", justify="right", no_wrap=True)
    out.add_column("min-max", justify="right", no_wrap=True)
    for name in seeds.runs:
        out.add_row(name, *_rates(seeds, name))
    return out


def _table(title: str, *headings: str) -> Table:
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        out.add_column(heading, no_wrap=True)
    return out


def _rates(result: Result, name: str) -> tuple[str, str]:
    if result.lossy(name):
        return f"{result.loss(name):.1%} lost", ""
    rates = result.rates(name)
    return _number(result.mpps(name)), f"{min(rates):.2f}-{max(rates):.2f}"


def _updates(result: Result) -> str:
    """How many there were, if that is another number than was asked for."""
    asked, had = result.scenario.updates, result.updates_per_s
    return "" if abs(had - asked) <= 0.05 * asked else f" (were {had:,.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine.get('cpu', '?')}, {machine.get('cpus', '?')} CPUs, {machine.get('kernel', '?')}; BCC {machine.get('bcc', '?')}, "
        f"LLVM {machine.get('clang', '?')}, xdprouter {machine.get('xdprouter', '?')}; load before {machine.get('load_before', '?')}"
    )


def _method(results: Results) -> str:
    method = results.method
    each = f"{method['packets']:,} packets" if method.get("packets") else f"{method.get('seconds')} s"
    return (
        f"{method.get('rounds')} rounds of {each}, contenders in turn; a ratio is the median of the rounds' own; "
        f"loss at most {max(results.worst_loss, 0):.3%} of any round; {method.get('traffic')}"
    )
