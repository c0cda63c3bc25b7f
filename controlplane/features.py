# SPDX-License-Identifier: GPL-2.0-only
"""What the program can be compiled with: FEATURE_* of bpf/features.h. What the links do not need is left out."""

import enum
from collections.abc import Iterable


class Feature(enum.StrEnum):
    VLAN = "vlan"
    """802.1Q and 802.1ad tags, one or two"""
    UPPER = "upper"
    """frames that belong to a device above the one they came in on: bonds, bridges"""
    BRIDGE = "bridge"
    """bridges that hold addresses; needs UPPER"""
    VRF = "vrf"
    """counters by VRF"""


NONE: frozenset[Feature] = frozenset()
ALL = frozenset(Feature)


def definitions(features: Iterable[Feature]) -> tuple[str, ...]:
    """For the compiler."""
    return tuple(sorted(f"-DFEATURE_{feature.name}=1" for feature in features))
