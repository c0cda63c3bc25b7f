# SPDX-License-Identifier: GPL-2.0-only
"""sd_notify(3): tells the service manager how the daemon is. Without one it tells nobody, and nothing fails."""

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("xdprouter.systemd")


class Notifier:
    """`environment`: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd.exec(5) has them."""

    def __init__(self, environment: Mapping[str, str] = os.environ):
        path = environment.get("NOTIFY_SOCKET", "")
        # '@' stands for the NUL byte that an abstract address begins with.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s = _watchdog_s(environment) if path else None
        """A sign of life is due at least so often; None: nobody waits for one"""

    def ready(self, status: str) -> None:
        self._send(READY="1", STATUS=status)

    def reloading(self) -> None:
        """`ready` must follow."""
        self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def stopping(self, status: str) -> None:
        self._send(STOPPING="1", STATUS=status)

    def alive(self) -> None:
        self._send(WATCHDOG="1")

    def _send(self, **state: str) -> None:
        if not self._address:
            return
        message = "\n".join(f"{key}={value}" for key, value in state.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(errors="replace"), self._address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", next(iter(state)), error.strerror)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        pid = int(environment.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and pid == os.getpid() else None
