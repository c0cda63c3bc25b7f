# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.coherence`: by how much the old way outlives a change, at full rate on one core.

Exit codes: 0 never longer than promised, 1 longer, 2 usage.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.coherence import stopped
from tests.coherence.report import Table, page
from tests.coherence.rounds import Outcome, play
from tests.coherence.router import router
from tests.coherence.scenarios import SCENARIOS
from tests.coherence.silent import NOTICED_S, hash_policy
from tests.coherence.traffic import traffic

SLOW_SHARE = 50
"""Rounds that take a second each, a daemon's start or a look of it: so many times fewer"""


def main() -> int:
    args = _arguments()
    if os.geteuid() != 0:
        print("not root: the test makes network namespaces and loads BPF programs", file=sys.stderr)
        return 1
    # The default would leave the namespaces behind; SystemExit unwinds like any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    slow = max(1, args.rounds // SLOW_SHARE)
    parts = [
        ("with the cache", _with_a_daemon(True, args.rounds, slow)),
        ("without the cache", _with_a_daemon(False, args.control_rounds, 1)),
        *(
            (f"without a daemon: {number.name}", _without_a_daemon(number, args.rounds, slow))
            for number in (signal.SIGSTOP, signal.SIGKILL)
        ),
    ]
    tables = []
    for title, outcomes in parts:
        tables.append(_told(title, outcomes))
        if args.report:  # each time, so that a long run that is broken off leaves what it has found
            args.report.write_text(page(tables, f"python -m tests.coherence --rounds {args.rounds}"))
    return int(not all(outcome.is_good for table in tables for outcome in table.outcomes))


def _with_a_daemon(cached: bool, rounds: int, slow: int) -> Iterable[Outcome]:
    with router(cached) as tested, traffic(tested) as flow:
        for family in (4, 6):
            for scenario in SCENARIOS:
                yield from play(tested, flow, scenario, family, rounds, cached)
            yield hash_policy(tested, flow, family, slow, cached, NOTICED_S)


def _without_a_daemon(number: signal.Signals, rounds: int, slow: int) -> Iterable[Outcome]:
    with router(cached=True) as tested, traffic(tested) as flow:
        for family in (4, 6):
            yield stopped.at_the_moment(tested, flow, number, family, slow)
        yield from stopped.after_the_lease(tested, flow, number, rounds)


def _told(title: str, outcomes: Iterable[Outcome]) -> Table:
    """The outcomes, each printed when it is there."""
    table = Table(title, [])
    started = time.monotonic()
    print(title)
    for outcome in outcomes:
        table.outcomes.append(outcome)
        print(
            f"{time.monotonic() - started:6.1f} s  IPv{outcome.family} {outcome.name}: {len(outcome.late_s)} rounds, worst "
            f"{1e3 * outcome.worst_s:.3f} ms, median {1e3 * outcome.median_s:.3f} ms, late in {outcome.late_rounds}"
            f"{'' if outcome.is_good else ': TOO LATE'}",
            flush=True,
        )
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.coherence", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000, help="of each change; default: 1000")
    parser.add_argument("--control-rounds", type=int, default=200, help="without the cache; default: 200")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page of Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
