# SPDX-License-Identifier: GPL-2.0-only
"""IPVS, the kernel's load balancer: with a service defined it takes part in forwarding."""

from pathlib import Path

from controlplane.finding import Finding, and_more

_SERVICES = Path("/proc/thread-self/net/ip_vs")


def examine() -> list[Finding]:
    """Findings in the caller's network namespace. Raises OSError when the list cannot be read."""
    try:
        lines = _SERVICES.read_text().splitlines()
    except FileNotFoundError:  # not in this kernel, or the module is not loaded
        return []
    return judge(lines)


def judge(lines: list[str]) -> list[Finding]:
    # Services begin with their protocol, their servers with an arrow; three lines of heading come first.
    services = [line.split() for line in lines if line.startswith(("TCP", "UDP", "SCTP", "FWM"))]
    if not services:
        return []
    more = and_more(len(services) - 1).replace("rule", "service")
    return [Finding(None, f"ipvs: service {' '.join(services[0][:2])}{more}")]
