# SPDX-License-Identifier: GPL-2.0-only
"""VRFs: the same addresses in two of them, and never a packet from one in the other but by a route that says so."""

from contextlib import ExitStack

import pytest

from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.crossing import TRUTH_S, Side, crossing, dot1q, ip, shows
from tests.lab.wire import stream

pytestmark = pytest.mark.needs("8021q", "vrf")

NEAR, FAR = ("10.1.0.2", "fd01::2"), ("10.2.0.2", "fd02::2")
RATE = 300


def near(colour: str) -> Side:
    return Side(f"{colour}1", "eth0", f"{colour}_lan", f"{colour}_lan", NEAR)


def far(colour: str) -> Side:
    """The far host as r1 sees it: behind r2, whose MAC its frames have."""
    vid = {"red": 10, "blue": 20}[colour]
    return Side("r2", f"core.{vid}", "core", f"core.{vid}", FAR, dot1q(vid), (("r2", "core"),), listener=f"{colour}2")


@pytest.fixture(scope="module")
def lab(module_lab):
    return module_lab("vrf_pair")


@pytest.fixture(scope="module")
def r1(lab):
    return Router(lab, "r1")


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_routes_of_a_vrfs_own_bgp_carry_fast_traffic(lab, r1, colour):
    with crossing(lab, r1, near(colour), far(colour)) as way:
        way.becomes_fast()
        way.crosses(count=20, size=1500)
    with crossing(lab, r1, far(colour), near(colour)) as back:
        back.becomes_fast()


def test_the_same_addresses_in_both_do_not_meet(lab, r1):
    """Each with its own payload, by turns, so that one's answer would be the other's in a cache of both."""
    with crossing(lab, r1, near("red"), far("red")) as red, crossing(lab, r1, near("blue"), far("blue")) as blue:
        red.becomes_fast()
        blue.becomes_fast()
        for family in (4, 6):
            expected = {red: [], blue: []}
            for _ in range(10):
                for way in (red, blue):
                    frame, result = way.frame(family)
                    way.send(frame)
                    expected[way].append(result)
            # Both see all that comes out of core: a frame with the wrong tag would be in the wrong list.
            for way in (red, blue):
                assert way.arrived(expected[way]) == expected[way]


def test_each_vrf_has_its_figures(lab, r1):
    with crossing(lab, r1, near("red"), far("red")) as way:
        way.becomes_fast()
        before = _forwarded(r1)
        way.crosses(count=10)
        after = _forwarded(r1)
        assert after["red"] - before["red"] >= 20
        assert after["blue"] - before["blue"] <= 5  # BGP's own and the like
    vrfs = {vrf["name"]: vrf for vrf in r1.status()["vrfs"]}
    assert (vrfs["red"]["table"], vrfs["blue"]["table"]) == (10, 20)
    assert set(vrfs["red"]["interfaces"]) >= {"red_lan", "core.10"}


def test_a_route_may_leak_from_one_into_the_other(lab, r1):
    """To a host route's destination in blue; everything else stays in red."""
    with crossing(lab, r1, near("blue"), far("blue")) as blue:
        blue.becomes_fast()
    with ExitStack() as undo:
        for family, prefix, hop in (("-4", "10.2.0.2/32", "10.12.0.2"), ("-6", "fd02::2/128", "fd12::2")):
            ip(lab, "r1", f"{family} route add {prefix} via {hop} dev core.20 vrf red")
            undo.callback(ip, lab, "r1", f"{family} route del {prefix} vrf red")
        with crossing(lab, r1, near("red"), far("blue"), resolve=False) as way:
            way.becomes_fast()
    with crossing(lab, r1, near("red"), far("red")) as way:
        way.becomes_fast()


def test_an_interface_is_released_and_enslaved_while_traffic_flows(lab, r1):
    """Out of its VRF it knows no route; into the other one, its frames go the other's way. Blue loses nothing."""
    with crossing(lab, r1, near("blue"), far("blue")) as blue, crossing(lab, r1, near("red"), far("red")) as red:
        blue.becomes_fast()
        red.becomes_fast()
        with stream(lab, "blue1", "blue2", FAR[0], RATE) as flow:
            ip(lab, "r1", "link set red_lan nomaster")
            try:
                strays = [red.frame(family)[0] for family in (4, 6) for _ in range(5)]
                red.nothing_of(strays)
                blue.crosses()
                shows(r1, "red_lan", vrf=None)
            finally:
                ip(lab, "r1", "link set red_lan master red")
            shows(r1, "red_lan", vrf="red")
            red.becomes_fast()
            before = flow.arrived()
            wait_until(lambda: flow.arrived() > before + 50, TRUTH_S, "more traffic")
            assert flow.stop() == 0
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_a_vrf_without_a_route_leads_nowhere(lab, r1):
    """The kernel's rule for VRFs ends in no route; only its own hosts are reached."""
    with ExitStack() as undo:
        ip(lab, "r1", "link add empty up type vrf table 30")
        undo.callback(ip, lab, "r1", "link del empty")
        with crossing(lab, r1, near("blue"), far("blue")) as blue, crossing(lab, r1, near("red"), far("red")) as red:
            ip(lab, "r1", "link set red_lan master empty")
            undo.callback(ip, lab, "r1", "link set red_lan master red")
            shows(r1, "red_lan", vrf="empty")
            strays = [red.frame(family)[0] for family in (4, 6) for _ in range(5)]
            red.nothing_of(strays)
            blue.crosses(fast=None)


def _forwarded(r1: Router) -> dict[str, int]:
    return {vrf["name"]: vrf["forwarded"]["packets"] for vrf in r1.status()["vrfs"]}
