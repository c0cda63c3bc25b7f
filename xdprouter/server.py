# SPDX-License-Identifier: GPL-2.0-only
"""The control socket: one request in, one reply out, whatever the request looks like."""

import asyncio
import grp
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import zmq
import zmq.asyncio

from xdprouter import api
from xdprouter.errors import UsageError
from xdprouter.instance import Instance

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
        # Under its own name nobody ever sees the socket with other permissions than it is to have.
        unnamed = self._instance.socket.with_suffix(".new")
        previous = os.umask(0o177)
        try:
            self._socket.bind(f"ipc://{unnamed}")
        finally:
            os.umask(previous)
        _give_to_group(self._instance.directory, unnamed, self._group)
        unnamed.rename(self._instance.socket)
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
            request = api.decode_request(body)
            reply = self._handlers[type(request)](request)
            return api.encode_reply(await reply if inspect.isawaitable(reply) else reply)
        except api.ApiError as error:
            return api.encode_error(error)
        except Exception:
            log.exception("a request failed unexpectedly")
            return api.encode_error(api.ApiError("internal", "the daemon failed on this request; its log says why"))


def _give_to_group(directory: Path, unnamed: Path, group: str) -> None:
    """Let the members of `group`, if it exists, reach the socket in the directory; root alone otherwise."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("no group %s: the control socket is root's alone", group)
        os.chmod(directory, 0o700)
        return
    except OSError as error:
        raise UsageError(f"control_group {group}: {error}") from error
    for path, mode in ((directory, 0o750), (unnamed, 0o660)):
        os.chown(path, 0, gid)
        os.chmod(path, mode)
