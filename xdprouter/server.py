# SPDX-License-Identifier: GPL-2.0-only
"""The control socket: one request in, one reply out, whatever the request looks like."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping

import zmq
import zmq.asyncio

from xdprouter import api, wire
from xdprouter.instance import Instance
from xdprouter.local_socket import bind

log = logging.getLogger("xdprouter.server")

Handler = Callable[[api.Request], object]
"""Request -> reply, or an awaitable of one"""

_LARGEST_FRAME_READ = 16 << 20
"""Larger messages make libzmq close the connection; up to here they get an error for an answer."""


class Server:
    """An async context manager around a ROUTER socket; `serve` answers until cancelled.

    `handlers`: request type -> function that returns a reply dataclass or raises ApiError. Where it returns an
    awaitable of one, others are served meanwhile.
    """

    def __init__(self, instance: Instance, group: str, handlers: Mapping[type, Handler]):
        self._instance = instance
        self._group = group
        self._handlers = handlers
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> "Server":
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_FRAME_READ)
        bind(self._socket, self._instance.socket, self._group)
        return self

    async def __aexit__(self, *_) -> None:
        for task in self._tasks:
            task.cancel()
        self._socket.close()
        self._context.term()
        self._instance.socket.unlink(missing_ok=True)

    async def serve(self) -> None:
        while True:
            *envelope, body = await self._socket.recv_multipart()
            task = asyncio.create_task(self._serve_one(envelope, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # a flood of requests lets the engine have its turns

    async def _serve_one(self, envelope: list[bytes], body: bytes) -> None:
        reply = await self._answer(body)
        # A peer that went away, or that never reads, must not hold up the others.
        try:
            await self._socket.send_multipart([*envelope, reply], flags=zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("a reply was not delivered: %s", error)

    async def _answer(self, body: bytes) -> bytes:
        try:
            request = wire.decode_request(body)
            reply = self._handlers[type(request)](request)
            return wire.encode_reply(await reply if inspect.isawaitable(reply) else reply)
        except api.ApiError as error:
            return wire.encode_error(error)
        except Exception:
            log.exception("a request failed unexpectedly")
            return wire.encode_error(api.ApiError("internal", "the daemon failed on this request; its log says why"))
