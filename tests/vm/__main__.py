# SPDX-License-Identifier: GPL-2.0-only
"""python -m tests.vm [--kernel 6.1]... [--full] [--part lab]... [--report DIRECTORY] [-- COMMAND...]"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.vm import kernels, plan, run
from tests.vm.errors import GuestError
from tests.vm.guest import Guest

COMMAND_TIMEOUT_S = 900


def main(argv: list[str]) -> int:
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="Tests on stock kernels, in QEMU.")
    parser.add_argument("--kernel", action="append", choices=plan.KERNELS, help="on this one only; may be given again")
    parser.add_argument("--full", action="store_true", help="all of every part on every kernel: more than an hour")
    parser.add_argument("--part", action="append", help="this part only; may be given again")
    parser.add_argument(
        "--report", type=Path, default=plan.ROOT / "build" / "vm", help="directory of the JUnit reports"
    )
    options = parser.parse_args(own)
    labels = options.kernel or list(plan.KERNELS)
    try:
        if command:
            return max(run_command(label, command) for label in labels)
        parts = plan.EVERYTHING if options.full else plan.PARTS
        if unknown := sorted(set(options.part or ()) - {part.name for part in parts}):
            parser.error(f"no part {', '.join(unknown)}: there are {', '.join(sorted({part.name for part in parts}))}")
        parts = [part for part in parts if not options.part or part.name in options.part]
        return run_plan(labels, parts, options.report)
    except GuestError as error:
        print(f"tests.vm: {error}\n{error.console}".rstrip(), file=sys.stderr)
        return 1


def run_command(label: str, command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="xdprouter-guest-") as directory:
        outcome = Guest(kernels.fetch(label), Path(directory)).run(
            command, COMMAND_TIMEOUT_S, environment=plan.environment(plan.MUST_HAVE[label])
        )
    print(outcome.output, end="")
    print(f"Linux {label}: exit code {outcome.code} after {outcome.seconds:.1f} s", file=sys.stderr)
    return outcome.code


def run_plan(labels: list[str], parts: list[plan.Part], directory: Path) -> int:
    failed = 0
    for result in run.run(labels, parts, directory):
        print(result, flush=True)
        if result.problems:
            failed += 1
            print("".join(f"    {problem}\n" for problem in result.problems) + result.tail, flush=True)
    print(f"reports: {directory}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
