# SPDX-License-Identifier: GPL-2.0-only
"""The command line of `xdprouter bench`. What is large is imported when something is measured."""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

from xdprouter.bench.destinations import DISTRIBUTIONS, MIX_LARGE, MIX_SMALL
from xdprouter.bench.plan import QUICK, Plan
from xdprouter.bench.results import Results, from_json, to_json
from xdprouter.errors import UsageError, XdprouterError

MAX_ROUTES = {4: 2_000_000, 6: 1_000_000}
MAX_NEXT_HOPS = 200
MAX_CACHE_ENTRIES = 1 << 24
MAX_UPDATES = 1_000_000
MAX_ROUNDS = 1_000
MAX_PROGRAMS = 8
"""beside this product's own they fit the generator's prog array"""
MIN_PACKETS, MAX_PACKETS = 1_000, 1_000_000_000
"""of fewer, no rate could be told"""


def add_parser(commands) -> None:
    """Add `bench` to a command line."""
    parser = commands.add_parser(
        "bench",
        help="how fast this machine forwards, beside Linux and beside the limit",
        description="Measures forwarding in network namespaces of its own, beside Linux and beside the limit. Needs root "
        "and nothing else; touches no port of the machine. Exit code 1 if frames were lost.",
    )
    parser.set_defaults(command=main)
    parser.add_argument(
        "--quick", action="store_true", help="few scenarios, within a minute; other options change what it does"
    )
    what = parser.add_argument_group("what is measured (lists with commas; the first value is the usual one)")
    what.add_argument("--routes", metavar="N,N", help=f"IPv4 routes; default: {_list(Plan.routes)}; 0: none")
    what.add_argument("--routes6", metavar="N,N", help=f"IPv6 routes; default: {_list(Plan.routes6)}; 0: none")
    what.add_argument("--next-hops", metavar="N", help="neighbours that the routes are spread over; default: 1")
    what.add_argument("--cache-entries", metavar="N", help="of xdprouter's destination cache; default: 262144")
    what.add_argument("--destinations", metavar="D,D", help=f"default: {_list(Plan.destinations)}")
    what.add_argument("--updates", metavar="N,N", help=f"route updates a second; default: {_list(Plan.updates)}")
    what.add_argument("--cores", metavar="N,N", help=f"default: {_list(Plan.cores)}, as far as there are so many")
    what.add_argument("--sizes", metavar="S,S", help=f"frames in bytes, or imix; default: {_list(Plan.sizes)}")
    what.add_argument(
        "--vlan", action="store_true", help="also xdprouter with one VLAN's tag in and another's out, beside untagged"
    )
    what.add_argument(
        "--seeds", action="store_true", help="also drop, mirror (XDP_TX), redirect and pass by themselves"
    )
    what.add_argument("--program", action="append", default=[], metavar="ID", help="also this XDP program; repeatable")
    how = parser.add_argument_group("how thoroughly")
    how.add_argument("--rounds", metavar="N", help=f"default: {Plan.rounds}")
    how.add_argument("--seconds", metavar="S", help=f"of each contender in each round; default: {Plan.seconds}")
    how.add_argument("--packets", metavar="N", help="of each contender in each round, instead of --seconds")
    out = parser.add_argument_group("results")
    out.add_argument("--json", type=Path, metavar="FILE", help="all of it, every round")
    out.add_argument("--svg", type=Path, metavar="FILE", help="a plot; needs matplotlib")
    out.add_argument("--from", type=Path, metavar="FILE", dest="source", help="measure nothing, show what --json kept")


def main(args: argparse.Namespace) -> int:
    """Measure, or read, and show. Raises UsageError and XdprouterError before anything is touched."""
    plan = _plan(args)
    if args.svg:
        _needs_matplotlib()
    if args.source:
        results = _read(args.source)
    else:
        if os.geteuid() != 0:
            raise XdprouterError("not root: the benchmark makes a network namespace and loads BPF programs")
        for path in filter(None, (args.json, args.svg)):
            _check_writable(path)
        results = _measure(plan)
    _write(results, args)  # first: the reader of the table may go away
    from xdprouter.bench import report

    report.show(results)
    return 1 if results.any_loss else 0


def _measure(plan: Plan) -> Results:
    try:
        from xdprouter.bench import session
    except ImportError as error:
        raise XdprouterError(
            f"a Python package is missing: {error}; install xdprouter with its dependencies"
        ) from error
    return session.measure(plan)


def _plan(args: argparse.Namespace) -> Plan:
    """What --quick or nothing says, the options over it. Raises UsageError."""
    cpus = len(os.sched_getaffinity(0))
    plan = QUICK if args.quick else Plan()
    plan = dataclasses.replace(plan, cores=tuple(n for n in plan.cores if n <= cpus))
    programs = tuple(dict.fromkeys(_whole("--program", number, 1) for number in args.program))
    if len(programs) > MAX_PROGRAMS:
        raise UsageError(f"{len(programs)} times --program: at most {MAX_PROGRAMS} are possible")
    given: dict[str, object] = {"vlan": args.vlan, "seeds": args.seeds, "programs": programs}
    for name, option, parse in (
        ("routes", "--routes", _numbers(0, MAX_ROUTES[4])),
        ("routes6", "--routes6", _numbers(0, MAX_ROUTES[6])),
        ("destinations", "--destinations", _words(DISTRIBUTIONS)),
        ("updates", "--updates", _numbers(0, MAX_UPDATES)),
        ("cores", "--cores", _numbers(1, cpus)),
        ("sizes", "--sizes", _sizes),
        ("next_hops", "--next-hops", lambda option, text: _whole(option, text, 1, MAX_NEXT_HOPS)),
        ("cache_entries", "--cache-entries", lambda option, text: _whole(option, text, 1, MAX_CACHE_ENTRIES)),
        ("rounds", "--rounds", lambda option, text: _whole(option, text, 1, MAX_ROUNDS)),
        ("seconds", "--seconds", _seconds),
        ("packets", "--packets", lambda option, text: _whole(option, text, MIN_PACKETS, MAX_PACKETS)),
    ):
        if (text := getattr(args, name)) is not None:
            given[name] = parse(option, text)
    for name in ("routes", "routes6"):
        if name in given:
            given[name] = tuple(n for n in given[name] if n)
    plan = dataclasses.replace(plan, **given)
    if not plan.routes and not plan.routes6:
        raise UsageError("nothing to measure: neither --routes nor --routes6 names a number of routes")
    if args.packets and args.seconds:
        raise UsageError("--seconds and --packets say the same thing: give one of them")
    return plan


def _list(values: tuple) -> str:
    return ",".join(str(value) for value in values)


def _split(option: str, text: str) -> list[str]:
    """The parts of a list, each once, in their order."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} {text!r}: a list such as 1,2,3 is wanted")
    return list(dict.fromkeys(parts))


def _whole(option: str, text: str, low: int, high: int = (1 << 32) - 1) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or not low <= int(text) <= high:
        raise UsageError(f"{option} {text!r}: a whole number from {low} to {high} is wanted")
    return int(text)


def _numbers(low: int, high: int) -> Callable[[str, str], tuple[int, ...]]:
    return lambda option, text: tuple(_whole(option, part, low, high) for part in _split(option, text))


def _words(known: tuple[str, ...]) -> Callable[[str, str], tuple[str, ...]]:
    def parse(option: str, text: str) -> tuple[str, ...]:
        for part in _split(option, text):
            if part not in known:
                raise UsageError(f"{option} {part!r}: there are {', '.join(known)}")
        return tuple(_split(option, text))

    return parse


def _sizes(option: str, text: str) -> tuple[str, ...]:
    parts = _split(option, text)
    return tuple(p if p == "imix" else str(_whole(option, p, MIX_SMALL, MIX_LARGE)) for p in parts)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 60:
        raise UsageError(f"{option} {text!r}: seconds from 0.001 to 60 are wanted")
    return seconds


def _needs_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise XdprouterError("--svg needs matplotlib: pip install 'xdprouter[plot]'") from error


def _check_writable(path: Path) -> None:
    """Now, not after minutes of measuring; makes no file."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"cannot write {path}: no such folder, or not allowed")


def _read(path: Path) -> Results:
    try:
        return from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error


def _write(results: Results, args: argparse.Namespace) -> None:
    try:
        if args.json:
            args.json.write_text(json.dumps(to_json(results), indent=1) + "\n")
        if args.svg:
            from xdprouter.bench import plot

            plot.write(results, args.svg)
    except OSError as error:
        raise XdprouterError(f"cannot write {error.filename}: {error.strerror}") from error
