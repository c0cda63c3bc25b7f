# SPDX-License-Identifier: GPL-2.0-only
"""One named packet. All of them are sent under every configuration."""

from collections.abc import Callable
from dataclasses import dataclass

from scapy.packet import Packet

from tests.conformance.configurations import destination


@dataclass(frozen=True)
class Case:
    row: str
    """of rows.py"""
    name: str
    frame: bytes
    ingress: str = "in0"
    limited: bool = False
    """compares the errors that the kernel limits: no other case has this source, or causes a redirect to its next hop"""


def case(row: str, name: str, packet: Packet | bytes, ingress: str = "in0") -> Case:
    return Case(row, name, bytes(packet), ingress)


def both(row: str, name: str, build: Callable[[int], Packet], ingress: str = "in0") -> list[Case]:
    """The same case for IPv4 and IPv6; `build` is called with the family."""
    return [case(row, f"ipv{family} {name}", build(family), ingress) for family in (4, 6)]


def out(family: int) -> str:
    """An address that most configurations route to out0."""
    return destination("out", family)
