# SPDX-License-Identifier: GPL-2.0-only
"""The one loop: an event changes what is known, then the data plane is made to match.

Bursts coalesce: all queued events are taken before the data plane is looked at. Once a second the same
comparison runs without an event, so that what the kernel changed silently is put right.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane import events
from controlplane.census import NeighbourCensus, RouteCensus, RouteCounter, count_neighbours
from controlplane.counters import PortCounters, Rates, rates
from controlplane.dataplane import Dataplane
from controlplane.errors import AttachError, DataplaneError
from controlplane.keeper import Keeper
from controlplane.link import Link
from controlplane.monitor import NetlinkCounters, NetlinkMonitor
from controlplane.reconcile import Attach, Desired, Mode, PortState, reconcile, refusal, transmit_refusal

log = logging.getLogger("xdprouter.engine")

TICK_S = 1.0
RETRY_S = 10.0
"""A port that refused the program is tried again after this time, or when its device changes."""


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


@dataclass(frozen=True)
class Snapshot:
    """Everything `status` tells, at one moment."""

    ports: list[PortView]
    out_of_sync: list[str]
    routes: RouteCensus
    last_route_change_s: float | None
    route_events: int
    neighbours: NeighbourCensus
    managed_neighbours: int
    netlink: NetlinkCounters
    transmitting: dict[int, int]
    program_id: int


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


class Engine:
    """Owns the desired ports and what is known of the links.

    `attach` and `detach` change the wish and carry it out before they return; `run` follows the kernel.
    """

    def __init__(self, dataplane: Dataplane, ports: Mapping[str, Mode], receive_buffer: int, keeper: Keeper):
        self._dataplane = dataplane
        self._ports: dict[str, Mode] = dict(ports)
        self._receive_buffer = receive_buffer
        self._keeper = keeper
        self._links: dict[int, Link] = {}
        self._features: dict[int, int] = {}
        self._failures: dict[str, _Failure] = {}
        self._samples: dict[str, _Sample] = {}
        self._states: dict[str, tuple[PortState, str]] = {}
        self._routes = RouteCounter()
        self._link_events = 0
        self._broken = ""
        self.ready = asyncio.Event()
        """Set when the first dump is carried out."""

    async def run(self) -> None:
        """Follow netlink until cancelled."""
        async with NetlinkMonitor(self._receive_buffer, self._dataplane.route_filter_fd) as self._monitor:
            next_tick = time.monotonic() + TICK_S
            while True:
                try:
                    wait = max(0.0, next_tick - time.monotonic())
                    self._take(await asyncio.wait_for(self._monitor.next(), wait))
                    while self._monitor.pending():
                        self._take(await self._monitor.next())
                except TimeoutError:
                    next_tick = time.monotonic() + TICK_S
                    self._sample()
                # A link that goes down takes its routes along without a word about them.
                self._routes.refresh((self._dataplane.route_changes()[0], self._link_events))
                self._keeper.refresh(self._dataplane)
                self._make_true()
                self.ready.set()

    # --- commands -------------------------------------------------------------------------------

    def attach(self, name: str, mode: Mode) -> PortView:
        """Add a port, or change its mode. Raises AttachError, with everything as before, if that cannot be."""
        before = self._ports.get(name)
        try:
            self._dataplane.assign(name)
        except DataplaneError as error:
            raise AttachError(str(error)) from error
        self._ports[name] = mode
        self._failures.pop(name, None)
        self._make_true()
        view = self._view(name)
        if view.state is not PortState.UNSUPPORTED:
            return view
        if before is None:
            self.detach(name)
        else:
            self._ports[name] = before
            self._failures.pop(name, None)
            self._make_true()
        raise AttachError(view.reason)

    def detach(self, name: str) -> bool:
        """Take a port off XDP and forget it. False if it was no port."""
        if self._ports.pop(name, None) is None:
            return False
        self._make_true()
        self._dataplane.release(name)
        for known in (self._failures, self._samples, self._states):
            known.pop(name, None)
        return True

    def refused(self) -> dict[str, str]:
        """Port -> reason, of the ports that cannot be attached."""
        return {name: reason for name, (state, reason) in self._states.items() if state is PortState.UNSUPPORTED}

    def snapshot(self) -> Snapshot:
        self._make_true()
        changes, last = self._dataplane.route_changes()
        return Snapshot(
            ports=[self._view(name) for name in self._ports],
            out_of_sync=self._out_of_sync(),
            routes=self._routes.census,
            last_route_change_s=time.monotonic() - last if changes else None,
            route_events=changes,
            neighbours=count_neighbours(),
            managed_neighbours=self._keeper.counts.managed,
            netlink=self._monitor.counters,
            transmitting=self._dataplane.actual({}).transmitting,
            program_id=self._dataplane.program_id,
        )

    # --- inside ---------------------------------------------------------------------------------

    def _take(self, event: events.Event) -> None:
        match event:
            case events.LinkSet(link):
                self._links[link.ifindex] = link
                self._link_events += 1
            case events.LinkGone(ifindex):
                self._links.pop(ifindex, None)
                self._features.pop(ifindex, None)
                self._link_events += 1
            case events.FeaturesSet(ifindex, features):
                self._features[ifindex] = features
            case events.Resync(overrun):
                self._links.clear()
                self._features.clear()
                if overrun:
                    log.warning("netlink events were lost; everything is read anew")
            case events.Synced():
                pass

    def _make_true(self) -> None:
        """Compare and carry out. A refused port is left out of a second comparison, so that nothing of it
        stays in the data plane."""
        self._broken = ""
        try:
            for name in self._ports:
                self._dataplane.assign(name)
            while not self._apply_once():
                pass
            for name in self._dataplane.owners():
                if name not in self._ports:
                    self._dataplane.release(name)
        except DataplaneError as error:
            self._broken = str(error)
            log.error("%s", error)
        self._note_states()

    def _apply_once(self) -> bool:
        """False when a port refused, and the comparison must be made without it."""
        desired = self._desired()
        actual = self._dataplane.actual({link.ifindex: link.xdp for link in self._links.values()})
        for operation in reconcile(desired, actual):
            log.debug("%s", operation)
            try:
                self._dataplane.apply(operation)
            except AttachError as error:
                if error.errno == errno.ENODEV:
                    return True  # the device has just gone; its LinkGone is on the way
                assert isinstance(operation, Attach)
                link = desired.links[operation.name]
                self._failures[operation.name] = _Failure(str(error), link, time.monotonic() + RETRY_S)
                return False
        return True

    def _desired(self) -> Desired:
        links = {link.name: link for link in self._links.values()}
        for name, failure in list(self._failures.items()):
            if links.get(name) != failure.link or time.monotonic() >= failure.retry_at:
                del self._failures[name]
        return Desired(
            ports={name: mode for name, mode in self._ports.items() if name not in self._failures},
            slots=self._dataplane.owners(),
            links=links,
            features=self._features if self._monitor.knows_features else None,
        )

    def _note_states(self) -> None:
        desired = self._desired()
        for name in self._ports:
            state = self._state(name, desired)
            if self._states.get(name) != state:
                self._states[name] = state
                level = logging.ERROR if state[0] is PortState.UNSUPPORTED else logging.INFO
                log.log(level, "port %s is %s%s", name, state[0], f": {state[1]}" if state[1] else "")

    def _state(self, name: str, desired: Desired) -> tuple[PortState, str]:
        link = desired.links.get(name)
        if link is None:
            return PortState.ABSENT, "no such device yet; waiting for it"
        if name in self._failures:
            return PortState.UNSUPPORTED, self._failures[name].reason
        if reason := refusal(link):
            return PortState.UNSUPPORTED, f"{name} is {reason}"
        if not link.up or not link.carrier:
            return PortState.DOWN, transmit_refusal(link, desired)
        return PortState.ACTIVE, transmit_refusal(link, desired)

    def _out_of_sync(self) -> list[str]:
        reasons = [self._broken] if self._broken else []
        for name, (state, reason) in self._states.items():
            if state in (PortState.ABSENT, PortState.UNSUPPORTED):
                reasons.append(f"port {name} is {state}: {reason}")
        return reasons

    def _sample(self) -> None:
        now = time.monotonic()
        for name in self._ports:
            slot = self._dataplane.owners().get(name)
            if slot is None:
                continue
            counters = self._dataplane.counters(slot)
            last = self._samples.get(name)
            rate = rates(last.counters, counters, now - last.at) if last else Rates()
            self._samples[name] = _Sample(now, counters, rate)

    def _view(self, name: str) -> PortView:
        state, reason = self._states[name]
        slot = self._dataplane.owners()[name]
        sample = self._samples.get(name)
        return PortView(
            name=name,
            state=state,
            reason=reason,
            mode=self._ports[name],
            slot=slot,
            link=next((link for link in self._links.values() if link.name == name), None),
            counters=self._dataplane.counters(slot),
            rates=sample.rates if sample else Rates(),
        )
