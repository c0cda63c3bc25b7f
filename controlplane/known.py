# SPDX-License-Identifier: GPL-2.0-only
"""What is known of the kernel, from the monitor's events."""

import logging
from collections.abc import Callable, Iterable

from controlplane import events, settings
from controlplane.census import RouteCensus, RouteCounter
from controlplane.link import Link
from controlplane.settings import Settings

log = logging.getLogger("xdprouter.known")


class Known:
    def __init__(self, count_routes: Callable[[], RouteCensus]):
        self.links: dict[int, Link] = {}
        self.features: dict[int, int] = {}
        self.settings = Settings()
        self.routes = RouteCounter(count_routes)
        self.silent_changes = 0
        """Links that went down and nexthops that were deleted took their routes along without a word about them."""
        self.firewall_stale = True
        self.settings_stale = True

    def take(self, event: events.Event) -> None:
        match event:
            case events.LinkSet(link):
                self.links[link.ifindex] = link
                self._link_changed()
            case events.LinkGone(ifindex):
                self.links.pop(ifindex, None)
                self.features.pop(ifindex, None)
                self._link_changed()
            case events.FeaturesSet(ifindex, features):
                self.features[ifindex] = features
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

    def read_settings(self, ports: Iterable[str]) -> None:
        """Anew, if they may have changed or there are other ports."""
        names = sorted(ports)
        if self.settings_stale or sorted(self.settings.ports) != names:
            self.settings = settings.read(names)
            self.settings_stale = False

    def by_name(self) -> dict[str, Link]:
        return {link.name: link for link in self.links.values()}

    def _link_changed(self) -> None:
        self.silent_changes += 1
        self.settings_stale = True
