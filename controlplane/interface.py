# SPDX-License-Identifier: GPL-2.0-only
"""An interface as the data plane knows it: struct interface of bpf/maps.h, and how it comes about."""

import enum
import functools
import struct
from dataclasses import dataclass

from controlplane import source
from controlplane.netdev import NDO_XMIT_SG
from controlplane.settings import HASH_INNER, HASH_LAYER_3, LOOSE, STRICT, Settings

InterfaceFlag = enum.IntFlag("InterfaceFlag", source.interface_flags())
"""enum interface_flag of bpf/maps.h, which says what each means"""

_BITS = source.interface_flags()
NO_NARROW_ROUTE = 0xFFFFFFFF


_LAYOUT = struct.Struct("=IIII6sHIIIII")
"""struct interface"""


@dataclass(frozen=True, slots=True)
class Interface:
    slot: int
    mtu: int
    mac: str
    flags: int = 0
    ipv6_mtu: int = 0
    narrow_mtu: int = NO_NARROW_ROUTE
    """no route of either family has a smaller MTU that is not locked"""
    tags: int = 0
    """as in bpf/tags.h"""
    upper: int = 0
    """ifindex of the bond or bridge whose the frames are that come in here"""
    bridge: int = 0
    """ifindex of the bridge whose FDB tells by which member a frame leaves"""
    vrf: int = 0
    """its place in vrf_counters"""

    @property
    def header_len(self) -> int:
        """Bytes of the Ethernet header with its tags."""
        return 14 + 4 * (bool(self.tags) + bool(self.tags >> 16))

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            self.slot, self.mtu, self.ipv6_mtu, self.narrow_mtu, bytes.fromhex(self.mac.replace(":", "")), self.flags,
            self.tags, self.header_len, self.upper, self.bridge, self.vrf,
        )  # fmt: skip


@functools.lru_cache(maxsize=2 * source.limits()["MAX_INTERFACES"])
def unpack(raw: bytes) -> Interface:
    """From struct interface. Remembered, since all of them are read again and again."""
    slot, mtu, ipv6_mtu, narrow_mtu, mac, flags, tags, _, upper, bridge, vrf = _LAYOUT.unpack(raw)
    return Interface(slot, mtu, mac.hex(":"), flags, ipv6_mtu, narrow_mtu, tags, upper, bridge, vrf)


class Common:
    """What all interfaces have of the namespace's settings. `wide`, `narrow`: of NoteMaps."""

    def __init__(self, settings: Settings, wide: bool, narrow: int):
        self.settings = settings
        self.narrow = narrow
        self.flags = _sum(
            {
                "WIDE_OWN_SOURCES": wide,
                "PASS_IPV6": not settings.ipv6_forwarding,
                "RULES_UNSURE_IPV6": settings.rules6_suppress,
                **_hash_flags(settings),
            }
        )


def describe(
    name: str, mac: str, mtu: int, slot: int, features: int | None, common: Common, guarded: bool = False,
    tags: int = 0, upper: int = 0, bridge: int = 0, vrf: int = 0,
) -> Interface:  # fmt: skip
    """What the data plane must know of an interface.

    `features`: XDP feature bits of the port by which its frames leave, None where the kernel does not tell.
    """
    own = common.settings.of(name)
    flags = common.flags
    if (features or 0) & NDO_XMIT_SG:
        flags |= _BITS["TX_MULTI_BUFFER"]
    if guarded:
        flags |= _BITS["GUARDED"]
    if own.reverse_path == STRICT:
        flags |= _BITS["REVERSE_PATH_STRICT"]
    elif own.reverse_path == LOOSE:
        flags |= _BITS["REVERSE_PATH_LOOSE"]
    if not own.send_redirects:
        flags |= _BITS["HAIRPIN_IPV4"]
    return Interface(slot, mtu, mac, flags, min(mtu, own.ipv6_mtu), common.narrow, tags, upper, bridge, vrf)


def _sum(flags: dict[str, bool]) -> int:
    return sum(_BITS[name] for name, wanted in flags.items() if wanted)


def _hash_flags(settings: Settings) -> dict[str, bool]:
    """Where multipath hashes something of a packet that a lookup cannot be told."""
    by_layer_3 = settings.hash_policy6 == HASH_LAYER_3
    return {
        "IPV6_FRAGMENT_HASHED": by_layer_3 and not settings.rules6_by_protocol,
        # ip6_route_input() hashes ICMPv6 by itself when it has dissected the packet for such rules.
        "PASS_ICMPV6": settings.rules6_by_protocol,
        "PASS_IPV6_FRAGMENTS": by_layer_3 and settings.rules6_by_protocol,
        "MULTIPATH_UNSURE_IPV4": settings.hash_policy4 >= HASH_INNER,
        "MULTIPATH_UNSURE_IPV6": settings.hash_policy6 >= HASH_INNER,
    }
