# SPDX-License-Identifier: GPL-2.0-only
"""What is known of the kernel, from the monitor's events."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from controlplane import events, settings
from controlplane.census import RouteCensus, RouteCounter
from controlplane.link import Link
from controlplane.offload import Offloads
from controlplane.settings import Settings

log = logging.getLogger("xdprouter.known")


class Known:
    def __init__(self, count_routes: Callable[[Iterable[int]], RouteCensus]):
        self.links: dict[int, Link] = {}
        self.features: dict[int, int] = {}
        self.version = 0
        """Moves with links and features."""
        self.settings = Settings()
        self.stripping: dict[int, frozenset[int]] = {}
        """ifindex -> protocols of VLAN tags that the hardware strips, of the devices asked about"""
        self.routes = RouteCounter(count_routes)
        self.silent_changes = 0
        """Links that went down and nexthops that were deleted took their routes along without a word about them."""
        self.firewall_stale = True
        self.settings_stale = True
        self._reader = settings.Reader()
        self._offloads = Offloads()
        self._names: dict[str, Link] = {}
        self._names_version = -1

    def take(self, event: events.Event) -> None:
        match event:
            case events.LinkSet(link):
                self.links[link.ifindex] = link
                self._link_changed()
            case events.LinkGone(ifindex):
                self.links.pop(ifindex, None)
                self.features.pop(ifindex, None)
                self._link_changed()
            case events.BridgePortSet(port):
                link = self.links.get(port.ifindex)
                if link is not None and link.upper_kind == "bridge" and link.membership != port.membership:
                    self.links[port.ifindex] = replace(link, membership=port.membership)
                    self.version += 1
            case events.FeaturesSet(ifindex, features):
                self.features[ifindex] = features
                self.version += 1
            case events.RoutesNoted(notes):
                self.routes.announce(notes)
            case events.SettingsChanged():
                self.settings_stale = True
                self.silent_changes += 1
            case events.FirewallChanged():
                self.firewall_stale = True
            case events.Resync(overrun):
                self.links.clear()
                self.features.clear()
                self._link_changed()
                if overrun:
                    self.routes.overrun()
                    log.warning("netlink events were lost; everything is read anew")
            case events.Synced():
                pass

    def tick(self) -> None:
        """Twice a second: most sysctls change without an event."""
        self.settings_stale = True

    def read_settings(self, interfaces: Iterable[str], tagged: Mapping[int, str] = MappingProxyType({})) -> None:
        """Anew, if they may have changed or there are other interfaces. `tagged`: devices (ifindex -> name) by which
        frames with VLAN tags come in."""
        names = sorted(interfaces)
        if self.settings_stale or sorted(self.settings.ports) != names:
            found = self._reader.read(names)
            if found != self.settings:
                self.settings = found
            stripping = self._offloads.stripping(tagged.values())
            self.stripping = {ifindex: stripping[name] for ifindex, name in tagged.items() if name in stripping}
            self.settings_stale = False

    def by_name(self) -> dict[str, Link]:
        """Not to be changed."""
        if self._names_version != self.version:
            self._names = {link.name: link for link in self.links.values()}
            self._names_version = self.version
        return self._names

    def close(self) -> None:
        self._offloads.close()

    def _link_changed(self) -> None:
        self.version += 1
        self.silent_changes += 1
        self.settings_stale = True
