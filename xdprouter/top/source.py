# SPDX-License-Identifier: GPL-2.0-only
"""Where the screen's data come from, off the screen's loop: a thread that asks once a second, and one that hears
events. Both outlast a restart of the daemon."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from xdprouter import api, client
from xdprouter.errors import NoAnswer, NoDaemon, XdprouterError
from xdprouter.instance import Instance
from xdprouter.subscriber import Subscriber

PERIOD_S = 1.0
_STOP_CHECK_MS = 200
_JOIN_S = 1.0


@dataclass(frozen=True)
class Reading:
    """What the daemon answered, at some second of CLOCK_MONOTONIC."""

    at: float
    status: dict
    neighbours: list[dict]


@dataclass(frozen=True)
class Happened:
    """An event."""

    event: dict


@dataclass(frozen=True)
class Away:
    """There is no daemon that could be asked; why, in one line."""

    reason: str


@dataclass(frozen=True)
class Silent:
    """There is a daemon, and it has not answered for long. How long, the screen counts by itself."""


Item = Reading | Happened | Away | Silent
Deliver = Callable[[Item], None]


class Source:
    def __init__(self, instance: Instance):
        self._instance = instance
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, deliver: Deliver) -> None:
        """`deliver` is called in threads of ours, until `stop`."""
        for work in (self._ask, self._listen):
            thread = threading.Thread(target=work, args=(deliver,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Does not wait for a daemon that does not answer: the threads end with the process."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _ask(self, deliver: Deliver) -> None:
        while not self._stopping.is_set():
            try:
                status = client.ask(self._instance, api.StatusRequest())
                neighbours = client.ask(self._instance, api.NeighboursRequest())["neighbours"]
                deliver(Reading(time.monotonic(), status, neighbours))
            except NoAnswer:
                deliver(Silent())
            except NoDaemon:
                deliver(Away("no daemon; waiting for it"))
            except XdprouterError as error:
                deliver(Away(str(error)))
            self._stopping.wait(PERIOD_S)

    def _listen(self, deliver: Deliver) -> None:
        while not self._stopping.is_set():
            try:
                with Subscriber(self._instance, wait=True) as subscriber:
                    while not self._stopping.is_set():
                        event = subscriber.next(timeout_ms=_STOP_CHECK_MS)
                        if event:
                            deliver(Happened(event))
            except XdprouterError as error:
                deliver(Away(str(error)))
                self._stopping.wait(PERIOD_S)
