# SPDX-License-Identifier: GPL-2.0-only
"""All findings of one examination."""

import dataclasses
from dataclasses import dataclass

from xdprouter import __version__
from xdprouter.doctor import daemon, kernel, network, port, software
from xdprouter.doctor.facts import Facts
from xdprouter.doctor.finding import EXIT_CODES, RANK, Finding, Group, Severity

SCHEMA = 1
_ELSEWHERE = ("nsenter ", "xdprouter ")
"""Commands that say themselves where they work"""


@dataclass(frozen=True)
class Report:
    instance: str
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Severity:
        return max((finding.severity for finding in self.findings), key=RANK.index, default=Severity.OK)

    @property
    def exit_code(self) -> int:
        """0 all fine, 1 warnings, 2 it will not work."""
        return EXIT_CODES[self.worst]

    def table(self) -> dict:
        return {
            "schema": SCHEMA,
            "version": __version__,
            "instance": self.instance,
            "severity": str(self.worst),
            "exit_code": self.exit_code,
            "findings": [finding.table() for finding in self.findings],
        }


def judge(facts: Facts) -> Report:
    """What the facts mean, grouped, ports last and each with all that concerns it."""
    found = [
        _located(finding, facts.netns)
        for subject in (kernel, software, network, daemon, port)
        for finding in subject.examine(facts)
    ]
    if not facts.ports:
        reason = "no port was named, and no daemon or configuration names one"
        found.append(
            Finding("ports", Group.NETWORK, Severity.INFO, reason, no_command="name some: xdprouter doctor -i PORT")
        )
    groups = list(Group)
    names = [None, *(port.name for port in facts.ports)]
    found.sort(key=lambda finding: (groups.index(finding.group), names.index(finding.port)))
    return Report(facts.instance, tuple(found))


def _located(finding: Finding, netns: str | None) -> Finding:
    """With a command that works in the namespace that was examined, wherever it is typed."""
    if not netns or not finding.command or finding.group not in (Group.NETWORK, Group.PORT):
        return finding
    if finding.command.startswith(_ELSEWHERE):
        return finding
    return dataclasses.replace(finding, command=f"nsenter --net=/run/netns/{netns} {finding.command}")
