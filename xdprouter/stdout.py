# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of a command whose output nobody takes: one line and an exit code, never a traceback, never silence.

A reader that has gone (`| head -1`) wants no more, so nothing is said of it; a full disk or a closed standard output is
an error.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from xdprouter.errors import XdprouterError

_OF_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}
"""No socket of ours gives these"""


def check_open() -> None:
    """Raises XdprouterError where the shell has closed it (`>&-`): Python would drop what is printed."""
    if sys.stdout is None:
        raise XdprouterError("the standard output is closed: there is nowhere to write to")


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """All that is printed within the block has been written at its end. Raises XdprouterError if it could not be, and
    BrokenPipeError if nobody reads any more."""
    try:
        yield
    except OSError as error:
        # With a buffer it still fails; without one, what was to be written is lost, and only the number tells.
        if _flush() is None and error.errno not in _OF_FILES:
            raise
        raise _told(error) from None
    except SystemExit as end:
        error = _flush()
        if error and not end.code:
            raise _told(error) from None
        raise
    except BaseException:
        _flush()
        raise
    if error := _flush():
        raise _told(error)


def occupy_standard_streams() -> None:
    """Whatever is closed of them leads nowhere, so that no socket or map gets a number that libraries write to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def complain(text: str) -> None:
    """A line on stderr, if that takes it."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def abandon(stream: TextIO) -> None:
    """What Python still holds goes nowhere; else it would try once more at exit."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _told(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return XdprouterError(f"cannot write to the standard output: {error.strerror or error}")


def _flush() -> OSError | None:
    """Why it could not be written, if it could not."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        abandon(sys.stdout)
        return error
    return None
