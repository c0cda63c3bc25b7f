# SPDX-License-Identifier: GPL-2.0-only
"""A frame out of a capture file."""

import logging
from pathlib import Path

from scapy.error import Scapy_Exception
from scapy.utils import RawPcapNgReader, RawPcapReader

from xdprouter.errors import UsageError

ETHERNET = 1
"""LINKTYPE_ETHERNET"""


def frame(path: Path, number: int) -> bytes:
    """The frame of that number, from 1. Raises UsageError."""
    # scapy tells of odd blocks in its log, which would be lines of their own on stderr.
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    try:
        with RawPcapReader(str(path)) as reader:
            return _nth(path, reader, number)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (Scapy_Exception, EOFError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise UsageError(f"{path} is no capture that can be read: {error or type(error).__name__}") from None


def _nth(path: Path, reader: RawPcapReader, number: int) -> bytes:
    count = 0
    for count, (data, about) in enumerate(reader, start=1):
        if count < number:
            continue
        linktype = about.linktype if isinstance(reader, RawPcapNgReader) else reader.linktype
        if linktype != ETHERNET:
            raise UsageError(
                f"packet {number} of {path} has no Ethernet header (link type {linktype}): capture on the port itself, "
                "such as tcpdump -i PORT"
            )
        if len(data) < about.wirelen:
            raise UsageError(
                f"packet {number} of {path} was cut to {len(data)} of its {about.wirelen} bytes: capture with tcpdump -s 0"
            )
        return data
    raise UsageError(f"{path} has no packet {number}: {count or 'none'} {'is' if count == 1 else 'are'} in it")
