# SPDX-License-Identifier: GPL-2.0-only
"""Where xdprouter is known to do otherwise than the kernel, and why. Each entry is pinned by a test.

Take an entry out when its difference is mended: its test fails then. There is none at present.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.configurations import Configuration


@dataclass(frozen=True)
class Known:
    reason: str
    holds: Callable[[Configuration, bytes], bool]
    """whether a frame, under a configuration, may differ for this reason"""
    configuration: str
    """where its case shows it"""
    case: str


KNOWN: list[Known] = []


def reason(configuration: Configuration, frame: bytes) -> str:
    """Why this frame may differ; empty if nothing is known."""
    return next((one.reason for one in KNOWN if one.holds(configuration, frame)), "")
