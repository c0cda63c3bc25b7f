# SPDX-License-Identifier: GPL-2.0-only
"""A daemon's socket in the instance's folder: root's, and the control group's if there is one."""

import grp
import logging
import os
from pathlib import Path

import zmq

from xdprouter.errors import UsageError

log = logging.getLogger("xdprouter.server")


def bind(sock: zmq.Socket, path: Path, group: str) -> None:
    """Bind to `path`, where nobody ever sees it with other permissions than it is to have. Raises UsageError."""
    unnamed = path.with_suffix(".new")
    previous = os.umask(0o177)
    try:
        sock.bind(f"ipc://{unnamed}")
    finally:
        os.umask(previous)
    give_to_group(unnamed, group)
    unnamed.rename(path)


def give_to_group(path: Path, group: str) -> None:
    """Let the members of `group`, if it exists, reach the socket and its directory; root alone otherwise. Whoever is
    connected stays so. Raises UsageError."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("no group %s: %s is root's alone", group, path.with_suffix(".sock").name)
        os.chmod(path, 0o600)
        os.chmod(path.parent, 0o700)
        return
    except OSError as error:
        raise UsageError(f"control_group {group}: {error}") from error
    for given, mode in ((path.parent, 0o750), (path, 0o660)):
        os.chown(given, 0, gid)
        os.chmod(given, mode)
