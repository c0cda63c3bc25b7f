# SPDX-License-Identifier: GPL-2.0-only
"""Parts of the plan in guests, two side by side: one takes as long as two, since each has one CPU."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.vm import kernels, plan, programs, report
from tests.vm.errors import GuestError
from tests.vm.guest import Guest

SIDE_BY_SIDE = 2
OUTPUT_LINES = 60
RECORDED = "programs.json"
"""In the directory: what tests/vm/programs.py compiled"""


@dataclass(frozen=True)
class Result:
    kernel: str
    part: str
    passed: int
    skipped: list[str]
    problems: list[str]
    """Empty: all is well"""
    seconds: float
    tail: str
    """The end of pytest's output, or of the console when the guest did not get so far"""

    def __str__(self) -> str:
        lacking = f", {len(self.skipped)} skipped for {', '.join(sorted(set(self.skipped)))}" if self.skipped else ""
        return (
            f"{'FAILED' if self.problems else 'ok':6} {self.kernel:5} {self.part:9} {self.passed:4} passed{lacking}, "
            f"{len(self.problems)} problems, {self.seconds:.0f} s"
        )


def run(labels: Iterable[str], parts: Iterable[plan.Part], directory: Path) -> Iterator[Result]:
    """Each part on each kernel; `directory` gets a directory for each, with junit.xml, output, console and dmesg.

    Raises GuestError when a kernel cannot be had.
    """
    fetched = [kernels.fetch(label) for label in labels]
    directory.mkdir(parents=True, exist_ok=True)
    programs.record(directory.resolve() / RECORDED)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        waiting = [
            pool.submit(one, kernel, part, directory)
            for part in parts
            for kernel in fetched
            if kernel.label in part.kernels
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


def one(kernel: kernels.Kernel, part: plan.Part, directory: Path) -> Result:
    home = directory / f"{kernel.label}-{part.name}"
    (home / "junit.xml").unlink(missing_ok=True)
    must_have = plan.MUST_HAVE[kernel.label]
    try:
        outcome = Guest(kernel, home).run(
            plan.command(part),
            part.timeout_s,
            cwd=plan.ROOT,
            environment=plan.environment(must_have, directory.resolve() / RECORDED) | part.environment,
        )
    except GuestError as error:
        return Result(kernel.label, part.name, 0, [], [str(error)], part.timeout_s, error.console)
    tail = "\n".join(outcome.output.splitlines()[-OUTPUT_LINES:])
    if outcome.code == 124:
        problem = f"not done after {part.timeout_s:.0f} s"
        return Result(kernel.label, part.name, 0, [], [problem], outcome.seconds, tail)
    found = report.read(home / "junit.xml", must_have)
    problems = found.problems
    if not problems and outcome.code != 0:
        problems = [f"pytest ended with {outcome.code}"]
    return Result(kernel.label, part.name, found.passed, found.skipped, problems, outcome.seconds, tail)
