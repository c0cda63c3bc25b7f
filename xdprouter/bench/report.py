# SPDX-License-Identifier: GPL-2.0-only
"""Results for people: a table on standard output, ratios first."""

import sys

from rich.console import Console
from rich.table import Table

from xdprouter.bench.results import LINUX, MAX_LOSS, PLAIN, STATIC, Result, Results

_PIPE_WIDTH = 160


def show(results: Results) -> None:
    # Piped output has no width of its own; names of programs come from outside: nothing in them is markup.
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)
    if results.results:
        console.print(table(results))
    if results.seeds:
        console.print(seeds_table(results.seeds))
    console.print(_machine(results))
    console.print(_method(results))
    if results.any_loss:
        console.print(f"frames were lost: no rate where more than {MAX_LOSS:.1%} did not arrive as they should")


def table(results: Results) -> Table:
    """One line for each contender; what all scenarios have in common is left out."""
    out = Table(title="forwarding, median of the rounds", title_justify="left")
    scenarios = [result.scenario for result in results.results]
    columns = {
        "family": lambda s: f"IPv{s.family}",
        "routes": lambda s: f"{s.routes:,}",
        "destinations": lambda s: s.destinations,
        "cores": lambda s: str(s.cores),
        "size": lambda s: s.size,
        "next hops": lambda s: str(s.next_hops),
    }
    shown = {
        heading: text
        for heading, text in columns.items()
        if heading in ("family", "routes", "destinations") or any(text(s) not in ("1", "64") for s in scenarios)
    }
    for heading in shown:
        out.add_column(heading, no_wrap=True)
    with_updates = any(scenario.updates for scenario in scenarios)
    if with_updates:
        out.add_column("updates/s", justify="right", no_wrap=True)
    out.add_column("contender", no_wrap=True)
    for heading in ("of static", "x plain", "x linux", "Mpps", "min-max"):
        out.add_column(heading, justify="right", no_wrap=True)
    for result in results.results:
        names = list(result.runs)
        circumstances = [text(result.scenario) for text in shown.values()]
        if with_updates:
            circumstances.append(_updates(result))
        for name in names:
            ratios = [_number(result.ratio(name, to)) for to in (STATIC, PLAIN, LINUX)]
            out.add_row(*circumstances, name, *ratios, *_rates(result, name), end_section=name == names[-1])
    return out


def seeds_table(seeds: Result) -> Table:
    out = Table(title="by themselves, one core, 64-byte frames", title_justify="left")
    out.add_column("verdict")
    out.add_column("Mpps", justify="right")
    out.add_column("min-max", justify="right")
    for name in seeds.runs:
        out.add_row(name, *_rates(seeds, name))
    return out


def _rates(result: Result, name: str) -> tuple[str, str]:
    if result.lossy(name):
        return f"{result.loss(name):.1%} lost", ""
    rates = result.rates(name)
    return _number(result.mpps(name)), f"{min(rates):.2f}-{max(rates):.2f}"


def _updates(result: Result) -> str:
    """Those there were; those asked for beside them if that is another number."""
    asked, had = result.scenario.updates, result.updates_per_s
    return f"{had:,.0f}" if abs(had - asked) <= 0.05 * asked else f"{had:,.0f} of {asked:,}"


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
