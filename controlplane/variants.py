# SPDX-License-Identifier: GPL-2.0-only
"""What the program can be compiled with: each choice makes another program, which the kernel must take as well."""

import itertools
from dataclasses import dataclass

FEATURES = ((), ("VLAN",), ("VRF",), ("UPPER",), ("UPPER", "BRIDGE"), ("VLAN", "UPPER", "BRIDGE", "VRF"))
"""Of bpf/features.h: each alone with what it needs, and all of them"""
CACHE_SETS = (0, 1024)
"""Each stands for one way to compile the cache"""


@dataclass(frozen=True)
class Variant:
    """Arguments of Dataplane."""

    defines: tuple[str, ...]
    cache_sets: int

    def __str__(self) -> str:
        names = [define.removeprefix("-DFEATURE_").removesuffix("=1") for define in self.defines]
        return "-".join(names or ["none"]) + f"-{self.cache_sets}"


def variants() -> list[Variant]:
    return [
        Variant(tuple(f"-DFEATURE_{name}=1" for name in features), sets)
        for features, sets in itertools.product(FEATURES, CACHE_SETS)
    ]
