# SPDX-License-Identifier: GPL-2.0-only
"""Netlink in, typed events out. Subscribes before it dumps, so that nothing falls between the two."""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass

from controlplane.errors import NetlinkOverrun
from controlplane.events import (
    BridgePortSet,
    Event,
    FeaturesSet,
    FirewallChanged,
    LinkGone,
    LinkSet,
    Resync,
    RoutesNoted,
    SettingsChanged,
    Synced,
)
from controlplane.guard import GuardWatch
from controlplane.link import IFINFOMSG, RTM_GETLINK, RTM_NEWLINK, BridgePortOf, Link, links_of
from controlplane.netdev import NetdevSocket
from controlplane.netlink import (
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_LINK,
    RTNLGRP_SETTINGS,
    NetlinkSocket,
    attribute,
    messages,
)
from controlplane.notes import RouteNotes

_EXT_MASK, _SKIP_STATS = 29, 1 << 3  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS


@dataclass
class NetlinkCounters:
    events: int = 0
    overruns: int = 0
    resyncs: int = 0


def dump_links(sock: NetlinkSocket) -> list[bytes]:
    """All devices of the socket's namespace, without their statistics."""
    skip_statistics = attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    return sock.dump(RTM_GETLINK, IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0) + skip_statistics)


def read_links() -> list[Link]:
    """All devices of the caller's network namespace, as they are now."""
    with NetlinkSocket() as sock:
        return [link for data in dump_links(sock) for _, link in links_of(data) if isinstance(link, Link)]


class NetlinkMonitor:
    """An async context manager. `wait()` waits for an event and leaves it where it is, `take()` takes all there are: so
    whoever takes some, while another waits, has them in the kernel's order.

    After an overrun the queue is thrown away and the same dump as at the start follows, between
    `Resync` and `Synced`: there is one code path to the truth.
    """

    def __init__(self, receive_buffer: int, route_filter_fd: int, guard_watch: GuardWatch):
        self.counters = NetlinkCounters()
        self._receive_buffer = receive_buffer
        self._route_filter_fd = route_filter_fd
        self._guard_watch = guard_watch
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> "NetlinkMonitor":
        self._loop = asyncio.get_running_loop()
        self._routes = NetlinkSocket(receive_buffer=self._receive_buffer)
        self._routes.attach_filter(self._route_filter_fd)
        self._routes.join(RTNLGRP_IPV4_ROUTE)
        self._routes.join(RTNLGRP_IPV6_ROUTE)
        self._netdev = NetdevSocket()
        self._links = NetlinkSocket(receive_buffer=self._receive_buffer)
        self._links.join(RTNLGRP_LINK)
        self._settings = NetlinkSocket(receive_buffer=self._receive_buffer)
        for group in RTNLGRP_SETTINGS:
            self._settings.join(group)
        self._dump(overrun=False)
        self._loop.add_reader(self._links, self._links_readable)
        self._loop.add_reader(self._netdev.socket, self._netdev_readable)
        self._loop.add_reader(self._routes, self._routes_readable)
        self._loop.add_reader(self._settings, self._settings_readable)
        self.follow_firewall()
        return self

    async def __aexit__(self, *_) -> None:
        for sock in (self._links, self._netdev.socket, self._routes, self._settings):
            self._loop.remove_reader(sock)
            sock.close()
        self.leave_firewall()

    def follow_firewall(self) -> None:
        """The guard's watch has opened its sockets."""
        for sock in self._guard_watch.sockets:
            self._loop.add_reader(sock, self._firewall_readable)

    def leave_firewall(self) -> None:
        """It is about to close them."""
        for sock in self._guard_watch.sockets:
            self._loop.remove_reader(sock)

    @property
    def knows_features(self) -> bool:
        """Whether the kernel tells which devices can transmit redirected frames."""
        return self._netdev.available

    async def wait(self) -> None:
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()

    def take(self) -> list[Event]:
        """The oldest first."""
        out = list(self._queue)
        self._queue.clear()
        return out

    def read_now(self) -> list[Event]:
        """As `take`, with everything that the kernel has announced up to now: the loop need not have found it readable."""
        for read in (self._links_readable, self._netdev_readable, self._routes_readable, self._settings_readable):
            read()
        self._firewall_readable()
        return self.take()

    def _put(self, *events: Event) -> None:
        self._queue.extend(events)
        self._wake.set()

    def _links_readable(self) -> None:
        try:
            while (data := self._links.receive()) is not None:
                self._put(*self._link_events(data))
        except NetlinkOverrun:
            self.counters.overruns += 1
            self._drain()
            self._dump(overrun=True)

    def _netdev_readable(self) -> None:
        try:
            while (data := self._netdev.socket.receive()) is not None:
                self._put(*(FeaturesSet(*entry) for entry in self._netdev.parse(data)))
        except NetlinkOverrun:
            self.counters.overruns += 1
            self._dump(overrun=True)

    def _routes_readable(self) -> None:
        """Only what the filter lets through."""
        notes = RouteNotes()
        try:
            while (data := self._routes.receive()) is not None:
                for offset, _, _, length in messages(data):
                    notes.take(data, offset, length)
        except NetlinkOverrun:
            self.counters.overruns += 1
            self._drain()
            self._dump(overrun=True)
            return
        if notes != RouteNotes():
            self._put(RoutesNoted(notes))

    def _settings_readable(self) -> None:
        """What it says is read from where it is now: an overrun loses nothing."""
        heard = 0
        try:
            while self._settings.receive() is not None:
                heard += 1
        except NetlinkOverrun:
            self.counters.overruns += 1
            heard += 1
        self.counters.events += heard
        if heard:
            self._put(SettingsChanged())

    def _firewall_readable(self) -> None:
        if self._guard_watch.drain():
            self.counters.events += 1
            self._put(FirewallChanged())

    def _drain(self) -> None:
        """What is still queued in the sockets is older than the dump that follows."""
        for sock in (self._links, self._routes):
            empty = False
            while not empty:
                try:
                    empty = sock.receive() is None
                except NetlinkOverrun:
                    continue

    def _dump(self, overrun: bool) -> None:
        self.counters.resyncs += overrun
        self._queue.clear()
        self._put(Resync(overrun))
        with NetlinkSocket(receive_buffer=self._receive_buffer) as sock:
            for data in dump_links(sock):
                self._put(*self._link_events(data))
        if self._netdev.available:
            self._put(*(FeaturesSet(*entry) for entry in self._netdev.dump().items()))
        self._put(Synced())

    def _link_events(self, data: bytes) -> list[Event]:
        found = list(links_of(data))
        self.counters.events += len(found)
        return [_link_event(kind, link) for kind, link in found]


def _link_event(kind: int, found: Link | BridgePortOf) -> Event:
    if isinstance(found, BridgePortOf):
        return BridgePortSet(found)
    return LinkSet(found) if kind == RTM_NEWLINK else LinkGone(found.ifindex)
