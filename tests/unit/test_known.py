# SPDX-License-Identifier: GPL-2.0-only
"""Known: what each event changes, and when the settings are read anew."""

from dataclasses import replace

import pytest

from controlplane import events, settings
from controlplane.census import RouteCensus
from controlplane.known import Known
from controlplane.link import BridgePort, BridgePortOf, Link
from controlplane.notes import Prefix, RouteNotes
from controlplane.settings import PortSettings, Settings

LEFT = Link(ifindex=5, name="left", mac="02:00:00:00:00:0a", mtu=1500, up=True, carrier=True)
RIGHT = Link(ifindex=6, name="right", mac="02:00:00:00:00:0b", mtu=1500, up=True, carrier=True)


@pytest.fixture
def readings(monkeypatch):
    """The names of each reading."""
    made = []

    def read(_, names) -> Settings:
        made.append(list(names))
        return Settings(ports={name: PortSettings(ipv6_mtu=len(made)) for name in names})

    monkeypatch.setattr(settings.Reader, "read", read)
    return made


def test_links_and_features():
    known = Known(RouteCensus)
    known.take(events.LinkSet(LEFT))
    known.take(events.LinkSet(RIGHT))
    known.take(events.FeaturesSet(5, 0x47))
    assert known.by_name() == {"left": LEFT, "right": RIGHT}
    assert known.features == {5: 0x47}
    known.take(events.LinkGone(5))
    assert known.by_name() == {"right": RIGHT}
    assert known.features == {}
    known.take(events.LinkGone(99))


def test_a_bridge_tells_of_its_members_in_its_own_words():
    known = Known(RouteCensus)
    blocked, forwarding = BridgePort(4), BridgePort(3)
    known.take(events.LinkSet(replace(LEFT, upper_kind="bridge", master=9, membership=blocked)))
    version = known.version
    known.take(events.BridgePortSet(BridgePortOf(5, blocked)))
    assert known.version == version
    known.take(events.BridgePortSet(BridgePortOf(5, forwarding)))
    assert (known.links[5].membership, known.version) == (forwarding, version + 1)
    known.take(events.LinkSet(LEFT))
    known.take(events.BridgePortSet(BridgePortOf(5, forwarding)))  # an old word of a bridge that it has left
    known.take(events.BridgePortSet(BridgePortOf(99, forwarding)))
    assert known.links == {5: LEFT}


@pytest.mark.parametrize("event", [events.LinkSet(LEFT), events.LinkGone(5), events.Resync(True), events.Resync(False)])
def test_what_may_have_taken_routes_along_moves_the_count(event):
    known = Known(RouteCensus)
    known.take(event)
    assert known.silent_changes == 1


def test_a_resync_voids_links_and_features():
    known = Known(RouteCensus)
    known.take(events.LinkSet(LEFT))
    known.take(events.FeaturesSet(5, 1))
    known.take(events.Resync(overrun=True))
    assert (known.links, known.features) == ({}, {})


def test_routes_of_note_are_known_at_once():
    known = Known(RouteCensus)
    known.take(events.RoutesNoted(RouteNotes(own={Prefix(bytes(4), 32)})))
    assert known.routes.notes.own == {Prefix(bytes(4), 32)}


STALE = {
    "an address, rule or sysctl": lambda known: known.take(events.SettingsChanged()),
    "a link": lambda known: known.take(events.LinkSet(LEFT)),
    "a link gone": lambda known: known.take(events.LinkGone(5)),
    "a resync": lambda known: known.take(events.Resync(False)),
    "a second": lambda known: known.tick(),
}


@pytest.mark.parametrize("what", STALE)
def test_settings_are_read_anew_after(what, readings):
    known = Known(RouteCensus)
    known.read_settings({"right", "left"})
    known.read_settings({"left", "right"})
    assert readings == [["left", "right"]]
    STALE[what](known)
    known.read_settings(["left", "right"])
    known.read_settings(["left", "right"])
    assert readings == [["left", "right"]] * 2
    assert known.settings.of("left").ipv6_mtu == 2


def test_settings_of_other_ports_are_read_at_once(readings):
    known = Known(RouteCensus)
    known.read_settings(["left"])
    known.read_settings(["left", "right"])
    known.read_settings([])
    assert readings == [["left"], ["left", "right"], []]
