# SPDX-License-Identifier: GPL-2.0-only
"""From what is known of the kernel to what the data plane should be; worked out anew only when something of it has
changed, since there may be thousands of interfaces and the question comes twice a second."""

from collections.abc import Iterable

from controlplane.dataplane import Dataplane
from controlplane.features import Feature
from controlplane.known import Known
from controlplane.monitor import read_links
from controlplane.place import Kind, Place
from controlplane.port_guard import PortGuard
from controlplane.ports import Ports
from controlplane.reconcile import Desired, Plan, plan
from controlplane.stack import Stack, build


def needed_features(ports: Iterable[str]) -> frozenset[Feature]:
    """What the program has to be compiled with for these ports and what stands on them now, in the caller's network
    namespace."""
    return build(read_links(), ports).needed


class Planner:
    def __init__(self, dataplane: Dataplane, known: Known, ports: Ports, guard: PortGuard):
        self._dataplane = dataplane
        self._known = known
        self._ports = ports
        self._guard = guard
        self._survey = Stack()
        self._surveyed: object = None
        self._plan: Plan | None = None
        self._planned: object = None

    def survey(self) -> Stack:
        """What stands on the ports, whether it can be served now or not."""
        basis = (self._known.version, tuple(self._ports.modes))
        if basis != self._surveyed:
            self._survey = build(self._known.links.values(), self._ports.modes)
            self._surveyed = basis
        return self._survey

    def interfaces(self) -> list[str]:
        """Names of those that the FIB may be asked about."""
        return [place.link.name for place in self.survey().places.values() if _is_interface(place)]

    def tagged_devices(self) -> dict[int, str]:
        """ifindex -> name of the devices by which frames with VLAN tags come in."""
        survey = self.survey()
        if not survey.tagged:
            return {}
        return {
            ifindex: place.link.name
            for ifindex, place in survey.places.items()
            if place.kind in (Kind.PORT, Kind.BOND, Kind.MEMBER)
        }

    def devices(self) -> dict[str, int]:
        """Name -> ifindex of all devices that a forwarded packet meets in the kernel."""
        survey = self.survey()
        out = {place.link.name: ifindex for ifindex, place in survey.places.items()}
        bonds = {ifindex for ifindex, place in survey.places.items() if place.kind is Kind.BOND}
        out |= {link.name: link.ifindex for link in survey.vrfs.values()}
        if bonds:
            out |= {link.name: link.ifindex for link in self._known.links.values() if link.master in bonds}
        return out

    def bridges(self) -> list[str]:
        """Names of those among them."""
        return [place.link.name for place in self.survey().places.values() if place.kind is Kind.BRIDGE]

    def vrf_tables(self) -> tuple[int, ...]:
        """That the lookups of these interfaces end in."""
        return tuple(sorted(link.details.table for link in self.survey().vrfs.values()))

    def plan(self, knows_features: bool) -> tuple[Desired, Plan]:
        """`knows_features`: whether the kernel tells what devices can do."""
        notes = self._dataplane.notes
        links, slots = self._known.by_name(), self._dataplane.slots.owners()
        desired = Desired(
            ports={name: mode for name, mode in self._ports.attachable(links).items() if name in slots},
            slots=slots,
            links=links,
            features=self._known.features if knows_features else None,
            settings=self._known.settings,
            guarded=self._guard.guarded(self._ports.modes),
            wide_own_sources=notes.wide_own_sources,
            narrow_mtu=notes.narrow_mtu,
            found=self._guard.found(),
            stripping=self._known.stripping,
            vrfs=dict(self._dataplane.vrfs.numbers),
            available=self._dataplane.features,
        )
        basis = (
            self._known.version, self._known.settings, dict(desired.ports), desired.slots, knows_features,
            desired.guarded, desired.wide_own_sources, desired.narrow_mtu, desired.found, dict(desired.stripping),
            desired.vrfs, desired.available,
        )  # fmt: skip
        if self._plan is None or basis != self._planned:
            survey = self.survey() if len(desired.ports) == len(self._ports.modes) else None
            self._plan, self._planned = plan(desired, survey), basis
        return desired, self._plan


def _is_interface(place: Place) -> bool:
    return place.kind is not Kind.MEMBER and not place.upper
