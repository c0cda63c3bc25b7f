# SPDX-License-Identifier: GPL-2.0-only
"""What an operator wants to hear of, as a comparison of two moments: nothing in the engine has to remember to tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.finding import Finding
from controlplane.link import Link
from controlplane.notices import (
    CacheGranted,
    CacheWithdrawn,
    DeviceChanged,
    FindingCame,
    FindingGone,
    NetlinkLost,
    Notice,
    PortChanged,
    PortForgotten,
    ProgramSwapped,
    SyncChanged,
)


@dataclass(frozen=True, slots=True)
class Observed:
    """One moment, after the engine has made the data plane true. Without arguments: the moment before the first."""

    ports: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """name -> state, reason"""
    devices: Mapping[str, Link] = field(default_factory=dict)
    """of the ports that are there"""
    findings: tuple[Finding, ...] = ()
    cache: str = ""
    """why nothing is recalled; empty: something is, or nothing ever was"""
    overruns: int = 0
    resyncs: int = 0
    program_id: int = 0
    """0: none yet"""
    out_of_sync: tuple[str, ...] = ()


def differences(before: Observed, now: Observed) -> Iterator[Notice]:
    """In the order in which a person would tell them: what was lost, causes, consequences."""
    if now.overruns != before.overruns or now.resyncs != before.resyncs:
        yield NetlinkLost(now.overruns - before.overruns, now.resyncs - before.resyncs)
    if before.program_id not in (0, now.program_id):
        yield ProgramSwapped(now.program_id, before.program_id)
    if now.devices != before.devices:
        yield from _devices(before.devices, now.devices)
    if now.findings != before.findings:
        yield from (FindingGone(finding) for finding in dict.fromkeys(before.findings) if finding not in now.findings)
        yield from (FindingCame(finding) for finding in dict.fromkeys(now.findings) if finding not in before.findings)
    if now.ports != before.ports:
        yield from _ports(before.ports, now.ports)
    if now.cache != before.cache:
        yield CacheWithdrawn(now.cache) if now.cache else CacheGranted()
    if now.out_of_sync != before.out_of_sync:
        yield SyncChanged(now.out_of_sync)


def _ports(before: Mapping[str, tuple[str, str]], now: Mapping[str, tuple[str, str]]) -> Iterator[Notice]:
    for port in before:
        if port not in now:
            yield PortForgotten(port)
    for port, (state, reason) in now.items():
        known = before.get(port)
        if known != (state, reason):
            yield PortChanged(port, state, reason, known[0] if known else None)


def _devices(before: Mapping[str, Link], now: Mapping[str, Link]) -> Iterator[Notice]:
    for port, link in now.items():
        known = before.get(port)
        if known is None:
            continue  # the port's state tells
        for what in ("ifindex", "mac", "mtu"):
            old, new = getattr(known, what), getattr(link, what)
            if old != new:
                yield DeviceChanged(port, what, str(old), str(new))
