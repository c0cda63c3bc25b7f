# SPDX-License-Identifier: GPL-2.0-only
"""The ports that are wished for: how each is, why, and what it carries."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.accounting import Account, Accounting, Reading
from controlplane.counters import PortCounters, Rates, rates
from controlplane.dataplane import Dataplane
from controlplane.link import Link
from controlplane.link_stats import LinkStatsReader
from controlplane.reconcile import Desired, Mode, Plan, PortState, transmit_refusal
from controlplane.stack import Stack

log = logging.getLogger("xdprouter.ports")

RETRY_S = 10.0
"""A port that refused the program is tried again after this time, or when its device changes."""

SAMPLE_S = 0.9
"""Rates are those of at least this time: of the engine's every second tick."""


@dataclass(frozen=True)
class PortView:
    name: str
    state: PortState
    reason: str
    mode: Mode
    slot: int
    link: Link | None
    counters: PortCounters
    rates: Rates
    accounting: Accounting | None
    """None while the device is absent"""


@dataclass
class _Failure:
    reason: str
    link: Link
    retry_at: float


@dataclass
class _Sample:
    at: float
    counters: PortCounters
    rates: Rates = field(default_factory=Rates)


class Ports:
    """Name -> mode of each wished port, with its last failure, state and counter reading."""

    def __init__(self, wished: Mapping[str, Mode]):
        self.modes: dict[str, Mode] = dict(wished)
        self._failures: dict[str, _Failure] = {}
        self._samples: dict[str, _Sample] = {}
        self._accounts: dict[str, Account] = {}
        self._link_stats = LinkStatsReader()
        self._sampled_at = 0.0
        self._states: dict[str, tuple[PortState, str]] = {}

    def wish(self, name: str, mode: Mode) -> None:
        self.modes[name] = mode
        self._failures.pop(name, None)

    def forget(self, name: str) -> bool:
        """False if it was not wished."""
        known = self.modes.pop(name, None) is not None
        for table in (self._failures, self._samples, self._accounts, self._states):
            table.pop(name, None)
        return known

    def fail(self, name: str, reason: str, link: Link) -> None:
        """The device refused the program."""
        self._failures[name] = _Failure(reason, link, time.monotonic() + RETRY_S)

    def attachable(self, links: Mapping[str, Link]) -> dict[str, Mode]:
        """Without those that refused, until their device changes or it is time to try again."""
        for name, failure in list(self._failures.items()):
            if links.get(name) != failure.link or time.monotonic() >= failure.retry_at:
                del self._failures[name]
        return {name: mode for name, mode in self.modes.items() if name not in self._failures}

    def note_states(self, desired: Desired, plan: Plan) -> None:
        """Work out every port's state, and log what has changed."""
        for name in self.modes:
            state = self._state(name, desired, plan.stack)
            if self._states.get(name) != state:
                self._states[name] = state
                level = _LEVELS.get(state[0], logging.INFO)
                log.log(level, "port %s is %s%s", name, state[0], f": {state[1]}" if state[1] else "")

    @property
    def states(self) -> dict[str, tuple[PortState, str]]:
        """Name -> state and reason, as last noted."""
        return dict(self._states)

    def refused(self) -> dict[str, str]:
        """Port -> reason, of the ports that cannot be attached."""
        return {name: reason for name, (state, reason) in self._states.items() if state is PortState.UNSUPPORTED}

    def out_of_sync(self) -> list[str]:
        return [
            f"port {name} is {state}: {reason}"
            for name, (state, reason) in self._states.items()
            if state in (PortState.ABSENT, PortState.UNSUPPORTED)
        ]

    def sample(self, dataplane: Dataplane, links: Mapping[str, Link]) -> None:
        """Read the counters, for the rates since a reading about a second before and for the accounts."""
        now = time.monotonic()
        if now - self._sampled_at < SAMPLE_S:
            return
        self._sampled_at = now
        for name, slot in dataplane.slots.owners().items():
            if name not in self.modes:
                continue
            counters = dataplane.slots.counters(slot)
            last = self._samples.get(name)
            rate = rates(last.counters, counters, now - last.at) if last else Rates()
            self._samples[name] = _Sample(now, counters, rate)
            self._account(name, links.get(name), counters)

    def view(self, name: str, dataplane: Dataplane, link: Link | None) -> PortView:
        state, reason = self._states[name]
        slot = dataplane.slots.owners()[name]
        sample = self._samples.get(name)
        counters = dataplane.slots.counters(slot)
        return PortView(
            name=name,
            state=state,
            reason=reason,
            mode=self.modes[name],
            slot=slot,
            link=link,
            counters=counters,
            rates=sample.rates if sample else Rates(),
            accounting=self._account(name, link, counters),
        )

    def refusals(self) -> dict[str, str]:
        """Port -> why nothing can be redirected to it; empty if it can."""
        return {
            name: reason or ("" if state is PortState.ACTIVE else str(state))
            for name, (state, reason) in self._states.items()
        }

    def _account(self, name: str, link: Link | None, counters: PortCounters) -> Accounting | None:
        stats = self._link_stats.read(link.ifindex) if link else None
        if link is None or stats is None:
            self._accounts.pop(name, None)
            return None
        reading = Reading(time.monotonic(), link.ifindex, counters, stats)
        account = self._accounts.setdefault(name, Account(reading))
        account.take(reading)
        return account.at(reading)

    def _state(self, name: str, desired: Desired, stack: Stack) -> tuple[PortState, str]:
        link = desired.links.get(name)
        if link is None:
            return PortState.ABSENT, "no such device yet; waiting for it"
        if name in self._failures:
            return PortState.UNSUPPORTED, self._failures[name].reason
        if name in stack.refused:
            return PortState.UNSUPPORTED, f"{name} is {stack.refused[name]}"
        if not link.up or not link.carrier or name in stack.held:
            return PortState.DOWN, transmit_refusal(link, desired, stack) or stack.held.get(name, "")
        if name in stack.guarded:
            return PortState.GUARDED, stack.guarded[name]
        return PortState.ACTIVE, transmit_refusal(link, desired, stack)


_LEVELS = {PortState.UNSUPPORTED: logging.ERROR, PortState.GUARDED: logging.WARNING}
