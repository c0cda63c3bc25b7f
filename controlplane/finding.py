# SPDX-License-Identifier: GPL-2.0-only
"""What the guard says: one line about one thing that forwarded packets would have met."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a port must stay on the slow path. Equal as long as the reason is the same, so that a log line is
    written once."""

    device: str | None
    """The port it concerns, for packets that come in there and for those that leave there; None: every port"""
    text: str


def and_more(number: int) -> str:
    """` (and 12 more rules)`, or nothing."""
    return f" (and {number} more rule{'s' * (number != 1)})" if number > 0 else ""
