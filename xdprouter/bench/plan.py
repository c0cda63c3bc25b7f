# SPDX-License-Identifier: GPL-2.0-only
"""Which scenarios are measured, and how thoroughly. Pure.

Every size of the routing table meets every distribution of destinations, with the first value of all
else. The other update rates, numbers of cores and packet sizes vary one at a time, over the largest table
of each family: all combinations would take hours.
"""

import dataclasses
from dataclasses import dataclass

from xdprouter.bench.results import Scenario


@dataclass(frozen=True)
class Plan:
    routes: tuple[int, ...] = (1, 10_000, 100_000, 1_000_000)
    routes6: tuple[int, ...] = (1, 10_000, 200_000)
    destinations: tuple[str, ...] = ("hot", "zipf", "uniform")
    updates: tuple[int, ...] = (0, 100, 1_000, 10_000)
    cores: tuple[int, ...] = (1, 2)
    sizes: tuple[str, ...] = ("64", "imix", "1500")
    next_hops: int = 1
    cache_entries: int = 1 << 18
    """as the configuration's key: of the contender `xdprouter`"""
    rounds: int = 5
    seconds: float = 0.25
    """of each contender in each round, about"""
    packets: int = 0
    """of each contender in each round, instead of seconds; 0: as many as fit"""
    sequence: int = 1 << 22
    """destinations drawn beforehand, over and over again; a power of two"""
    vlan: bool = False
    """also frames that come in with one VLAN's tag and leave with another's"""
    seeds: bool = False
    programs: tuple[int, ...] = ()
    """ids of other XDP programs to measure as well"""

    def scenarios(self) -> list[Scenario]:
        """In the order of measuring: family by family, tables only ever grow."""
        out: list[Scenario] = []
        for family, sizes in ((4, self.routes), (6, self.routes6)):
            for routes in sorted(sizes):
                for destinations in self.destinations:
                    base = Scenario(
                        family, routes, destinations, self.updates[0], self.cores[0], self.sizes[0], self.next_hops
                    )
                    out.append(base)
                    if routes == max(sizes):
                        out += [dataclasses.replace(base, updates=rate) for rate in self.updates[1:]]
                        out += [dataclasses.replace(base, cores=cores) for cores in self.cores[1:]]
                        out += [dataclasses.replace(base, size=size) for size in self.sizes[1:]]
        return out


QUICK = Plan(
    routes=(1, 100_000), routes6=(10_000,), destinations=("hot", "zipf"), updates=(0, 1_000), cores=(1,), sizes=("64",),
    rounds=3, seconds=0.1, sequence=1 << 20,
)  # fmt: skip
"""done within a minute"""
