# SPDX-License-Identifier: GPL-2.0-only
"""An interface as the data plane knows it: struct interface of bpf/maps.h, and how it comes about."""

import enum
from dataclasses import dataclass

from controlplane import source
from controlplane.link import Link
from controlplane.netdev import NDO_XMIT_SG
from controlplane.settings import HASH_INNER, HASH_LAYER_3, LOOSE, STRICT, Settings

InterfaceFlag = enum.IntFlag("InterfaceFlag", source.interface_flags())
"""enum interface_flag of bpf/maps.h, which says what each means"""

NO_NARROW_ROUTE = 0xFFFFFFFF


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
    bridge: int = 0
    vrf: int = 0

    @property
    def header_len(self) -> int:
        """Bytes of the Ethernet header with its tags."""
        return 14 + 4 * (bool(self.tags) + bool(self.tags >> 16))


def describe(
    link: Link, slot: int, features: int | None, settings: Settings, guarded: bool, wide: bool, narrow: int
) -> Interface:
    """What the data plane must know of a port.

    `features`: XDP feature bits, None where the kernel does not tell; `wide` and `narrow`: of NoteMaps.
    """
    own = settings.of(link.name)
    flags = {
        "TX_MULTI_BUFFER": bool((features or 0) & NDO_XMIT_SG),
        "GUARDED": guarded,
        "REVERSE_PATH_STRICT": own.reverse_path == STRICT,
        "REVERSE_PATH_LOOSE": own.reverse_path == LOOSE,
        "HAIRPIN_IPV4": not own.send_redirects,
        "WIDE_OWN_SOURCES": wide,
        "PASS_IPV6": not settings.ipv6_forwarding,
        "RULES_UNSURE_IPV6": settings.rules6_suppress,
        **_hash_flags(settings),
    }
    return Interface(
        slot=slot,
        mtu=link.mtu,
        mac=link.mac,
        flags=sum(InterfaceFlag[name] for name, wanted in flags.items() if wanted),
        ipv6_mtu=min(link.mtu, own.ipv6_mtu),
        narrow_mtu=narrow,
    )


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
