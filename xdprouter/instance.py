# SPDX-License-Identifier: GPL-2.0-only
"""An instance: one daemon in one network namespace, and its folder under /run/xdprouter."""

import fcntl
import os
import re
from pathlib import Path

from xdprouter.errors import UsageError, XdprouterError

RUN_ROOT = Path("/run/xdprouter")
NETNS_DIR = Path("/run/netns")
DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")


class Instance:
    """`netns` is a name under /run/netns, or None for the namespace that the caller is in.

    A namespace entered by other means (`nsenter`, `ip netns exec`) is recognised by its inode, so that
    the same daemon is found whichever way one came.
    """

    def __init__(self, netns: str | None = None):
        self.netns = netns
        name = netns or _name_of_current_netns()
        if not _NAME.fullmatch(name) or name in (".", "..") or (netns == DEFAULT):
            raise UsageError(f"namespace name {name!r} cannot name an instance: use letters, digits and _.@+-")
        self.name = name
        self.directory = RUN_ROOT / name
        self.socket = self.directory / "control.sock"
        self.events_socket = self.directory / "events.sock"

    def check_netns(self) -> None:
        """Raises UsageError if the namespace does not exist."""
        if self.netns and not (NETNS_DIR / self.netns).exists():
            known = ", ".join(sorted(p.name for p in NETNS_DIR.glob("*"))) or "none"
            raise UsageError(f"no network namespace {self.netns!r} (there are: {known})")

    def enter(self) -> None:
        """Move this thread into the namespace; /sys and the mounts stay as they are. Never creates one."""
        self.check_netns()
        if self.netns:
            from pyroute2 import netns

            netns.setns(self.netns, flags=0)

    def lock(self) -> int:
        """Claim the instance for this process; the fd must stay open. Raises XdprouterError if taken."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode().strip()
            os.close(fd)
            option = f" --netns {self.netns}" if self.netns else ""
            raise XdprouterError(
                f"instance {self.name} already has a daemon (pid {pid}): `xdprouter stop{option}` ends it"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd


def _name_of_current_netns() -> str:
    here = os.stat("/proc/self/ns/net")
    if NETNS_DIR.is_dir():
        for path in NETNS_DIR.iterdir():
            try:
                found = path.stat()
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino):
                return path.name
    return DEFAULT
