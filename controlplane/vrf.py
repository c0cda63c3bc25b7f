# SPDX-License-Identifier: GPL-2.0-only
"""VRFs: their numbers in the data plane, which a name keeps while the VRF exists, and what they have carried."""

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.counters import Traffic
from controlplane.source import limits

NOTHING = Traffic()


@dataclass(frozen=True, slots=True)
class VrfTraffic:
    """What came in by the interfaces of a VRF."""

    forwarded: Traffic = NOTHING
    passed: Traffic = NOTHING
    dropped: Traffic = NOTHING


class Vrfs:
    """`tables`: BCC's tables by name. What earlier processes gave out is read back."""

    def __init__(self, tables):
        self._owners = tables[b"vrf_owners"]
        self._counters = tables[b"vrf_counters"]
        self.numbers = {leaf.name.decode(): key.value for key, leaf in self._owners.items() if leaf.name}
        """name -> number"""

    def sync(self, existing: Iterable[str], used: Iterable[str]) -> None:
        """Numbers for those that are `used`, with counters at zero; none any more for those that are not `existing`.
        One for which there is no number left has none: it is not counted."""
        existing = set(existing)
        for name in [name for name in self.numbers if name not in existing]:
            self._owners[self.numbers.pop(name)] = self._owners.Leaf(b"")
        free = iter(sorted(set(range(1, limits()["MAX_VRFS"])) - set(self.numbers.values())))
        for name in used:
            if name not in self.numbers and (number := next(free, None)) is not None:
                self._counters[number] = type(self._counters[number])()
                self._owners[number] = self._owners.Leaf(name.encode())
                self.numbers[name] = number

    def traffic(self, name: str) -> VrfTraffic:
        if name not in self.numbers:
            return VrfTraffic()
        cpus = list(self._counters[self.numbers[name]])
        return VrfTraffic(
            *(
                Traffic(sum(getattr(cpu, kind).packets for cpu in cpus), sum(getattr(cpu, kind).bytes for cpu in cpus))
                for kind in ("forwarded", "passed", "dropped")
            )
        )
