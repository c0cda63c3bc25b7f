# SPDX-License-Identifier: GPL-2.0-only
"""Work that is done in another network namespace, or in one made for it; the caller stays where it is."""

import ctypes as ct
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from controlplane.errors import ControlPlaneError

_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def in_throwaway_namespace(work: Callable[[], T]) -> T:
    """What `work` returns, called in a thread of its own that has a new, empty network namespace; lo is there, and
    down. The kernel takes the namespace away, with all that was made in it, once the thread and the sockets opened in
    it are gone. Raises ControlPlaneError if there can be none, and what `work` raises.
    """

    def enter() -> None:
        if _libc().unshare(_CLONE_NEWNET) != 0:
            raise ControlPlaneError(f"cannot make a network namespace: {os.strerror(ct.get_errno())}")

    return _in_thread(enter, work)


def in_namespace(path: Path, work: Callable[[], T]) -> T:
    """The same in the namespace that a file stands for. Raises OSError if the file cannot be opened."""

    def enter() -> None:
        with path.open() as file:
            if _libc().setns(file.fileno(), _CLONE_NEWNET) != 0:
                raise ControlPlaneError(f"cannot enter {path}: {os.strerror(ct.get_errno())}")

    return _in_thread(enter, work)


def _in_thread(enter: Callable[[], None], work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            enter()
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="other-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _libc() -> ct.CDLL:
    return ct.CDLL(None, use_errno=True)
