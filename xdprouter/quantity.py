# SPDX-License-Identifier: GPL-2.0-only
"""Numbers for people."""


def si(value: float) -> str:
    """With a unit: 999, 1.5k, 12.3M."""
    for unit in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}T"


def duration(seconds: float) -> str:
    """In the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
