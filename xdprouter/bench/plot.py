# SPDX-License-Identifier: GPL-2.0-only
"""Results as a picture: the rate of each contender in each scenario, with its slowest and fastest round."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from xdprouter.bench.results import LINUX, PLAIN, ROUTER, STATIC, Result, Results, Scenario

_COLOURS = {STATIC: "#b0b0b0", PLAIN: "#7fb3d5", ROUTER: "#1f618d", LINUX: "#d35400"}
_OTHERS = ("#117a65", "#7d3c98", "#b7950b", "#a93226")
_INCHES_PER_SCENARIO, _MIN_INCHES, _PANEL_INCHES = 0.75, 7.0, 3.6
_BARS_WIDTH = 0.8
_MIN_PLACES = 4
"""on the axis, lest one scenario fills the picture"""


def write(results: Results, path: Path) -> None:
    """An SVG, the same for the same results. Raises OSError."""
    panels = _panels(results.results)
    widest = max(len(panel) for _, panel in panels)
    size = (max(_MIN_INCHES, 1.5 + _INCHES_PER_SCENARIO * widest), _PANEL_INCHES * len(panels) + 0.5)
    with matplotlib.rc_context({"svg.hashsalt": "xdprouter", "font.size": 8, "svg.fonttype": "none"}):
        figure = Figure(figsize=size, layout="constrained")
        for axes, (title, panel) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _draw(axes, title, panel)
        figure.supxlabel(f"{results.machine.get('cpu', '')}, {results.machine.get('kernel', '')}", fontsize=7)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panels(results: list[Result]) -> list[tuple[str, list[Result]]]:
    """For each family the tables and destinations, then what varies beside them."""
    out = []
    for family in (4, 6):
        own = [result for result in results if result.scenario.family == family]
        usual = own[0].scenario if own else None
        tables = [result for result in own if _circumstances(result.scenario) == _circumstances(usual)]
        others = [result for result in own if result not in tables]
        out += [(f"IPv{family}: {title}", panel) for title, panel in (("tables", tables), ("circumstances", others))]
    return [(title, panel) for title, panel in out if panel]


def _circumstances(scenario: Scenario) -> tuple[int, int, str]:
    return scenario.updates, scenario.cores, scenario.size


def _draw(axes, title: str, results: list[Result]) -> None:
    names = list(dict.fromkeys(name for result in results for name in result.runs))
    width = _BARS_WIDTH / len(names)
    for place, name in enumerate(names):
        colour = _COLOURS.get(name, _OTHERS[place % len(_OTHERS)])
        shift = (place - (len(names) - 1) / 2) * width
        for number, result in enumerate(results):
            label = name if number == 0 else None
            _bar(axes, number + shift, width, result, name, colour, label)
    axes.set_title(title, loc="left")
    axes.set_ylabel("Mpps")
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.5, max(len(results), _MIN_PLACES) - 0.5)
    axes.set_xticks(range(len(results)), ["\n".join(result.scenario.words[1:]) for result in results])
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _bar(axes, x: float, width: float, result: Result, name: str, colour: str, label: str | None) -> None:
    """No bar where there is no rate: the word instead."""
    rates = result.rates(name) if name in result.runs else []
    axes.bar(x, result.mpps(name) if rates else 0, width, color=colour, label=label)
    if not rates:
        axes.annotate("lost", (x, 0), rotation=90, ha="center", va="bottom", fontsize=6)
        return
    axes.vlines(x, min(rates), max(rates), color="black", linewidth=0.7)
    if (ratio := result.ratio(name, LINUX)) is not None and name != LINUX:
        axes.annotate(f"{ratio:.1f}x", (x, max(rates)), rotation=90, ha="center", va="bottom", fontsize=5)
