# SPDX-License-Identifier: GPL-2.0-only
"""A network namespace without a name, for one piece of work."""

import ctypes as ct
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from controlplane.errors import ControlPlaneError

_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def in_throwaway_namespace(work: Callable[[], T]) -> T:
    """What `work` returns, called in a thread of its own that has a new, empty network namespace; lo is there, and
    down. The kernel takes the namespace away, with all that was made in it, once the thread and the sockets opened in
    it are gone. Raises ControlPlaneError if there can be none, and what `work` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            libc = ct.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise ControlPlaneError(f"cannot make a network namespace: {os.strerror(ct.get_errno())}")
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="throwaway-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
