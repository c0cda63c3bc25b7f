# SPDX-License-Identifier: GPL-2.0-only
"""One answer of the doctor's, good or bad."""

import enum
from dataclasses import dataclass


class Severity(enum.StrEnum):
    OK = "ok"
    INFO = "info"
    """worth knowing; nothing need be done"""
    WARNING = "warning"
    """it works, but slowly, or not all of it"""
    ERROR = "error"
    """xdprouter, or this port, will not work"""


EXIT_CODES = {Severity.OK: 0, Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
RANK = list(Severity)


class Group(enum.StrEnum):
    KERNEL = "kernel"
    SOFTWARE = "software"
    NETWORK = "network"
    DAEMON = "daemon"
    PORT = "port"


@dataclass(frozen=True)
class Finding:
    id: str
    """stable: names what was looked at, whatever came out"""
    group: Group
    severity: Severity
    reason: str
    command: str = ""
    """mends it when it is run as root, exactly as it stands"""
    no_command: str = ""
    """why there is none, where one might be looked for"""
    port: str | None = None
    """None: the machine"""

    def table(self) -> dict:
        """As in `--json`. Keys are added, never changed."""
        return {
            "id": self.id,
            "group": str(self.group),
            "severity": str(self.severity),
            "subject": "machine" if self.port is None else "port",
            "port": self.port,
            "reason": self.reason,
            "command": self.command,
            "no_command": self.no_command,
        }
