# SPDX-License-Identifier: GPL-2.0-only
"""Phases as a table, a page, and a plot over the size of the table. Medians of the rounds."""

import statistics
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from tests.scale.measure import Phase

_HEAD = "| from | routes | | without, s | with, s | writer's CPU | daemon CPU, s | counted after, s | RSS, MB | overruns | lost |"
_COLOURS = {"arrive": "#1f618d", "resend": "#7d3c98", "withdraw": "#d35400"}
_RAW = "raw netlink"

Row = tuple[str, int, int, str]
"""feed, family, routes, phase"""


def is_good(phase: Phase) -> bool:
    return phase.counted and not phase.overruns and not (phase.daemon and phase.lost)


def table(phases: list[Phase]) -> str:
    """Markdown. Lost packets are those of a whole round, with the last of its phases."""
    lines = [_HEAD, "|---|---:|---|" + "---:|" * 8]
    for row in dict.fromkeys(map(_row, phases)):
        feed, family, routes, name = row
        without, with_ = ([p for p in phases if _row(p) == row and p.daemon is daemon] for daemon in (False, True))
        seconds = [_median(p.seconds for p in group) for group in (without, with_)]
        writer = [_median(p.writer_cpu_s for p in group) for group in (without, with_)]
        cells = [
            feed, f"{routes:,} IPv{family}", name, f"{seconds[0]:.2f}", f"{seconds[1]:.2f}",
            f"{writer[1] / writer[0] - 1:+.1%}" if writer[0] > 0.4 else "",
            f"{_median(p.cpu_s for p in with_):.2f}",
            f"{_median(p.counted_s for p in with_):.1f}" if all(p.counted for p in with_) else "WRONG",
            f"{_median(p.rss_growth for p in with_) / 1e6:+.1f}",
            str(sum(p.overruns for p in with_)),
            f"{sum(p.lost for p in with_)} of {sum(p.sent for p in with_):,}" if with_ and with_[0].sent else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(phases: list[Phase], note: str = "") -> str:
    sent, lost = (sum(getattr(p, name) for p in phases if not p.daemon) for name in ("sent", "lost"))
    return f"""# Full tables

`make scale` (`python -m tests.scale`) made this page. A router with three ports learns a table from raw netlink
messages (made beforehand, a thousand to a send), from BIRD, or from FRR (both by BGP, from a BIRD that announces static
routes), and forgets it again, with a daemon and without in turns. Medians of the rounds. `resend` gives every
route another gateway. Meanwhile 5,000 packets a second go by routes that do not change.

*Writer's CPU* is how much more CPU time the process takes that writes the kernel's table, with what the kernel does in
its name, socket filters among it; what the parts of it are is not measured here. On a machine that does other things
meanwhile it says more than the seconds. *Daemon CPU* is all that the daemon took from the first route until `status` was
right to the route, with the questions for it; *counted after*, how long after the last route that was (asked five times
a second); *RSS*, how much larger the daemon was then than before the first phase; *lost*, packets of the flow in all
phases of all rounds with a daemon (without one: {lost} of {sent:,}).

{note}

{table(phases)}

![what it costs by the size of the table](scale.svg)

How it is done:

- Python hears of no ordinary route. `bpf/route_events.h` is run by the kernel at the moment of an announcement, in the
  process that changes the table.
- `status` counts by a dump whose messages stay in the kernel as well (`bpf/census.h`), when no route has changed for half a
  second; while they never rest, twice a minute.
- Nothing that the daemon keeps grows with the table, but for routes of note (`controlplane/notes.py`), of which there are
  limits (`bpf/limits.h`).
"""


def plot(phases: list[Phase], path: Path) -> None:
    """An SVG: one column for each family, over the number of routes; raw netlink only. Raises OSError."""
    raw = [phase for phase in phases if phase.feed == _RAW]
    with matplotlib.rc_context({"svg.hashsalt": "xdprouter", "font.size": 8, "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 7), layout="constrained")
        axes = figure.subplots(3, 2, sharex=True)
        for column, family in enumerate((4, 6)):
            own = [phase for phase in raw if phase.family == family]
            _draw(axes[0][column], own, f"IPv{family}: seconds until the last route was done", "seconds", True)
            _draw(axes[1][column], own, "the daemon's CPU time", "cpu_s")
            _draw(axes[2][column], own, "how much larger the daemon is", "rss_growth")
            axes[0][column].set_yscale("log")
            axes[1][column].set_ylim(0, 1)
            axes[2][column].set_ylim(0, 5e6)
            axes[1][column].set_ylabel("s")
            axes[2][column].yaxis.set_major_formatter(lambda value, _: f"{value / 1e6:.0f} MB")
            axes[2][column].set_xscale("log")
            axes[2][column].set_xlabel("routes")
        axes[0][0].legend(frameon=False, fontsize=5, loc="upper left")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(axes, phases: list[Phase], title: str, name: str, both: bool = False) -> None:
    for phase, colour in _COLOURS.items():
        for daemon in (False, True) if both else (True,):
            group = [p for p in phases if p.phase == phase and p.daemon is daemon]
            sizes = sorted({p.routes for p in group})
            values = [_median(getattr(p, name) for p in group if p.routes == size) for size in sizes]
            label = f"{phase}, {'with' if daemon else 'without'} a daemon"
            axes.plot(sizes, values, "o-" if daemon else "x--", color=colour, linewidth=1, markersize=4, label=label)
    axes.set_title(title, loc="left")
    axes.grid(linewidth=0.3)


def _row(phase: Phase) -> Row:
    return phase.feed, phase.family, phase.routes, phase.phase


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")
