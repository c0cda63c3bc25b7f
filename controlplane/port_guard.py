# SPDX-License-Identifier: GPL-2.0-only
"""What the guard's findings mean for the ports, under the operator's policy."""

import enum
import logging
from collections.abc import Collection, Iterable, Mapping

from controlplane.dataplane import Dataplane
from controlplane.finding import Finding
from controlplane.guard import Examiner, GuardWatch

log = logging.getLogger("xdprouter.guard")


class GuardPolicy(enum.StrEnum):
    REFUSE = "refuse"
    """a port with a finding stays on the slow path"""
    WARN = "warn"
    """it forwards all the same; the findings are logged and shown"""
    OFF = "off"
    """nothing is looked for"""


class PortGuard:
    """A context manager. Under `refuse` the data plane stops by itself at the moment a new rule is announced
    (bpf/guard_events.h), and goes on when `settle` says that the rule has been looked at and acted upon."""

    def __init__(self, policy: GuardPolicy, dataplane: Dataplane):
        self.policy = policy
        self.findings: list[Finding] = []
        self._dataplane = dataplane
        self._examiner = Examiner()
        self._seen = 0
        self._looked_at: Mapping[str, int] = {}
        self._due = False
        self.watch = GuardWatch(dataplane.guard_filter_fds)

    def __enter__(self) -> "PortGuard":
        if self.policy is not GuardPolicy.OFF:
            self.watch.__enter__()
        self._dataplane.gate.enforce(self.policy is GuardPolicy.REFUSE)
        return self

    def __exit__(self, *_) -> None:
        self.watch.__exit__()

    def change(self, policy: GuardPolicy) -> None:
        """Another policy, in force with the next `look` and `settle`. To be called between two of the engine's rounds."""
        self.policy = policy
        if policy is GuardPolicy.OFF:
            self.watch.__exit__()
            self.findings = []
        elif not self.watch.sockets:
            self.watch.__enter__()
        self._dataplane.gate.enforce(policy is GuardPolicy.REFUSE)
        self._looked_at = {}

    def poll(self) -> None:
        """Let the next look read what has no events, also if nothing is known to have changed."""
        self._due = True

    def look(self, devices: Mapping[str, int], changed: bool, bridges: Collection[str] = ()) -> None:
        """Find out what packets forwarded over `devices` (name -> ifindex; some are bridges) would meet, if an event said that it has
        `changed`, if these are other devices than last time, or after `poll`."""
        changed = changed or devices != self._looked_at
        if self.policy is GuardPolicy.OFF or not (changed or self._due):
            return
        self._looked_at, self._due = devices, False
        self._seen = self._dataplane.gate.changes()
        findings = self._examiner.examine(devices, changed, bridges)
        if self.policy is GuardPolicy.WARN:
            for finding in findings:
                if finding not in self.findings:
                    log.warning("forwarded packets go past %s", _describe([finding]))
        self.findings = findings

    def guarded(self, ports: Iterable[str]) -> dict[str, str]:
        """Port -> what keeps it off the fast path."""
        if self.policy is not GuardPolicy.REFUSE:
            return {}
        if not self.findings:
            return {}
        found = {port: [f for f in self.findings if f.device in (None, port)] for port in ports}
        return {port: _describe(findings) for port, findings in found.items() if findings}

    def found(self) -> dict[str, str]:
        """Device -> what was found on that one alone: on ports, and on what sits on them or below."""
        if self.policy is not GuardPolicy.REFUSE:
            return {}
        on: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.device is not None:
                on.setdefault(finding.device, []).append(finding)
        return {device: _describe(findings) for device, findings in on.items()}

    def settle(self) -> None:
        """The data plane is as the last look wants it: packets that waited on the slow path may be fast again."""
        if self.policy is GuardPolicy.REFUSE:
            self._dataplane.gate.examined(self._seen)


def _describe(findings: list[Finding]) -> str:
    more = len(findings) - 1
    return findings[0].text + (f" (and {more} more)" if more else "")
