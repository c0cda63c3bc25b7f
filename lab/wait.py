"""The one bounded wait. Nothing else in the lab or its tests sleeps."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import LabTimeout

T = TypeVar("T")

POLL_INTERVAL_S = 0.02
PATIENCE = float(os.environ.get("XDPROUTER_LAB_PATIENCE", "1"))
"""How many times longer than on an ordinary machine every wait may last: an emulated one is twenty times slower. Questions
are as much rarer, so that it has time for what is waited for."""


def wait_until(predicate: Callable[[], T], timeout_s: float, what: str) -> T:
    """Call `predicate` until it returns something true, and return that.

    It is called at least once, and once more after the time is up, so that a slow machine does not
    fail a condition that holds. Raises LabTimeout naming `what`; the predicate's own exceptions pass
    through.
    """
    timeout_s *= PATIENCE
    deadline = time.monotonic() + timeout_s
    while True:
        last_try = time.monotonic() >= deadline
        if result := predicate():
            return result
        if last_try:
            raise LabTimeout(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(POLL_INTERVAL_S * PATIENCE)
