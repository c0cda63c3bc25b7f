# SPDX-License-Identifier: GPL-2.0-only
"""The configuration in force, and how another one takes its place while the daemon runs."""

import logging
from collections.abc import Callable

from controlplane.engine import Engine
from controlplane.keeper import Keeper
from controlplane.port_guard import GuardPolicy
from controlplane.reconcile import Mode
from xdprouter import api
from xdprouter.config import Config
from xdprouter.errors import UsageError
from xdprouter.exporter import Exporters
from xdprouter.instance import Instance
from xdprouter.local_socket import give_to_group
from xdprouter.reload import Difference, difference

log = logging.getLogger("xdprouter")


class Configured:
    """`config`: what is in force; `read_again`: what the file says now, raises UsageError."""

    def __init__(
        self,
        config: Config,
        read_again: Callable[[], Config],
        instance: Instance,
        exporters: Exporters,
        keeper: Keeper,
        engine: Engine,
    ):
        self.config = config
        self._read_again = read_again
        self._instance = instance
        self._exporters = exporters
        self._keeper = keeper
        self._engine = engine

    def reload(self) -> api.Reloaded:
        """Put in force what the file says now. Raises UsageError, with everything as before."""
        found = difference(self.config, self._read_again())
        self._open(found)
        self._keeper.idle_s = found.new.neighbour_idle_s
        self.config = found.new
        wished = {name: Mode(mode) for name, mode in found.wished.items()}
        if found.removed or wished or "guard" in found.keys:
            self._engine.configure(found.removed, wished, GuardPolicy(found.new.guard))
        reply = _reply(found, self._engine.refused())
        _log(reply)
        return reply

    def _open(self, found: Difference) -> None:
        """First what may fail, and then leaves everything as it was."""
        self._exporters.change(found.new.metrics)
        if "control_group" in found.keys:
            try:
                for path in (self._instance.socket, self._instance.events_socket):
                    give_to_group(path, found.new.control_group)
            except UsageError:
                self._exporters.change(self.config.metrics)
                raise


def _reply(found: Difference, refused: dict[str, str]) -> api.Reloaded:
    """`refused`: port -> reason."""
    changed = [f"port {name} removed" for name in found.removed]
    changed += [f"port {name}: {mode} mode" for name, mode in found.wished.items() if name not in refused]
    failed = [refused[name] for name in found.wished if name in refused]
    return api.Reloaded(api.SCHEMA, [*found.changed, *changed], found.restart, failed)


def _log(reply: api.Reloaded) -> None:
    for line in reply.changed:
        log.info("reload: %s", line)
    for line in reply.restart:
        log.warning("reload: needs a restart: %s", line)
    for line in reply.failed:
        log.error("reload: not possible: %s", line)
    log.info("the configuration was read again")
