# SPDX-License-Identifier: GPL-2.0-only
"""The one loop: an event changes what is known, then the data plane is made to match.

Bursts coalesce: all queued events are taken before the data plane is looked at. Twice a second the same
comparison runs without an event, so that what the kernel changed silently is put right.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.cache import RENEW_S
from controlplane.cache_key import key_for
from controlplane.census import NeighbourCensus, RouteCensus, count_neighbours
from controlplane.counters import Traffic
from controlplane.dataplane import Dataplane
from controlplane.errors import AttachError, DataplaneError
from controlplane.finding import Finding
from controlplane.keeper import Keeper
from controlplane.known import Known
from controlplane.monitor import NetlinkCounters, NetlinkMonitor
from controlplane.notes import Prefix
from controlplane.port_guard import GuardPolicy, PortGuard
from controlplane.ports import Ports, PortView
from controlplane.reconcile import Attach, Desired, Mode, PortState, reconcile

log = logging.getLogger("xdprouter.engine")

TICK_S = 0.5


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
    guard: GuardPolicy
    findings: list[Finding]


class Engine:
    """Owns the wished ports and what is known of the kernel.

    `attach` and `detach` change the wish and carry it out before they return; `run` follows the kernel.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        ports: Mapping[str, Mode],
        receive_buffer: int,
        keeper: Keeper,
        guard: GuardPolicy = GuardPolicy.REFUSE,
    ):
        self._dataplane = dataplane
        self._guard = PortGuard(guard, dataplane)
        self._receive_buffer = receive_buffer
        self._keeper = keeper
        self._ports = Ports(ports)
        self._known = Known(dataplane.route_dump.count)
        self._settled = -1
        self._broken = ""
        self.ready = asyncio.Event()
        """Set when the first dump is carried out."""

    async def run(self) -> None:
        """Follow netlink until cancelled."""
        with self._guard, self._dataplane.cache:
            lease = asyncio.create_task(self._renew_lease())
            try:
                await self._follow()
            finally:
                lease.cancel()

    async def _renew_lease(self) -> None:
        while True:
            self._dataplane.cache.renew()
            await asyncio.sleep(RENEW_S)

    async def _follow(self) -> None:
        filter_fd = self._dataplane.route_filter_fd
        async with NetlinkMonitor(self._receive_buffer, filter_fd, self._guard.watch) as self._monitor:
            # Before any port forwards: whose sources the kernel would refuse is told by its routes.
            self._known.routes.count(self._fib_change()[0])
            next_tick = time.monotonic() + TICK_S
            while True:
                try:
                    wait = max(0.0, next_tick - time.monotonic())
                    self._known.take(await asyncio.wait_for(self._monitor.next(), wait))
                    while self._monitor.pending():
                        self._known.take(await self._monitor.next())
                except TimeoutError:
                    next_tick = time.monotonic() + TICK_S
                    self._tick()
                self._known.routes.refresh(*self._fib_change())
                self._keeper.refresh(self._dataplane)
                self._make_true()
                self.ready.set()

    # --- commands -------------------------------------------------------------------------------

    def attach(self, name: str, mode: Mode) -> PortView:
        """Add a port, or change its mode. Raises AttachError, with everything as before, if that cannot be."""
        before = self._ports.modes.get(name)
        try:
            self._dataplane.assign(name)
        except DataplaneError as error:
            raise AttachError(str(error)) from error
        self._ports.wish(name, mode)
        self._make_true()
        view = self._view(name)
        if view.state is not PortState.UNSUPPORTED:
            return view
        if before is None:
            self.detach(name)
        else:
            self._ports.wish(name, before)
            self._make_true()
        raise AttachError(view.reason)

    def detach(self, name: str) -> bool:
        """Take a port off XDP and forget it. False if it was no port."""
        if not self._ports.forget(name):
            return False
        self._make_true()
        self._dataplane.release(name)
        return True

    def refused(self) -> dict[str, str]:
        """Port -> reason, of the ports that cannot be attached."""
        return self._ports.refused()

    def blackholes(self) -> dict[Prefix, Traffic]:
        """What each blackhole route has swallowed since it is known."""
        self._make_true()
        return self._dataplane.notes.blackholes()

    def snapshot(self) -> Snapshot:
        self._make_true()
        changes, last = self._dataplane.route_changes()
        return Snapshot(
            ports=[self._view(name) for name in self._ports.modes],
            out_of_sync=([self._broken] if self._broken else []) + self._ports.out_of_sync(),
            routes=self._known.routes.census,
            last_route_change_s=time.monotonic() - last if changes else None,
            route_events=changes,
            neighbours=count_neighbours(),
            managed_neighbours=self._keeper.counts.managed,
            netlink=self._monitor.counters,
            transmitting=self._dataplane.transmitting(),
            program_id=self._dataplane.program_id,
            guard=self._guard.policy,
            findings=self._guard.findings,
        )

    # --- inside ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._known.tick()
        self._guard.poll()
        self._ports.sample(self._dataplane, self._known.by_name())

    def _fib_change(self) -> tuple[tuple[int, int], float]:
        """(what moves with the FIB, seconds since a route changed)"""
        changes, last = self._dataplane.route_changes()
        return (changes, self._known.silent_changes), time.monotonic() - last

    def _make_true(self) -> None:
        """Compare and carry out. A refused port is left out of a second comparison, so that nothing of it
        stays in the data plane."""
        self._broken = ""
        cache = self._dataplane.cache
        changes = cache.changes
        if changes != self._settled:
            # What has just been announced must be in what is read and configured below.
            self._known.settings_stale = True
            for event in self._monitor.read_now():
                self._known.take(event)
        try:
            before = self._known.settings
            self._known.read_settings(self._ports.modes)
            if self._known.settings != before:
                cache.invalidate()  # most sysctls change without a word, and the key may stay as it is
            self._guard.look(self._devices(), changed=self._known.firewall_stale)
            self._known.firewall_stale = False
            self._dataplane.sync_notes(self._known.routes.notes)
            for name in self._ports.modes:
                self._dataplane.assign(name)
            while not self._apply_once():
                pass
            for name in self._dataplane.owners():
                if name not in self._ports.modes:
                    self._dataplane.release(name)
            self._guard.settle()
            cache.configure(key_for(self._known.settings, self._known.routes.notes.reasons))
            if self._known.settings.use_neighbours:
                cache.withdraw("net.ipv4.fib_multipath_use_neigh: who answers decides the way")
            else:
                cache.settle(changes)
                self._settled = changes
        except DataplaneError as error:
            self._broken = str(error)
            log.error("%s", error)
        self._ports.note_states(self._desired())

    def _devices(self) -> dict[str, int]:
        """Name -> ifindex, of the wished ports that are there."""
        return {link.name: link.ifindex for link in self._known.links.values() if link.name in self._ports.modes}

    def _apply_once(self) -> bool:
        """False when a port refused, and the comparison must be made without it."""
        desired = self._desired()
        actual = self._dataplane.actual({link.ifindex: link.xdp for link in self._known.links.values()})
        for operation in reconcile(desired, actual):
            log.debug("%s", operation)
            try:
                self._dataplane.apply(operation)
                self._dataplane.cache.invalidate()
            except AttachError as error:
                if error.errno == errno.ENODEV:
                    return True  # the device has just gone; its LinkGone is on the way
                assert isinstance(operation, Attach)
                self._ports.fail(operation.name, str(error), desired.links[operation.name])
                return False
        return True

    def _desired(self) -> Desired:
        links = self._known.by_name()
        notes = self._dataplane.notes
        return Desired(
            ports=self._ports.attachable(links),
            slots=self._dataplane.owners(),
            links=links,
            features=self._known.features if self._monitor.knows_features else None,
            settings=self._known.settings,
            guarded=self._guard.guarded(self._ports.modes),
            wide_own_sources=notes.wide_own_sources,
            narrow_mtu=notes.narrow_mtu,
        )

    def _view(self, name: str) -> PortView:
        return self._ports.view(name, self._dataplane, self._known.by_name().get(name))
