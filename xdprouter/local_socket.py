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
    _give_to_group(path.parent, unnamed, group)
    unnamed.rename(path)


def _give_to_group(directory: Path, unnamed: Path, group: str) -> None:
    """Let the members of `group`, if it exists, reach the socket in the directory; root alone otherwise."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("no group %s: %s is root's alone", group, unnamed.with_suffix(".sock").name)
        os.chmod(directory, 0o700)
        return
    except OSError as error:
        raise UsageError(f"control_group {group}: {error}") from error
    for path, mode in ((directory, 0o750), (unnamed, 0o660)):
        os.chown(path, 0, gid)
        os.chmod(path, mode)
