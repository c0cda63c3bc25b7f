# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench`: how fast packets are forwarded, beside Linux and beside the limit.

A generator program, run over live frames by BPF_PROG_TEST_RUN, makes each packet and tail-calls a
contender; a program at the far end of the egress veth counts what was forwarded rightly. The rate is
arrivals / time. All contenders take turns in one process and one namespace.

Exit codes: 0 good, 1 frames were lost or xdprouter is not fast enough, 2 usage.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from tests.bench import daemon, network, report
from tests.bench.harness import CONTENDERS, DESTINATIONS, Harness, Loss, harness

WARM_UP_PACKETS = 100_000


def main() -> int:
    args = _arguments()
    if os.geteuid() != 0:
        print("not root: the benchmark makes a network namespace and loads BPF programs", file=sys.stderr)
        return 1
    # The default would leave the namespace behind; SystemExit unwinds like any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    try:
        figures = None if args.no_daemon else daemon.figures()
        scenarios = _forwarding(args, console)
    except Loss as loss:
        print(f"no figures, frames were lost: {loss}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    report.show(console, scenarios, figures)
    if args.json:
        args.json.write_text(json.dumps(report.as_json(scenarios, figures), indent=1) + "\n")
    return 0 if all(scenario.good_enough for scenario in scenarios) else 1


def _forwarding(args: argparse.Namespace, console: Console) -> list[report.Scenario]:
    # The frames' whole way stays on the CPU of the process that makes them.
    os.sched_setaffinity(0, {args.cpu})
    scenarios = []
    with network.network("forward") as ns:
        network.build(ns)
        with harness(ns) as measuring:
            for family, sizes in ((4, args.routes), (6, args.routes6)):
                routes = network.RouteTable(ns, family)
                for size in sizes:
                    with console.status(f"IPv{family}, {size:,} routes"):
                        routes.grow(size)
                        measuring.aim(family, routes.destinations(DESTINATIONS))
                        scenarios.append(_measure(measuring, family, size, args))
    return scenarios


def _measure(measuring: Harness, family: int, routes: int, args: argparse.Namespace) -> report.Scenario:
    """Every contender `args.rounds` times, in an order that turns by one each round."""
    scenario = report.Scenario(family, routes)
    packets = {}
    for name in CONTENDERS:
        warm_up = measuring.measure(name, family, WARM_UP_PACKETS)
        packets[name] = max(int(warm_up.mpps * 1e6 * args.seconds), WARM_UP_PACKETS)
    for number in range(args.rounds):
        turn = number % len(CONTENDERS)
        for name in CONTENDERS[turn:] + CONTENDERS[:turn]:
            scenario.runs[name].append(measuring.measure(name, family, packets[name]))
    return scenario


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=_sizes, default=[1, 10_000, 100_000], metavar="N,N", help="IPv4 routes")
    parser.add_argument("--routes6", type=_sizes, default=[1, 10_000], metavar="N,N", help="IPv6 routes")
    parser.add_argument("--rounds", type=_positive, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender in each round; default: 0.5")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="default: the last one")
    parser.add_argument("--no-daemon", action="store_true", help="leave the daemon's own figures out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs there too")
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    """Growing, because a routing table is only ever added to."""
    return sorted({_positive(size) for size in text.split(",") if size})


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
