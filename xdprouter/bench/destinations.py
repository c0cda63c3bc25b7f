# SPDX-License-Identifier: GPL-2.0-only
"""Which destinations packets go to, in which order, and how long the packets are. Pure."""

import itertools
import random
from array import array
from collections.abc import Sequence

HOT = 4096
POPULATION = 1 << 20
ZIPF_EXPONENT = 1.1
DISTRIBUTIONS = ("hot", "zipf", "uniform")

# IMIX: 7 : 4 : 1, spread out so that no burst has one size alone. Bytes of the frame without FCS.
MIX_SMALL, MIX_MEDIUM, MIX_LARGE = 64, 570, 1514
IMIX = (
    MIX_SMALL, MIX_MEDIUM, MIX_SMALL, MIX_SMALL, MIX_MEDIUM, MIX_SMALL,
    MIX_LARGE, MIX_SMALL, MIX_MEDIUM, MIX_SMALL, MIX_SMALL, MIX_MEDIUM,
)  # fmt: skip


def draw(distribution: str, length: int, seed: int = 1) -> array:
    """Destinations by number, 0 and up, in the order in which they are sent to; the same in every run.

    `hot`: 4,096 of them, one after the other, whatever the length. `uniform`: each of 2^20 as likely.
    `zipf`: number k with a weight of 1 / (k + 1)^1.1.
    """
    generator = random.Random(seed)
    if distribution == "hot":
        return array("I", range(HOT))
    if distribution == "uniform":
        return array("I", generator.choices(range(POPULATION), k=length))
    weights = itertools.accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(POPULATION))
    return array("I", generator.choices(range(POPULATION), cum_weights=list(weights), k=length))


def population(distribution: str) -> int:
    """How many destinations there are."""
    return HOT if distribution == "hot" else POPULATION


def sequence(family: int, addresses: Sequence[int], order: array) -> bytes:
    """The generator's map: addresses[number] for each number of `order`, as in the packet. IPv4 addresses,
    4 bytes each, or the upper halves of IPv6 addresses, 8 bytes each."""
    out = array("I" if family == 4 else "Q", map(addresses.__getitem__, order))
    out.byteswap()  # the machines that BCC's programs and this run on store the low byte first
    return out.tobytes()


def turns(size: int) -> int:
    """A bit for each place in IMIX that has this size."""
    return sum(1 << place for place, here in enumerate(IMIX) if here == size)
