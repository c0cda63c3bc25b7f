# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.conformance`: compare xdprouter with the plain kernel, packet by packet.

Exit codes: 0 no difference, 1 there are some, 2 usage.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests import features
from tests.conformance import report
from tests.conformance.configurations import CONFIGURATIONS
from tests.conformance.run import Result, compare_all


def main() -> int:
    args = _arguments()
    if os.geteuid() != 0:
        print("not root: the comparison makes network namespaces and loads BPF programs", file=sys.stderr)
        return 1
    # The default would leave the namespaces behind; SystemExit unwinds like any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [one for one in CONFIGURATIONS if not args.only or any(word in one.name for word in args.only)]
    chosen = [one for one in chosen if all(map(features.has, one.needs))]
    print(f"seed {args.seed}, {args.packets:,} generated packets, {len(chosen)} configurations", flush=True)
    started = time.monotonic()

    def say(result: Result) -> None:
        print(
            f"{time.monotonic() - started:6.1f} s  {result.configuration.name}: {result.packets} packets, {result.fast} fast, "
            f"{result.hits} of them recalled, "
            f"{len(result.differences)} differences, {result.not_shrunk} more, {sum(result.known.values())} known, "
            f"{result.unsteady} unsteady batches",
            flush=True,
        )
        for difference in result.differences[: args.show]:
            print(difference)

    try:
        results = compare_all(chosen, args.packets, args.seed, say)
    except KeyboardInterrupt:
        return 130
    if args.report:
        command = f"python -m tests.conformance --packets {args.packets} --seed {args.seed}"
        args.report.write_text(report.page(results, command, args.seed))
    return int(not all(result.is_good for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=int, default=100_000, help="generated ones, over all configurations")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", action="append", metavar="WORD", help="configurations with this in their name")
    parser.add_argument("--show", type=int, default=5, help="differences of each configuration to print; default: 5")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
