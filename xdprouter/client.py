# SPDX-License-Identifier: GPL-2.0-only
"""Asks the daemon of an instance."""

import socket
from pathlib import Path

from xdprouter import api, wire
from xdprouter.errors import NoAnswer, NoDaemon, UsageError, XdprouterError
from xdprouter.instance import Instance

TIMEOUT_MS = 10_000


def ask(instance: Instance, request: api.Request) -> dict:
    """The reply as a table. Raises NoDaemon, or XdprouterError with the daemon's own words."""
    import zmq  # the commands that ask nobody do without it

    check_listening(instance, instance.socket)
    with zmq.Context() as context, context.socket(zmq.REQ) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(f"ipc://{instance.socket}")
        sock.send(wire.encode_request(request))
        if not sock.poll(TIMEOUT_MS):
            raise NoAnswer(f"the daemon of instance {instance.name} did not answer in {TIMEOUT_MS // 1000} s")
        try:
            return wire.decode_reply(sock.recv())
        except api.ApiError as error:
            raise (UsageError if error.kind == "configuration" else XdprouterError)(str(error)) from None


def check_listening(instance: Instance, path: Path) -> None:
    """Raises NoDaemon, NoAnswer or XdprouterError: pyzmq would wait for ever for a socket that nobody serves."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            instance.check_netns()
            option = f" --netns {instance.netns}" if instance.netns else ""
            raise NoDaemon(
                f"no daemon in instance {instance.name}: start one with `xdprouter run{option} -i PORT`"
            ) from None
        except BlockingIOError:
            raise NoAnswer(f"the daemon of instance {instance.name} does not answer: too many wait for it") from None
        except PermissionError:
            raise XdprouterError(
                f"not allowed to use {path}: be root, or a member of the daemon's control_group"
            ) from None
