# SPDX-License-Identifier: GPL-2.0-only
"""The daemon: composition root, and the only file here that imports the control plane.

config, instance -> Dataplane -> Engine -> Server
"""

import asyncio
import dataclasses
import heapq
import logging
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable

from controlplane.accounting import Accounting
from controlplane.cache import Cache, cache_sets
from controlplane.counters import PortCounters
from controlplane.dataplane import Dataplane, table_cpus
from controlplane.engine import Engine, Snapshot
from controlplane.errors import AttachError, ControlPlaneError, DataplaneError
from controlplane.features import NONE, Feature
from controlplane.keeper import Keeper
from controlplane.memory import LARGEST, cache_bytes
from controlplane.notices import Notice
from controlplane.pins import PinDirectory
from controlplane.planner import needed_features
from controlplane.port_guard import GuardPolicy
from controlplane.ports import PortView
from controlplane.reconcile import Mode, PortState
from controlplane.source import verdicts
from controlplane.swap import Swap
from controlplane.tags import words
from controlplane.vrf import has_route
from xdprouter import __version__, api, events, exporter
from xdprouter.config import MODES, Config, PortConfig, checked
from xdprouter.errors import UsageError, XdprouterError
from xdprouter.explain.handler import Explaining
from xdprouter.exporter import Exporters
from xdprouter.instance import Instance
from xdprouter.local_socket import give_to_group
from xdprouter.publisher import Publisher
from xdprouter.reload import difference
from xdprouter.reporter import event_of
from xdprouter.server import Server
from xdprouter.systemd import Notifier

log = logging.getLogger("xdprouter")


def run(instance: Instance, config: Config, read_again: Callable[[], Config] | None = None) -> int:
    """Be the daemon until SIGTERM, SIGINT or a stop request; `read_again` at SIGHUP or a reload request. Returns the exit
    code."""
    if os.geteuid() != 0:
        raise XdprouterError("not root: the daemon loads BPF programs; run it with sudo or from systemd")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is ready: the file has just been read
    home = exporter.here()
    instance.enter()
    lock = instance.lock()
    pins = PinDirectory(instance.directory)
    nothing_stays = False
    try:
        # The metrics first: an address that is in use changes nothing of what an earlier daemon left.
        exporters = Exporters(config.metrics, home)
        with exporters:
            dataplane = make_dataplane(pins, config.cache_entries, needed_features(config.modes()))
            nothing_stays = asyncio.run(Daemon(instance, config, dataplane, exporters, read_again).run())
            dataplane.close()
    except ControlPlaneError as error:
        raise XdprouterError(str(error)) from error
    finally:
        # Also a start that failed before any port was attached.
        if nothing_stays or not pins.link_ifindexes():
            pins.remove()
            shutil.rmtree(instance.directory, ignore_errors=True)
        os.close(lock)
        os.close(home)
    return 0


def make_dataplane(pins: PinDirectory, cache_entries: int, features: frozenset[Feature] = NONE) -> Dataplane:
    """With a cache, if the kernel lets us, and compiled with `features`. Raises ControlPlaneError when it does not even
    do without, and UsageError when the memory is not there."""
    sets = _sets_that_fit(cache_entries, table_cpus(), _available_bytes())
    try:
        return _with_features(pins, sets, features)
    except DataplaneError as error:
        if not cache_entries:
            raise
        log.warning("without a destination cache: %s", error)
        dataplane = _with_features(pins, 0, features)
        dataplane.cache.reason = str(error)
        return dataplane


def _with_features(pins: PinDirectory, sets: int, features: frozenset[Feature]) -> Dataplane:
    """Without them if the kernel refuses; the engine then tries again, and says so."""
    try:
        return Dataplane(pins, cache_sets=sets, features=features)
    except DataplaneError as error:
        if not features:
            raise
        log.warning("without %s: %s", ", ".join(sorted(features)), error)
        return Dataplane(pins, cache_sets=sets)


def _sets_that_fit(cache_entries: int, cpus: int, available: int) -> int:
    """cache_sets(), with a word in the log if that is more than asked for."""
    sets = cache_sets(cache_entries)
    wanted, possible = cache_bytes(cpus, sets), min(available, 2 * LARGEST)
    if wanted > possible:
        raise UsageError(
            f"cache_entries is {cache_entries}: on {cpus} CPUs that takes {wanted // 10**6} MB, and at most "
            f"{possible // 10**6} MB are possible here"
        )
    if 4 * sets != cache_entries:
        log.warning("cache_entries %d is rounded up to %d", cache_entries, 4 * sets)
    return sets


def _available_bytes() -> int:
    """What the kernel could give without swapping."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))


class Daemon:
    """Answers requests with what the engine knows and does."""

    def __init__(
        self,
        instance: Instance,
        config: Config,
        dataplane: Dataplane,
        exporters: Exporters,
        read_again: Callable[[], Config] | None = None,
    ):
        self._instance = instance
        self._exporters = exporters
        self._config = config
        self._read_again = read_again or (lambda: config)
        self._notifier = Notifier()
        self._dataplane = dataplane
        self._ports = {name: Mode(mode) for name, mode in config.modes().items()}
        self._keeper = Keeper(config.neighbour_idle_s)
        guard = GuardPolicy(config.guard)
        self._publisher = Publisher(instance, config.control_group)
        self._engine = Engine(dataplane, self._ports, config.netlink_receive_buffer, self._keeper, guard, self._report)
        self._explaining = Explaining(self._engine, dataplane, instance.netns)
        self._started = time.monotonic()
        self._detach: bool | None = None
        """as the stop request says; None: as configured"""
        self._stop = asyncio.Event()

    async def run(self) -> bool:
        """Serve until told to stop. Returns whether the ports were taken off XDP for good."""
        # Open before anything happens, so that whoever waits for a daemon hears how its ports come up.
        with self._publisher:
            return await self._run()

    async def _run(self) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        handlers = {
            api.StatusRequest: lambda _: self.status(),
            api.PortsRequest: lambda _: api.Ports(api.SCHEMA, self.status().ports),
            api.InterfacesRequest: lambda _: self.interfaces(),
            api.BlackholesRequest: lambda _: self.blackholes(),
            api.NeighboursRequest: lambda _: self.neighbours(),
            api.AttachRequest: self.attach,
            api.DetachRequest: self.detach,
            api.ExplainRequest: self._explaining.explain,
            api.ReloadRequest: lambda _: self.reload(),
            api.StopRequest: self.stop,
        }
        engine = asyncio.create_task(self._engine.run())
        stop = asyncio.create_task(self._stop.wait())
        ready = asyncio.create_task(self._engine.ready.wait())
        alive = asyncio.create_task(self._publisher.keep_alive())
        watched = asyncio.create_task(self._show_life())
        twin: asyncio.Task | None = None
        try:
            await asyncio.wait({engine, ready}, return_when=asyncio.FIRST_COMPLETED)
            if engine.done():
                engine.result()
            self._dataplane.take_over_links(self._engine.settled())
            self._refuse_if_useless()
            async with Server(self._instance, self._config.control_group, handlers) as server:
                serve = asyncio.create_task(server.serve())
                self._exporters.serve(self.status)
                loop.add_signal_handler(signal.SIGHUP, self._reload_and_log)
                log.info("instance %s is ready, program id %d", self._instance.name, self._dataplane.program_id)
                twin = asyncio.create_task(self._leave_twin())
                self._announce("started", f"xdprouter {__version__} is ready")
                self._notifier.ready(self._summary())
                done, _ = await asyncio.wait({engine, serve, stop}, return_when=asyncio.FIRST_COMPLETED)
                serve.cancel()
                for task in done - {stop}:
                    task.result()
        finally:
            for task in (engine, stop, ready, alive, watched):
                task.cancel()
            detach = self._config.on_exit == "detach" if self._detach is None else self._detach
            await self._keeper.stop(release=detach)
            await self._explaining.close()
            if twin:
                await asyncio.wait({twin})  # a thread cannot be ended
        ports = "detached" if detach else "left forwarding"
        log.info("stopping; ports are %s", ports)
        self._announce("stopping", f"ports are {ports}")
        self._notifier.stopping(f"ports are {ports}")
        return detach

    async def _leave_twin(self) -> None:
        """By which the next daemon tries its program against this one's."""
        try:
            await asyncio.to_thread(self._dataplane.leave_twin)
        except (ControlPlaneError, OSError) as error:
            log.warning("the next daemon's test packets will be counted: %s", error)

    async def _show_life(self) -> None:
        """To a watchdog, as long as the engine goes its rounds."""
        seen = -1
        while self._notifier.watchdog_s:
            if self._engine.rounds != seen:
                seen = self._engine.rounds
                self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog_s / 4)

    def _summary(self) -> str:
        """For `systemctl status`."""
        number = len(self._config.port)
        return f"instance {self._instance.name}, {number} configured port{'s' * (number != 1)}"

    def _report(self, notice: Notice) -> None:
        self._publisher.publish(event_of(notice))

    def _announce(self, state: str, text: str) -> None:
        self._publisher.publish(events.Daemon(state, self._dataplane.program_id, text))

    def _refuse_if_useless(self) -> None:
        """End at once when every port was refused: nothing is gained by waiting."""
        refused = self._engine.refused()
        if self._ports and len(refused) == len(self._ports):
            raise XdprouterError("; ".join(refused.values()))

    # --- handlers -------------------------------------------------------------------------------

    def attach(self, request: api.AttachRequest) -> api.Done:
        mode = request.mode or self._config.mode
        if mode not in MODES:
            raise api.ApiError("refused", f"mode is {mode!r}: must be {' or '.join(MODES)}")
        _check_name(request.port)
        try:
            view = self._engine.attach(request.port, Mode(mode))
        except AttachError as error:
            raise api.ApiError("refused", str(error)) from None
        reason = f": {view.reason}" if view.reason else ""
        return api.Done(f"port {view.name} is {view.state} in {view.mode} mode{reason}")

    def detach(self, request: api.DetachRequest) -> api.Done:
        _check_name(request.port)
        changed = self._engine.detach(request.port)
        return api.Done(f"port {request.port} is {'detached' if changed else 'no port; nothing to do'}", changed)

    def reload(self) -> api.Reloaded:
        """What is wrong in the file changes nothing."""
        self._notifier.reloading()
        try:
            return self._reload()
        except UsageError as error:
            raise api.ApiError("configuration", f"{error}; nothing was changed") from None
        finally:
            self._notifier.ready(self._summary())

    def _reload(self) -> api.Reloaded:
        found = difference(self._config, self._read_again())
        # First what may fail, and then leaves everything as it was.
        self._exporters.change(found.new.metrics)
        if "control_group" in found.keys:
            try:
                for path in (self._instance.socket, self._instance.events_socket):
                    give_to_group(path, found.new.control_group)
            except UsageError:
                self._exporters.change(self._config.metrics)
                raise
        self._keeper.idle_s = found.new.neighbour_idle_s
        modes = {name: Mode(mode) for name, mode in found.wished.items()}
        self._config = found.new
        if found.removed or modes or "guard" in found.keys:
            self._engine.configure(found.removed, modes, GuardPolicy(found.new.guard))
        refused = self._engine.refused()
        changed = [f"port {name} removed" for name in found.removed]
        changed += [f"port {name}: {mode} mode" for name, mode in modes.items() if name not in refused]
        failed = [refused[name] for name in modes if name in refused]
        reply = api.Reloaded(api.SCHEMA, [*found.changed, *changed], found.restart, failed)
        for line in reply.changed:
            log.info("reload: %s", line)
        for line in reply.restart:
            log.warning("reload: needs a restart: %s", line)
        for line in reply.failed:
            log.error("reload: not possible: %s", line)
        log.info("the configuration was read again")
        return reply

    def _reload_and_log(self) -> None:
        try:
            self.reload()
        except (api.ApiError, XdprouterError) as error:
            log.error("reload: %s", error)

    def stop(self, request: api.StopRequest) -> api.Done:
        self._detach = True if request.detach else self._detach
        self._stop.set()
        detach = self._config.on_exit == "detach" if self._detach is None else self._detach
        return api.Done(f"the daemon stops; ports are {'detached' if detach else 'left forwarding'}")

    def interfaces(self) -> api.Interfaces:
        snapshot = self._engine.snapshot()
        return api.Interfaces(api.SCHEMA, _interfaces(snapshot), _vrfs(snapshot))

    def blackholes(self) -> api.Blackholes:
        swallowed = self._engine.blackholes()
        busiest = heapq.nlargest(api.BUSIEST, swallowed.items(), key=lambda entry: entry[1].packets)
        entries = [api.Blackhole(str(prefix), traffic.packets, traffic.bytes) for prefix, traffic in busiest]
        return api.Blackholes(api.SCHEMA, len(swallowed), entries)

    def neighbours(self) -> api.NextHops:
        names = dict(socket.if_nameindex())
        return api.NextHops(
            api.SCHEMA,
            [
                api.NextHop(
                    device=names.get(found.ifindex, f"#{found.ifindex}"),
                    ifindex=found.ifindex,
                    address=found.address,
                    mac=found.lladdr or None,
                    state=found.state,
                    managed=found.managed,
                    age_s=None if found.age_s is None else round(found.age_s, 1),
                    idle_s=round(found.idle_s, 1),
                    packets=found.packets,
                    bytes=found.bytes,
                )
                for found in self._keeper.neighbours()
            ],
        )

    def status(self) -> api.Status:
        snapshot = self._engine.snapshot()
        return api.Status(
            schema=api.SCHEMA,
            version=__version__,
            instance=self._instance.name,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started, 3),
            program_id=snapshot.program_id,
            in_sync=not snapshot.out_of_sync,
            out_of_sync_reasons=snapshot.out_of_sync,
            ports=[_port(view, snapshot) for view in snapshot.ports],
            fib=api.Fib(
                ipv4_routes=snapshot.routes.ipv4,
                ipv6_routes=snapshot.routes.ipv6,
                by_protocol=dict(snapshot.routes.by_protocol),
                last_change_s=snapshot.last_route_change_s,
            ),
            neighbours=api.Neighbours(
                snapshot.managed_neighbours, snapshot.neighbours.resolved, snapshot.neighbours.unresolved
            ),
            guard=api.Guard(snapshot.guard, [api.Finding(f.device, f.text) for f in snapshot.findings]),
            cache=_cache(self._dataplane.cache, snapshot),
            netlink=api.Netlink(
                snapshot.netlink.events + snapshot.route_events, snapshot.netlink.overruns, snapshot.netlink.resyncs
            ),
            daemon=_process(),
            verdicts=verdicts(),
            interfaces=_interfaces(snapshot),
            vrfs=_vrfs(snapshot),
            features=sorted(snapshot.features),
            last_swap=_swap(snapshot.last_swap),
        )


def _swap(found: Swap | None) -> api.Swap | None:
    if found is None:
        return None
    age_s = round(time.monotonic() - found.at, 3)
    return api.Swap(found.result, found.before, found.after, age_s, found.reason)


def _check_name(port: str) -> None:
    """The configuration's rule for a port's name, as a refusal."""
    try:
        checked(Config(port=(PortConfig(port),)))
    except UsageError as error:
        raise api.ApiError("refused", str(error)) from None


def _port(view: PortView, snapshot: Snapshot) -> api.Port:
    counters: PortCounters = view.counters
    return api.Port(
        name=view.name,
        ifindex=view.link.ifindex if view.link else None,
        slot=view.slot,
        state=view.state,
        reason=view.reason,
        mode=view.mode,
        mtu=view.link.mtu if view.link else None,
        mac=view.link.mac if view.link else None,
        transmitting=view.slot in snapshot.transmitting,
        ingress={verdict: api.Traffic(t.packets, t.bytes) for verdict, t in counters.ingress.items()},
        egress=api.Traffic(counters.egress.packets, counters.egress.bytes),
        redirect_errors=counters.redirect_errors,
        fib_codes={str(code): number for code, number in counters.fib_codes.items()},
        rates=api.Rates(**{key: round(value, 1) for key, value in dataclasses.asdict(view.rates).items()}),
        cache_hits=counters.cache_hits,
        accounting=_accounting(view.accounting),
    )


def _accounting(found: Accounting | None) -> api.Accounting | None:
    if found is None:
        return None
    return api.Accounting(
        since_s=round(found.since_s, 3),
        kernel=api.LinkStats(**dataclasses.asdict(found.kernel)),
        received=api.Received(**dataclasses.asdict(found.received)),
        sent=api.Sent(**dataclasses.asdict(found.sent)),
    )


def _interfaces(snapshot: Snapshot) -> list[api.Interface]:
    """Those of ports that are not active take their state from the port."""
    ports = {view.name: view for view in snapshot.ports}
    out = []
    for shown in sorted(snapshot.plan.stack.shown.values(), key=lambda shown: shown.link.ifindex):
        state, reason = shown.state.value, shown.reason
        views = [ports[name] for name in shown.ports if name in ports]
        if state == "active" and views and not any(view.state is PortState.ACTIVE for view in views):
            state = "down" if views[0].state is PortState.DOWN else "slow"
            reason = f"port {views[0].name} is {views[0].state}: {views[0].reason}"
        out.append(
            api.Interface(
                name=shown.link.name,
                ifindex=shown.link.ifindex,
                kind=shown.kind,
                ports=list(shown.ports),
                tags=words(shown.tags),
                vrf=shown.vrf or None,
                mtu=shown.link.mtu,
                mac=shown.link.mac,
                state=state,
                reason=reason,
            )
        )
    return out


def _vrfs(snapshot: Snapshot) -> list[api.Vrf]:
    out = []
    for name, link in sorted(snapshot.plan.stack.vrfs.items()):
        traffic = snapshot.vrfs[name]
        table = link.details.table
        out.append(
            api.Vrf(
                name=name,
                table=table,
                interfaces=[s.link.name for s in snapshot.plan.stack.shown.values() if s.vrf == name],
                reason="" if has_route(table) else f"no route in its table {table}",
                forwarded=api.Traffic(traffic.forwarded.packets, traffic.forwarded.bytes),
                passed=api.Traffic(traffic.passed.packets, traffic.passed.bytes),
                dropped=api.Traffic(traffic.dropped.packets, traffic.dropped.bytes),
            )
        )
    return out


def _cache(cache: Cache, snapshot: Snapshot) -> api.Cache:
    return api.Cache(
        enabled=bool(cache.sets) and not cache.reason,
        reason=cache.reason,
        key=str(cache.key) if cache.key else "",
        entries=cache.entries,
        bytes=cache.bytes,
        hits=sum(view.counters.cache_hits for view in snapshot.ports),
        misses=sum(sum(view.counters.fib_codes.values()) for view in snapshot.ports),
        invalidations=cache.invalidations,
        lease_ok=cache.lease_ok,
    )


def _process() -> api.Process:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return api.Process(pages * resource.getpagesize(), round(usage.ru_utime + usage.ru_stime, 3))
