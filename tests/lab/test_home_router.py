# SPDX-License-Identifier: GPL-2.0-only
"""A bridge with an address, a provider's VLAN and NAT: guarded while there is NAT, fast without.

The provider's side is without a VLAN where the kernel has none.
"""

import dataclasses
from contextlib import contextmanager

import pytest

from lab.lab import Lab
from lab.network import load_nftables
from lab.topology import Topology, load
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.crossing import TRUTH_S, Side, crossing, dot1q, ip, shows
from tests.lab.wire import Wire, mac

H1 = Side("h1", "eth0", "lan1", "br0", ("192.168.1.11", "fd01::11"))
H2 = Side("h2", "eth0", "lan2", "br0", ("192.168.1.12", "fd01::12"))
TAGGED = Side("isp", "eth0.7", "wan", "wan.7", ("203.0.113.2", "fd02::2"), dot1q(7))
UNTAGGED = Side("isp", "eth0", "wan", "wan", ("203.0.113.2", "fd02::2"))
ROUTER = "203.0.113.1"


def _without_vlan() -> Topology:
    """home_router with the provider's addresses on the ports themselves."""
    topology = load("home_router")
    nodes, links = dict(topology.nodes), topology.links
    for name, node in topology.nodes.items():
        for vlan in (device for device in node.devices if device.kind == "vlan"):
            rest = tuple(device for device in node.devices if device is not vlan)
            nodes[name] = dataclasses.replace(node, devices=rest)
            links = tuple(
                dataclasses.replace(
                    link,
                    **{
                        side: dataclasses.replace(end, addresses=vlan.addresses)
                        for side, end in (("a", link.a), ("b", link.b))
                        if (end.node, end.port) == (name, vlan.on)
                    },
                )
                for link in links
            )
    return dataclasses.replace(topology, nodes=nodes, links=links)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(TAGGED, id="VLAN", marks=pytest.mark.needs("8021q", "nftables", "bridge")),
        pytest.param(UNTAGGED, id="untagged", marks=pytest.mark.needs("nftables", "bridge")),
    ],
)
def isp(request) -> Side:
    return request.param


@pytest.fixture(scope="module")
def lab(module_lab, isp):
    return module_lab("home_router" if isp.tags else _without_vlan())


@pytest.fixture(scope="module")
def r1(lab):
    return Router(lab, "r1")


@contextmanager
def without_nat(lab: Lab, r1: Router):
    flushed = lab.exec("r1", ["nft", "flush", "ruleset"])
    assert flushed.returncode == 0, flushed.stderr
    try:
        _all(r1, "active")
        yield
    finally:
        load_nftables(lab.ns("r1"), lab.topology.nodes["r1"].nftables)
        _all(r1, "guarded")


def _all(r1: Router, state: str) -> None:
    wait_until(lambda: {port["state"] for port in r1.status()["ports"]} == {state}, TRUTH_S, f"all ports to be {state}")


def test_nat_keeps_the_ports_guarded_and_works(lab, r1, isp):
    """What h1 sends arrives with the router's address, answers find the way back: all of it through the kernel."""
    _all(r1, "guarded")
    before = r1.verdict("forward")
    with Wire(lab.ns("isp"), "eth0") as wire:
        for host in ("h1", "h2"):
            for address in isp.addresses:
                done = lab.exec(host, ["ping", "-c", "1", "-w", "20", address])
                assert done.returncode == 0, done.stdout
        frames = list(wire.frames(0.2))
    offset = 14 + 4 * len(isp.tags)
    sources = {f[offset + 12 : offset + 16] for f in frames if f[offset - 2 : offset] == b"\x08\x00"}
    assert sources == {bytes(map(int, ROUTER.split(".")))}
    assert r1.verdict("forward") == before


def test_without_nat_the_way_is_fast(lab, r1, isp):
    with without_nat(lab, r1), crossing(lab, r1, H1, isp) as out, crossing(lab, r1, isp, H2) as back:
        shows(r1, "br0", kind="bridge", state="active")
        out.becomes_fast()
        out.crosses(size=1500)
        back.becomes_fast()
        back.crosses(size=1500)
        assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_what_is_bridged_is_the_kernels_and_untouched(lab, r1):
    with without_nat(lab, r1), crossing(lab, r1, H1, H2) as way:
        before = r1.verdict("forward")
        sent, _ = way.frame(4)
        sent = bytes.fromhex(mac(lab.ns("h2"), "eth0").replace(":", "")) + sent[6:]
        way.send(sent)
        assert way.arrived([sent]) == [sent]
        assert r1.verdict("forward") == before


def test_a_host_is_reached_where_the_bridge_has_learned_it(lab, r1, isp):
    """Frames with h1's MAC come out of h2's plug: what is for h1 goes there. When h1 speaks again, back."""
    with without_nat(lab, r1), crossing(lab, r1, isp, H1) as way, Wire(lab.ns("h2"), "eth0") as other:
        way.becomes_fast(families=(4,))
        h1 = bytes.fromhex(mac(lab.ns("h1"), "eth0").replace(":", ""))
        hello = b"\x01\x80\xc2\x00\x00\x3e" + h1 + b"\x88\xb5" + bytes(46)  # to a group, of a local experiment
        other.send(hello)
        wait_until(lambda: _learned_on(lab, h1) == "lan2", TRUTH_S, "the bridge to learn")
        sent, expected = way.frame(4)
        way.send(sent)
        assert other.expect(1, lambda frame: frame == expected, 10.0)
        with Wire(lab.ns("h1"), "eth0") as own:
            own.send(hello)
        wait_until(lambda: _learned_on(lab, h1) == "lan1", TRUTH_S, "the bridge to learn it anew")
        way.becomes_fast(families=(4,))


def test_a_host_that_the_bridge_does_not_know_is_reached_by_the_kernel(lab, r1, isp):
    with without_nat(lab, r1), crossing(lab, r1, isp, H1) as way:
        way.becomes_fast(families=(4,))
        h1 = mac(lab.ns("h1"), "eth0")
        with _silence(lab, "h1"):
            done = lab.exec("r1", ["bridge", "fdb", "del", h1, "dev", "lan1", "master"])
            assert done.returncode == 0, done.stderr
            way.crosses(1, families=(4,), fast=False)


def test_a_member_that_goes_takes_its_hosts_along(lab, r1, isp):
    with without_nat(lab, r1), crossing(lab, r1, isp, H1) as way:
        way.becomes_fast(families=(4,))
        ip(lab, "r1", "link set lan1 nomaster")
        try:
            way.nothing_of([way.frame(4)[0] for _ in range(5)])
        finally:
            ip(lab, "r1", "link set lan1 master br0")
        way.resolve()
        way.becomes_fast(families=(4,))


@contextmanager
def _silence(lab: Lab, host: str):
    """Nothing that the host sends on its own teaches the bridge where it is."""
    ip(lab, host, "link set eth0 arp off")
    load_nftables(
        lab.ns(host), "table inet silence { chain out { type filter hook output priority 0; policy drop; }; }"
    )
    try:
        yield
    finally:
        lab.exec(host, ["nft", "delete", "table", "inet", "silence"])
        ip(lab, host, "link set eth0 arp on")


def _learned_on(lab: Lab, host: bytes) -> str:
    shown = lab.exec("r1", ["bridge", "fdb", "show", "br", "br0"]).stdout
    line = next((line.split() for line in shown.splitlines() if line.startswith(host.hex(":"))), [])
    return line[line.index("dev") + 1] if line else ""
