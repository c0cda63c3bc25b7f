# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.scale`: full tables from raw netlink, BIRD and FRR, with xdprouter and without.

Exit codes: 0 good, 1 a count was wrong, packets were lost or netlink was overrun, 2 usage.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.scale import feeds, measure, report

SMALL = (1_000, 10_000, 100_000)
LARGE = {4: 1_000_000, 6: 200_000}


def main() -> int:
    args = _arguments()
    if os.geteuid() != 0:
        print("not root: this makes network namespaces and loads BPF programs", file=sys.stderr)
        return 1
    # The default would leave the namespaces behind; SystemExit unwinds like any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    phases = measure.read(args.add_to) if args.add_to else []
    try:
        for kind in args.feeds:
            for family, largest in LARGE.items():
                # How it grows with the table is told by one feed.
                sizes = [*SMALL, largest] if kind == "raw" else [largest]
                for count in sizes if args.routes is None else [args.routes]:
                    phases += measure.measure(kind, family, count, args.rounds, lambda line: print(line, flush=True))
                    if args.json:
                        measure.write(phases, args.json)
    except KeyboardInterrupt:
        return 130
    print(report.table(phases))
    if args.report:
        args.report.write_text(report.page(phases, args.note))
        report.plot(phases, args.report.with_suffix(".svg"))
    return int(not all(report.is_good(phase) for phase in phases))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", nargs="*", choices=feeds.FEEDS, default=list(feeds.FEEDS), help="default: all")
    parser.add_argument("--routes", type=int, metavar="N", help="one table of this size for each feed and family")
    parser.add_argument("--rounds", type=int, default=3, help="each with and without a daemon; default: 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--add-to", type=Path, metavar="FILE", help="figures of an earlier run that belong to this one")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write the report there, and its plot beside it")
    parser.add_argument("--note", default="", metavar="TEXT", help="for the report: what else the machine did")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
