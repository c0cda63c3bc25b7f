# SPDX-License-Identifier: GPL-2.0-only
"""What the engine knows, as replies: what is worked out on the way, and not only named otherwise."""

import dataclasses

import pytest

from controlplane import neighbour
from controlplane.census import RouteCensus
from controlplane.counters import PortCounters, Rates, Traffic
from controlplane.link import Link, Vrf
from controlplane.monitor import NetlinkCounters
from controlplane.notes import Prefix
from controlplane.place import InterfaceState, Kind, Shown
from controlplane.port_guard import GuardPolicy
from controlplane.ports import PortView
from controlplane.reconcile import Mode, Plan, PortState
from controlplane.settings import Settings
from controlplane.snapshot import Snapshot
from controlplane.stack import Stack
from controlplane.vrf import VrfTraffic
from xdprouter import api, replies

ETH0, ETH1, BR0 = (Link(n, name, f"02:00:00:00:00:0{n}", 1500, True, True) for n, name in ((1, "eth0"), (2, "eth1"), (3, "br0")))  # fmt: skip
RED = Link(9, "red", "02:00:00:00:00:09", 65536, True, True, kind="vrf", details=Vrf(100))


def view(link: Link, state: PortState = PortState.ACTIVE, reason: str = "") -> PortView:
    return PortView(link.name, state, reason, Mode.NATIVE, link.ifindex, link, PortCounters(), Rates(), None)


def shown(link: Link, *ports: Link, vrf: str = "", state: InterfaceState = InterfaceState.ACTIVE) -> Shown:
    return Shown(link, Kind.BRIDGE, tuple(port.name for port in ports), 0, vrf, state, "")


def snapshot(ports=(), interfaces=(), vrfs=(), **changed) -> Snapshot:
    stack = Stack(shown={of.link.ifindex: of for of in interfaces}, vrfs={vrf.name: vrf for vrf in vrfs})
    made = Snapshot(
        ports=list(ports),
        out_of_sync=[],
        routes=RouteCensus(),
        last_route_change_s=None,
        route_events=0,
        neighbours=neighbour.Census(),
        managed_neighbours=0,
        netlink=NetlinkCounters(),
        transmitting={},
        program_id=7,
        last_swap=None,
        guard=GuardPolicy.REFUSE,
        findings=[],
        plan=Plan(stack, {}, {}, {}),
        vrfs={vrf.name: VrfTraffic(forwarded=Traffic(3, 180)) for vrf in vrfs},
        features=frozenset(),
        settings=Settings(),
        refusals={},
    )
    return dataclasses.replace(made, **changed)


DOWN, GUARDED = view(ETH0, PortState.DOWN, "no carrier"), view(ETH1, PortState.GUARDED, "a rule")


@pytest.mark.parametrize(
    ("ports", "state", "reason"),
    [
        ([DOWN, view(ETH1)], "active", ""),
        ([DOWN, GUARDED], "down", "port eth0 is down: no carrier"),
        ([GUARDED, DOWN], "down", "port eth0 is down: no carrier"),
        ([GUARDED], "slow", "port eth1 is guarded: a rule"),
        ([], "active", ""),
    ],
    ids=["one of two", "neither", "neither, the other way round", "the only one", "none is a port any more"],
)
def test_an_interface_is_no_better_than_its_ports(ports, state, reason):
    (found,) = replies.interfaces(snapshot(ports, [shown(BR0, ETH0, ETH1)])).interfaces
    assert (found.name, found.ports, found.state, found.reason) == ("br0", ["eth0", "eth1"], state, reason)


def test_what_an_interface_lacks_itself_comes_first():
    (found,) = replies.interfaces(snapshot([DOWN], [shown(BR0, ETH0, state=InterfaceState.SLOW)])).interfaces
    assert (found.state, found.reason) == ("slow", "")


@pytest.mark.parametrize(("empty", "reason"), [({100}, "no route in its table 100"), ({101}, ""), ((), "")])
def test_a_vrf_without_a_route_says_so(empty, reason):
    census = RouteCensus(empty_tables=frozenset(empty))
    known = snapshot([], [shown(ETH1, vrf="red"), shown(ETH0)], [RED], routes=census)
    assert replies.interfaces(known).vrfs == [
        api.Vrf("red", 100, ["eth1"], reason, api.Traffic(3, 180), api.Traffic(0, 0), api.Traffic(0, 0))
    ]


def test_a_port_whose_device_is_absent():
    absent = dataclasses.replace(view(ETH0, PortState.ABSENT, "no such device"), link=None)
    (found,) = replies.ports(snapshot([absent], transmitting={2: 5})).ports
    assert (found.ifindex, found.mtu, found.mac, found.transmitting, found.accounting) == (
        None,
        None,
        None,
        False,
        None,
    )


def test_the_busiest_blackholes_come_first_and_not_all():
    swallowed = {Prefix(bytes([192, 0, 2, n]), 32): Traffic(n, 60 * n) for n in range(api.BUSIEST + 1)}
    found = replies.blackholes(swallowed)
    assert (found.routes, len(found.busiest)) == (api.BUSIEST + 1, api.BUSIEST)
    assert found.busiest[0] == api.Blackhole(f"192.0.2.{api.BUSIEST}/32", api.BUSIEST, 60 * api.BUSIEST)
