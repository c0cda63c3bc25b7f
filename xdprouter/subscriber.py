# SPDX-License-Identifier: GPL-2.0-only
"""Hears the events of an instance's daemon, and what only a client can tell: that the daemon has gone or is back, and
that events were lost."""

import time
from collections import deque
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from xdprouter import client, events
from xdprouter.errors import XdprouterError
from xdprouter.instance import Instance

QUEUE = 100_000
"""Events that wait here while this process is busy"""
_RECONNECT_MS = 100


class Subscriber:
    """A context manager. `wait`: a daemon need not be there yet; else NoDaemon is raised without one.

    A new subscription is in force with the first message; the daemon sends one within a second (`in_force`).
    Not to be used by two threads at once.
    """

    def __init__(self, instance: Instance, wait: bool = False):
        self._instance = instance
        self._wait = wait
        self._ready: deque[dict] = deque()
        self._last: tuple[int, int] | None = None
        self._away = False
        self._heard_at = 0.0
        self.in_force = False

    def __enter__(self) -> Self:
        if self._wait:
            self._check_waiting()
        else:
            client.check_listening(self._instance, self._instance.events_socket)
        self._heard_at = time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._watch = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(f"ipc://{self._instance.events_socket}")
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._watch, zmq.POLLIN)
        return self

    @property
    def silent_s(self) -> float:
        """Seconds since the daemon was heard last, if it is there: it says something every second (publisher.ALIVE_S),
        unless it is stopped or stuck. 0 while there is none. True after `next` has returned None."""
        return 0.0 if self._away else time.monotonic() - self._heard_at

    def __exit__(self, *_) -> None:
        self._socket.disable_monitor()
        self._watch.close()
        self._socket.close()
        self._context.term()

    def next(self, timeout_ms: int | None = None, until_closed: int | None = None) -> dict | None:
        """The next event's table, `alive` left out; None when the time is up.

        until_closed: a file descriptor of which nobody may go on reading; BrokenPipeError is raised then.
        """
        if until_closed is not None:
            self._poller.register(until_closed, zmq.POLLERR)
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        while not self._ready:
            left = None if deadline is None else max(0, round(1000 * (deadline - time.monotonic())))
            found = dict(self._poller.poll(left))
            if until_closed in found:
                raise BrokenPipeError
            self._read()
            self._read_connection()
            if not found and left is not None:
                break
        return self._ready.popleft() if self._ready else None

    # --- inside ---------------------------------------------------------------------------------

    def _check_waiting(self) -> None:
        """Who waits for a daemon still must not wait for a namespace that is not there, or without permission."""
        try:
            client.check_listening(self._instance, self._instance.events_socket)
        except XdprouterError as error:
            if error.exit_code != 3:
                raise
            self._away = True

    def _read(self) -> None:
        """All that is there, up to a limit that leaves the connection its turn."""
        for _ in range(1000):
            try:
                message = events.decode(self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if message is not None:
                self._take(message)

    def _take(self, message: dict) -> None:
        self.in_force = True
        self._heard_at = time.monotonic()
        alive = message["kind"] == events.Alive.KIND
        pid, seq = message["pid"], message["seq"]
        if self._last is not None and self._last[0] == pid:
            lost = seq - self._last[1] - (not alive)
            if lost > 0:
                self._own(events.Lost(lost))
        self._last = pid, seq
        if not alive:
            self._ready.append(message)

    def _read_connection(self) -> None:
        while self._watch.poll(0):
            gone = recv_monitor_message(self._watch)["event"] == zmq.EVENT_DISCONNECTED
            self._heard_at = time.monotonic()
            if gone != self._away:
                self._read()  # what it had still to say comes first
                self._away = gone
                self._own(events.Disconnected() if gone else events.Connected())

    def _own(self, event: events.Event) -> None:
        self._ready.append(events.table(event, 0, time.time(), 0))
