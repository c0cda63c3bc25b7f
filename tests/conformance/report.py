# SPDX-License-Identifier: GPL-2.0-only
"""Results as a page: docs/conformance.md is made by this and never edited."""

import os
import time
from collections import Counter

from tests.conformance.known import KNOWN
from tests.conformance.outcome import __doc__ as LEFT_OUT
from tests.conformance.rows import ROWS, UNSHOWN
from tests.conformance.run import Result, RowResult

FAST = ("forward", "drop_blackhole")
SHOWN_OUTCOMES = 4


def page(results: list[Result], command: str, seed: int) -> str:
    """The whole report as Markdown."""
    packets = sum(result.packets for result in results)
    different = sum(len(result.differences) + result.not_shrunk for result in results)
    known = sum(sum(result.known.values()) for result in results)
    return "\n".join([
        "# Conformance", "",
        f"Made by `{command}`; do not edit. Kernel {os.uname().release}, {time.strftime('%Y-%m-%d')}, seed {seed}.", "",
        f"{packets:,} packets were sent to two routers of one configuration, the plain kernel and xdprouter, under "
        f"{len(results)} configurations. **{different} of them came out differently**; {known:,} more differ for a reason "
        "listed below.", "",
        "## What is compared", "", "All frames that come out of any port, byte for byte. " + _left_out(), "",
        "## Ways to go wrong", "", *_rows(results), "",
        "Not shown by packets here:", "", *(f"- {name}: {why}" for name, why in UNSHOWN.items()), "",
        "## Configurations", "", *_configurations(results), "",
        "## Known differences", "", *_known(results), "", *_differences(results),
    ])  # fmt: skip


def _left_out() -> str:
    return LEFT_OUT.partition("\n\n")[2].strip()


def _rows(results: list[Result]) -> list[str]:
    lines = ["| row | the kernel does | xdprouter | cases | result |", "|---|---|---|---|---|"]
    for name in ROWS:
        total = RowResult()
        for result in results:
            row = result.rows.get(name, RowResult())
            total.cases += row.cases
            total.kernel += row.kernel
            total.verdicts += row.verdicts
            total.different += row.different
            total.known += row.known
        if total.cases:
            lines.append(
                f"| {name} | {_outcomes(total.kernel)} | {_ways(total.verdicts)} | {total.cases:,} | {_verdict(total)} |"
            )
    return lines


def _outcomes(words: Counter) -> str:
    """The most frequent ones, without the port."""
    kinds = Counter()
    for text, number in words.items():
        kinds[text.partition(" to ")[0].partition(" x")[0]] += number
    most = [f"{kind} ({number:,})" for kind, number in kinds.most_common(SHOWN_OUTCOMES)]
    return ", ".join(most) + (", ..." if len(kinds) > SHOWN_OUTCOMES else "")


def _ways(verdicts: Counter) -> str:
    # The questions in wire.py are not IP, and not what the row is about.
    fast = sum(verdicts[name] for name in FAST)
    slow = Counter({name: number for name, number in verdicts.items() if name not in (*FAST, "pass_not_ip")})
    most = ", ".join(name for name, _ in slow.most_common(3))
    return f"fast {fast:,}, slow {slow.total():,}" + (f" ({most})" if most else "")


def _verdict(row: RowResult) -> str:
    parts = [f"**{row.different} differ**" if row.different else "", f"{row.known:,} known" if row.known else ""]
    return ", ".join(filter(None, parts)) or "same"


def _configurations(results: list[Result]) -> list[str]:
    lines = ["| configuration | what | packets | fast | differences | known |", "|---|---|---|---|---|---|"]
    for result in results:
        one = result.configuration
        lines.append(
            f"| {one.name} | {one.what} | {result.packets:,} | {result.fast:,} | "
            f"{len(result.differences) + result.not_shrunk} | {sum(result.known.values()):,} |"
        )
    return lines


def _known(results: list[Result]) -> list[str]:
    total = Counter()
    for result in results:
        total += result.known
    lines = [f"- {one.reason} ({total[one.reason]:,} packets here)" for one in KNOWN]
    return lines or ["None."]


def _differences(results: list[Result]) -> list[str]:
    found = [difference for result in results for difference in result.differences]
    return ["## Differences", "", "```", *map(str, found), "```", ""] if found else []
