# SPDX-License-Identifier: GPL-2.0-only
"""A route comes and goes by BGP: packets take the fast path as soon as, and only as long as, it is there. Small enough
for an emulated machine, where tests/lab/test_routing.py is not."""

from pathlib import Path

import pytest

from lab.wait import wait_until
from tests.lab.conftest import Router

CONVERGED_S = 30
TARGET = "10.2.0.2"


@pytest.fixture
def lab(lab_of):
    return lab_of(str(Path(__file__).with_name("frr_bgp.toml")))


def pinged(lab) -> bool:
    return lab.exec("h1", ["ping", "-c", "1", "-W", "1", TARGET]).returncode == 0


def configure_r2(lab, *lines: str) -> None:
    arguments = [word for line in ("configure terminal", *lines) for word in ("-c", line)]
    done = lab.exec("r2", ["vtysh", *arguments])
    assert done.returncode == 0, done.stdout + done.stderr


def test_packets_follow_a_route_by_bgp(lab):
    r1 = Router(lab, "r1")
    wait_until(lambda: pinged(lab), CONVERGED_S, "h1 to reach h2")
    assert "proto bgp" in lab.exec("r1", ["ip", "route", "show", "10.2.0.0/24"]).stdout
    forwarded = r1.verdict("forward", "lan")
    for _ in range(3):
        assert pinged(lab)
    assert r1.verdict("forward", "lan") == forwarded + 3

    configure_r2(lab, "router bgp 65002", "address-family ipv4 unicast", "no network 10.2.0.0/24")
    wait_until(lambda: not pinged(lab), CONVERGED_S, "the route to go")
    forwarded, passed = r1.verdict("forward", "lan"), r1.verdict("pass_local_or_no_route", "lan")
    assert not pinged(lab)
    assert r1.verdict("forward", "lan") == forwarded
    assert r1.verdict("pass_local_or_no_route", "lan") > passed

    configure_r2(lab, "router bgp 65002", "address-family ipv4 unicast", "network 10.2.0.0/24")
    wait_until(lambda: pinged(lab), CONVERGED_S, "the route to come back")
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]
