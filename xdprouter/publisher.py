# SPDX-License-Identifier: GPL-2.0-only
"""The event socket: whoever subscribes hears what happens from then on. Nobody who does not read holds up the daemon:
what does not fit into a subscriber's queue is dropped, and the gap in `seq` tells that subscriber."""

import asyncio
import logging
import os
import time

import zmq

from xdprouter import events
from xdprouter.instance import Instance
from xdprouter.local_socket import bind

log = logging.getLogger("xdprouter.publisher")

QUEUE = 1000
"""Events that wait for one subscriber, beside what the kernel's socket buffers hold"""
ALIVE_S = 1.0
_LINGER_MS = 100
"""At the end, slow subscribers are waited for so long."""
_LARGEST_FRAME_READ = 1024
"""Subscribers have nothing to say but which kinds they want."""


class Publisher:
    """A context manager around a PUB socket. `publish` before or after it is open is no error, and tells nobody."""

    def __init__(self, instance: Instance, group: str):
        self._path = instance.events_socket
        self._group = group
        self._socket: zmq.Socket | None = None
        self._seq = 0

    def __enter__(self) -> "Publisher":
        self._context = zmq.Context()
        sock = self._context.socket(zmq.PUB)
        sock.setsockopt(zmq.SNDHWM, QUEUE)
        sock.setsockopt(zmq.LINGER, _LINGER_MS)
        sock.setsockopt(zmq.MAXMSGSIZE, _LARGEST_FRAME_READ)
        try:
            bind(sock, self._path, self._group)
        except BaseException:
            sock.close()
            self._context.term()
            raise
        self._socket = sock
        return self

    def __exit__(self, *_) -> None:
        sock, self._socket = self._socket, None
        sock.close()
        self._context.term()
        self._path.unlink(missing_ok=True)

    def publish(self, event: events.Event) -> None:
        """Never waits, never raises for a subscriber's sake."""
        self._seq += event.KIND != events.Alive.KIND
        if self._socket is None:
            return
        message = events.table(event, self._seq, time.time(), os.getpid())
        try:
            self._socket.send_multipart(events.encode(message), flags=zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("event %d was not published: %s", self._seq, error)

    async def keep_alive(self) -> None:
        """Until cancelled. Also puts new subscriptions into force, which the library does when something is sent."""
        while True:
            self.publish(events.Alive())
            await asyncio.sleep(ALIVE_S)
