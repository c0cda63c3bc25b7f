# SPDX-License-Identifier: GPL-2.0-only
"""The report for people."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xdprouter.doctor.finding import Finding, Group, Severity
from xdprouter.doctor.report import Report

_STYLE = {Severity.OK: "green", Severity.INFO: "cyan", Severity.WARNING: "bold yellow", Severity.ERROR: "bold red"}
_VERDICT = {
    0: "all fine",
    1: "it works, with warnings",
    2: "it will not work as it is",
}


def print_report(report: Report) -> None:
    # As in xdprouter.render: piped output has no width of its own, and nothing in a reason is markup.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False)
    groups: dict[str, list[Finding]] = {}
    for finding in report.findings:
        title = f"port {finding.port}" if finding.group is Group.PORT else str(finding.group)
        groups.setdefault(title, []).append(finding)
    width = max((len(finding.id) for finding in report.findings), default=0)
    for title, findings in groups.items():
        console.print(_table(title, findings, width))
    console.print(Text.assemble((_VERDICT[report.exit_code], _STYLE[report.worst]), f"  ({_counts(report)})"))


def _table(title: str, findings: list[Finding], width: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, min_width=len(Severity.WARNING))
    table.add_column(no_wrap=True, min_width=width)
    table.add_column()
    for finding in findings:
        table.add_row(Text(str(finding.severity), style=_STYLE[finding.severity]), finding.id, finding.reason)
        if finding.command:
            table.add_row("", "", Text(f"mend: {finding.command}", style="bold"))
        elif finding.no_command and finding.severity in (Severity.WARNING, Severity.ERROR):
            table.add_row("", "", f"no command: {finding.no_command}")
    return table


def _counts(report: Report) -> str:
    counts = {severity: sum(f.severity is severity for f in report.findings) for severity in reversed(Severity)}
    return ", ".join(f"{number} {severity}" for severity, number in counts.items())
