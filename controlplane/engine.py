# SPDX-License-Identifier: GPL-2.0-only
"""The one loop: an event changes what is known, then the data plane is made to match.

Bursts coalesce: all queued events are taken before the data plane is looked at. Twice a second the same
comparison runs without an event, so that what the kernel changed silently is put right.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Iterable, Mapping

from controlplane.cache import RENEW_S
from controlplane.cache_key import key_for
from controlplane.counters import Traffic
from controlplane.dataplane import Dataplane
from controlplane.errors import AttachError, ControlPlaneError, DataplaneError
from controlplane.keeper import Keeper
from controlplane.known import Known
from controlplane.monitor import NetlinkMonitor
from controlplane.notes import Prefix
from controlplane.notices import Listener, nobody
from controlplane.observer import Observed, differences
from controlplane.planner import Planner
from controlplane.port_guard import GuardPolicy, PortGuard
from controlplane.ports import Ports, PortView
from controlplane.reconcile import Attach, Desired, Mode, Plan, PortState, operations
from controlplane.snapshot import Snapshot
from controlplane.upgrade import Upgrade

log = logging.getLogger("xdprouter.engine")

TICK_S = 0.5


class Engine:
    """Owns the wished ports and what is known of the kernel.

    `attach` and `detach` change the wish and carry it out before they return; `run` follows the kernel. `listener`
    is told of what an operator wants to hear (controlplane/notices.py).
    """

    def __init__(
        self,
        dataplane: Dataplane,
        ports: Mapping[str, Mode],
        receive_buffer: int,
        keeper: Keeper,
        guard: GuardPolicy = GuardPolicy.REFUSE,
        listener: Listener = nobody,
    ):
        self._dataplane = dataplane
        self._guard = PortGuard(guard, dataplane)
        self._receive_buffer = receive_buffer
        self._keeper = keeper
        self._ports = Ports(ports)
        self._known = Known(dataplane.route_dump.count)
        self._planner = Planner(dataplane, self._known, self._ports, self._guard)
        self._upgrade = Upgrade(dataplane, self._make_true, self.settled)
        self._taken_over = False
        self._settled = -1
        self._broken = ""
        self._listener = listener
        self._observed = Observed()
        self.ready = asyncio.Event()
        """Set when the first dump is carried out."""
        self.rounds = 0
        """Goes up with every turn of the loop, at least every TICK_S."""

    async def run(self) -> None:
        """Follow netlink until cancelled."""
        with self._guard, self._dataplane.cache:
            lease = asyncio.create_task(self._renew_lease())
            try:
                await self._follow()
            finally:
                lease.cancel()
                await self._upgrade.stop()
                self._known.close()

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
                    await asyncio.wait_for(self._monitor.wait(), max(0.0, next_tick - time.monotonic()))
                except TimeoutError:
                    next_tick = time.monotonic() + TICK_S
                    self._tick()
                # No await in between: a command that comes meanwhile takes events too, and must not overtake these.
                for event in self._monitor.take():
                    self._known.take(event)
                self._known.routes.refresh(*self._fib_change(), self._planner.vrf_tables())
                self._keeper.refresh(self._dataplane)
                self._make_true()
                self.ready.set()
                self.rounds += 1

    # --- commands -------------------------------------------------------------------------------

    def attach(self, name: str, mode: Mode) -> PortView:
        """Add a port, or change its mode. Raises AttachError, with everything as before, if that cannot be."""
        before = self._ports.modes.get(name)
        try:
            self._dataplane.slots.assign(name)
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
        self._dataplane.slots.release(name)
        return True

    def configure(self, removed: Iterable[str], wished: Mapping[str, Mode], guard: GuardPolicy) -> None:
        """Forget some ports, wish for others or for another mode of them, and guard them so. What cannot be attached stays
        wished for, as at the start."""
        if guard is not self._guard.policy:
            self._monitor.leave_firewall()
            try:
                self._guard.change(guard)
            finally:
                self._monitor.follow_firewall()
            self._known.firewall_stale = True
        for name in removed:
            self._ports.forget(name)
        self._make_true()  # which gives the slots free
        for name, mode in wished.items():
            self._ports.wish(name, mode)
        self._make_true()

    def refused(self) -> dict[str, str]:
        """Port -> reason, of the ports that cannot be attached."""
        return self._ports.refused()

    def settled(self) -> bool:
        """Whether all ports are active."""
        return all(state is PortState.ACTIVE and not reason for state, reason in self._ports.states.values())

    def blackholes(self) -> dict[Prefix, Traffic]:
        """What each blackhole route has swallowed since it is known."""
        self._make_true()
        return self._dataplane.notes.blackholes()

    def snapshot(self) -> Snapshot:
        self._make_true()
        changes, last = self._dataplane.route_changes()
        _, plan = self._plan()
        return Snapshot(
            ports=[self._view(name) for name in self._ports.modes],
            out_of_sync=self._out_of_sync(),
            routes=self._known.routes.census,
            last_route_change_s=time.monotonic() - last if changes else None,
            route_events=changes,
            neighbours=self._keeper.census,
            managed_neighbours=self._keeper.counts.managed,
            netlink=self._monitor.counters,
            transmitting=self._dataplane.slots.transmitting(),
            program_id=self._dataplane.program_id,
            last_swap=self._dataplane.last_swap,
            guard=self._guard.policy,
            findings=self._guard.findings,
            plan=plan,
            vrfs={name: self._dataplane.vrfs.traffic(name) for name in plan.stack.vrfs},
            features=self._dataplane.features,
            settings=self._known.settings,
            refusals=self._ports.refusals(),
        )

    # --- inside ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._known.tick()
        self._guard.poll()
        self._dataplane.watch_swap()
        self._ports.sample(self._dataplane, self._known.by_name())
        if churn := self._dataplane.churn.sample(time.monotonic()):
            self._listener(churn)
        for change in self._keeper.changes():
            self._listener(change)

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
            self._known.read_settings(self._planner.interfaces(), self._planner.tagged_devices())
            if self._known.settings != before:
                cache.invalidate()  # most sysctls change without a word, and the key may stay as it is
            self._guard.look(self._planner.devices(), self._known.firewall_stale, self._planner.bridges())
            self._known.firewall_stale = False
            self._dataplane.sync_notes(self._known.routes.notes)
            for name in self._ports.modes:
                self._dataplane.slots.assign(name)
            vrfs = [link.name for link in self._known.links.values() if link.kind == "vrf"]
            self._dataplane.vrfs.sync(vrfs, self._planner.survey().vrfs)
            while not self._apply_once():
                pass
            for name in self._dataplane.slots.owners():
                if name not in self._ports.modes:
                    self._dataplane.slots.release(name)
            self._guard.settle()
            cache.configure(key_for(self._known.settings, self._known.routes.notes.reasons))
            if self._known.settings.use_neighbours:
                cache.withdraw("net.ipv4.fib_multipath_use_neigh: who answers decides the way")
            else:
                cache.settle(changes)
                self._settled = changes
        except ControlPlaneError as error:
            self._broken = str(error)
            log.error("%s", error)
        desired, plan = self._plan()
        self._upgrade.need(plan.stack.needed)
        self._ports.note_states(desired, plan)
        self._tell()

    def _tell(self) -> None:
        """Tell the listener what is different from the last time."""
        before, links = self._observed, self._known.by_name()
        known = {name: link for name, link in before.devices.items() if name in self._ports.modes}
        netlink = self._monitor.counters
        self._observed = Observed(
            ports=self._ports.states,
            devices=known | {name: links[name] for name in self._ports.modes if name in links},
            findings=tuple(self._guard.findings),
            cache=self._dataplane.cache.reason,
            overruns=netlink.overruns,
            resyncs=netlink.resyncs,
            program_id=self._dataplane.program_id,
            out_of_sync=tuple(self._out_of_sync()),
        )
        for notice in differences(before, self._observed):
            self._listener(notice)

    def _out_of_sync(self) -> list[str]:
        troubles = [self._broken, self._upgrade.reason, self._dataplane.taken_back]
        return [trouble for trouble in troubles if trouble] + self._ports.out_of_sync()

    def _apply_once(self) -> bool:
        """False when a port refused, and the comparison must be made without it."""
        desired, plan = self._plan()
        if plan.stack.needed and not self._taken_over and not self._dataplane.inherits:
            # What an earlier daemon left in the links may not know what these entries mean.
            self._dataplane.take_over_links()
            self._taken_over = True
        if self._dataplane.fdb.sync(plan.stack.fdbs):
            self._dataplane.cache.invalidate()
        actual = self._dataplane.actual({link.ifindex: link.xdp for link in self._known.links.values()})
        for operation in operations(plan, actual):
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

    def _plan(self) -> tuple[Desired, Plan]:
        return self._planner.plan(self._monitor.knows_features)

    def _view(self, name: str) -> PortView:
        return self._ports.view(name, self._dataplane, self._known.by_name().get(name))
