# SPDX-License-Identifier: GPL-2.0-only
"""What of a packet the FIB's answer can depend on, so that the cache must have it in its key. Pure; errs on the
wide side."""

from dataclasses import dataclass, fields

from controlplane.notes import BY_SOURCE, BY_TOS, MULTIPATH
from controlplane.settings import HASH_LAYER_3, HASH_LAYER_4, Settings


@dataclass(frozen=True, slots=True)
class Key:
    """Besides the destination, which is always in it."""

    source: bool = False
    ports: bool = False
    protocol: bool = False
    tos: bool = False
    ingress: bool = False
    label: bool = False
    reasons: int = 0
    """Kinds of routes that are reckoned with (enum reason of bpf/maps.h): others stop the cache when they come"""

    @property
    def wide(self) -> bool:
        return any(getattr(self, name) for name in _PARTS)

    def __or__(self, other: "Key") -> "Key":
        return Key(*(getattr(self, field.name) | getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        return ", ".join(["destination", *(name for name in _PARTS if getattr(self, name))])


_PARTS = [field.name for field in fields(Key) if field.name != "reasons"]


def key_for(settings: Settings, reasons: int) -> Key:
    """`reasons`: what kinds of routes there are (RouteNotes.reasons)."""
    if settings.nexthop_groups:
        reasons |= MULTIPATH
    key = Key(reasons=reasons)
    for selector in settings.rule_selectors:
        key |= Key(**{selector: True})
    if reasons & BY_SOURCE:
        key |= Key(source=True)
    if reasons & BY_TOS:
        key |= Key(tos=True)
    if reasons & MULTIPATH:
        key |= Key(source=True)
        if HASH_LAYER_4 in (settings.hash_policy4, settings.hash_policy6):
            key |= Key(ports=True, protocol=True)
        if settings.hash_policy6 == HASH_LAYER_3:
            key |= Key(protocol=True, label=True)
    if not all(port.forwarding for port in settings.ports.values()):
        key |= Key(ingress=True)
    return key
