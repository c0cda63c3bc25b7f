# SPDX-License-Identifier: GPL-2.0-only
"""At which line of a TOML file something is. tomllib tells that of wrong syntax alone."""

import tomllib

_LONGEST = 5000
"""Lines of a file that is searched: each costs another parse of what comes before it"""


def line_of(text: str, at: tuple[str | int, ...]) -> int | None:
    """The line, from 1, that the value found by these keys and indexes ends at; None if that cannot be told.

    It is the first one behind which the file can be cut off and has the value.
    """
    lines = text.splitlines(keepends=True)
    if not at or len(lines) > _LONGEST:
        return None
    for number in range(1, len(lines) + 1):
        try:
            if _has(tomllib.loads("".join(lines[:number])), at):
                return number
        except (ValueError, RecursionError):
            continue  # in the middle of a value
    return None


def _has(found: object, at: tuple[str | int, ...]) -> bool:
    for step in at:
        if isinstance(step, str) and isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(step, int) and isinstance(found, list) and step < len(found):
            found = found[step]
        else:
            return False
    return True
