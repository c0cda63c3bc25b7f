# SPDX-License-Identifier: GPL-2.0-only
"""The daemon: composition root, which makes the parts of an instance and answers requests with them.

config, instance -> Dataplane -> Engine -> Server
"""

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable

from controlplane.dataplane import Dataplane
from controlplane.engine import Engine
from controlplane.errors import AttachError, ControlPlaneError
from controlplane.keeper import Keeper
from controlplane.notices import Notice
from controlplane.pins import PinDirectory
from controlplane.planner import needed_features
from controlplane.port_guard import GuardPolicy
from controlplane.reconcile import Mode
from xdprouter import __version__, api, events, exporter, replies
from xdprouter.config import MODES, Config, PortConfig, checked
from xdprouter.configured import Configured
from xdprouter.errors import UsageError, XdprouterError
from xdprouter.explain.handler import Explaining
from xdprouter.exporter import Exporters
from xdprouter.instance import Instance
from xdprouter.load import make_dataplane
from xdprouter.publisher import Publisher
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
        self._notifier = Notifier()
        self._dataplane = dataplane
        ports = {name: Mode(mode) for name, mode in config.modes().items()}
        self._keeper = Keeper(config.neighbour_idle_s)
        guard = GuardPolicy(config.guard)
        self._publisher = Publisher(instance, config.control_group)
        self._engine = Engine(dataplane, ports, config.netlink_receive_buffer, self._keeper, guard, self._report)
        self._configured = Configured(
            config, read_again or (lambda: config), instance, exporters, self._keeper, self._engine
        )
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
            api.PortsRequest: lambda _: self.ports(),
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
        try:
            await asyncio.wait({engine, ready}, return_when=asyncio.FIRST_COMPLETED)
            if engine.done():
                engine.result()
            self._dataplane.take_over_links(self._engine.settled())
            self._refuse_if_useless()
            async with Server(self._instance, self._configured.config.control_group, handlers) as server:
                serve = asyncio.create_task(server.serve())
                self._exporters.serve(self.status)
                loop.add_signal_handler(signal.SIGHUP, self._reload_and_log)
                log.info("instance %s is ready, program id %d", self._instance.name, self._dataplane.program_id)
                self._announce("started", f"xdprouter {__version__} is ready")
                self._notifier.ready(self._summary())
                done, _ = await asyncio.wait({engine, serve, stop}, return_when=asyncio.FIRST_COMPLETED)
                serve.cancel()
                for task in done - {stop}:
                    task.result()
        finally:
            for task in (engine, stop, ready, alive, watched):
                task.cancel()
            detach = self._detaches
            await self._keeper.stop(release=detach)
            await self._explaining.close()
        fate = _fate_of_ports(detach)
        log.info("stopping; %s", fate)
        self._announce("stopping", fate)
        self._notifier.stopping(fate)
        return detach

    @property
    def _detaches(self) -> bool:
        """Whether the end takes the ports off XDP: as asked for, else as configured."""
        return self._configured.config.on_exit == "detach" if self._detach is None else self._detach

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
        number = len(self._configured.config.port)
        return f"instance {self._instance.name}, {number} configured port{'s' * (number != 1)}"

    def _report(self, notice: Notice) -> None:
        self._publisher.publish(event_of(notice))

    def _announce(self, state: str, text: str) -> None:
        self._publisher.publish(events.Daemon(state, self._dataplane.program_id, text))

    def _refuse_if_useless(self) -> None:
        """End at once when every port was refused: nothing is gained by waiting."""
        refused = self._engine.refused()
        if refused and len(refused) == len(self._configured.config.port):
            raise XdprouterError("; ".join(refused.values()))

    # --- handlers -------------------------------------------------------------------------------

    def attach(self, request: api.AttachRequest) -> api.Done:
        mode = request.mode or self._configured.config.mode
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
            return self._configured.reload()
        except UsageError as error:
            raise api.ApiError("configuration", f"{error}; nothing was changed") from None
        finally:
            self._notifier.ready(self._summary())

    def _reload_and_log(self) -> None:
        try:
            self.reload()
        except (api.ApiError, XdprouterError) as error:
            log.error("reload: %s", error)

    def stop(self, request: api.StopRequest) -> api.Done:
        self._detach = True if request.detach else self._detach
        self._stop.set()
        return api.Done(f"the daemon stops; {_fate_of_ports(self._detaches)}")

    def status(self) -> api.Status:
        uptime_s = time.monotonic() - self._started
        return replies.status(self._engine.snapshot(), self._dataplane.cache, self._instance.name, uptime_s)

    def ports(self) -> api.Ports:
        return replies.ports(self._engine.snapshot())

    def interfaces(self) -> api.Interfaces:
        return replies.interfaces(self._engine.snapshot())

    def blackholes(self) -> api.Blackholes:
        return replies.blackholes(self._engine.blackholes())

    def neighbours(self) -> api.NextHops:
        return replies.next_hops(self._keeper.neighbours())


def _fate_of_ports(detach: bool) -> str:
    return f"ports are {'detached' if detach else 'left forwarding'}"


def _check_name(port: str) -> None:
    """The configuration's rule for a port's name, as a refusal."""
    try:
        checked(Config(port=(PortConfig(port),)))
    except UsageError as error:
        raise api.ApiError("refused", str(error)) from None
