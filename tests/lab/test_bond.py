# SPDX-License-Identifier: GPL-2.0-only
"""Bonds: frames come in by any member and leave by the one that the bond chooses; VLANs, a VRF and jumbo on top."""

import dataclasses
from contextlib import ExitStack

import pytest

from lab.topology import Topology, load
from lab.wait import wait_until
from tests import features
from tests.lab.conftest import Router
from tests.lab.crossing import TRUTH_S, Side, crossing, dot1q, ip, shows
from tests.lab.wire import Wire, stream
from xdprouter import api

pytestmark = pytest.mark.needs("8021q", "vrf", "bonding")

MODES = ("802.3ad", "balance-xor", "active-backup")
MEMBERS = (("r2", "a"), ("r2", "b"))
H1 = Side("h1", "eth0", "lan", "lan", ("10.1.0.2", "fd01::2"))
FAR = Side("r2", "bond0.10", "bond0", "bond0.10", ("10.2.0.2", "fd02::2"), dot1q(10), MEMBERS)
H2 = Side("h2", "eth0", "red_lan", "red_lan", ("10.3.0.2", "fd03::2"))
RED = Side("r2", "bond0.20", "bond0", "bond0.20", ("10.4.0.2", "fd04::2"), dot1q(20), MEMBERS, vrf="red")
RATE = 300
UNEVEN = RATE // 2
"""Datagrams by which two cuts may differ in what they cost"""


def _of_mode(mode: str) -> Topology:
    """bond_lacp with bonds of another mode."""
    topology = load("bond_lacp")
    nodes = {
        name: dataclasses.replace(
            node,
            devices=tuple(dataclasses.replace(d, mode=mode) if d.kind == "bond" else d for d in node.devices),
        )
        for name, node in topology.nodes.items()
    }
    return dataclasses.replace(topology, nodes=nodes)


@pytest.fixture(scope="module", params=MODES)
def lab(module_lab, request):
    return module_lab(_of_mode(request.param))


@pytest.fixture(scope="module")
def r1(lab):
    router = Router(lab, "r1")
    wait_until(lambda: router.port("bond0")["state"] == "active", TRUTH_S, "the bond to be up")
    return router


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(H1, FAR, id="into a VLAN of the bond"),
        pytest.param(FAR, H1, id="out of it"),
        pytest.param(H2, RED, id="into one that is in a VRF"),
        pytest.param(RED, H2, id="out of that"),
    ],
)
def test_frames_of_all_sizes_take_the_fast_path(lab, r1, source, target):
    with crossing(lab, r1, source, target) as way:
        way.becomes_fast()
        way.crosses(2, size=1500)
        # Of several buffers: only where the kernel tells whether a device can transmit them.
        fast = True if features.has("xdp_features") else None
        for size in (3800, 9000):
            way.crosses(2, size=size, fast=fast)
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_a_smaller_mtu_behind_the_bond_is_heeded(lab, r1):
    """9000 on one side, 1500 on the other: what is too long is answered by the kernel."""
    ip(lab, "r1", "link set lan mtu 1500")
    try:
        shows(r1, "lan", mtu=1500)
        with crossing(lab, r1, FAR, H1) as way, ExitStack() as wires:
            backs = [wires.enter_context(Wire(lab.ns("r2"), device)) for _, device in MEMBERS]
            way.becomes_fast(size=1500)
            sent, _ = way.frame(4, size=1501)
            way.send(sent)

            def answered() -> bool:
                return any(f[38:40] == b"\x03\x04" and sent[30:38] in f for back in backs for f in back.frames(0.01))

            wait_until(answered, TRUTH_S, "fragmentation needed")
    finally:
        ip(lab, "r1", "link set lan mtu 9000")
    shows(r1, "lan", mtu=9000)


def test_the_bond_chooses_the_member(lab, r1):
    """As many flows as ports: by its hash both are used, with a backup only one is."""
    with crossing(lab, r1, H1, FAR) as way:
        way.becomes_fast()
        with ExitStack() as wires:
            members = [wires.enter_context(Wire(lab.ns("r2"), device)) for _, device in MEMBERS]
            way.crosses(40, families=(4,))
            used = [sum(frame[12:14] == b"\x81\x00" for frame in member.frames(0.1)) for member in members]
        mode = _mode(lab)
        assert (min(used) > 0) is (mode != "active-backup"), f"{mode}: {used}"


def test_a_lost_member_costs_no_more_than_with_the_kernel_alone(lab, r1):
    """Its link is cut and comes back while traffic flows."""
    ports = lab.topology.nodes["r1"].xdprouter
    for port in ports:
        r1.ask(api.DetachRequest(port))
    try:
        with crossing(lab, r1, H1, FAR):
            by_kernel = _lost_over_a_cut(lab)
    finally:
        for port in ports:
            r1.ask(api.AttachRequest(port))
    with crossing(lab, r1, H1, FAR) as way:
        way.becomes_fast()
        before = r1.verdict("forward", "lan")
        lost = _lost_over_a_cut(lab)
        assert r1.verdict("forward", "lan") - before > RATE
        way.crosses()
    assert lost <= by_kernel + UNEVEN, f"{lost}, {by_kernel} with the kernel alone"
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_a_bond_without_a_member_is_shown(lab, r1):
    ip(lab, "r1", "link add bond7 type bond mode active-backup")
    try:
        ip(lab, "r1", "link set bond7 up")
        r1.ask(api.AttachRequest("bond7"))
        wait_until(lambda: "without a member" in r1.port("bond7")["reason"], TRUTH_S, "the bond's reason")
        assert not r1.port("bond7")["transmitting"]
        with crossing(lab, r1, H1, FAR) as way:
            way.becomes_fast()
    finally:
        r1.ask(api.DetachRequest("bond7"))
        ip(lab, "r1", "link del bond7")


def _lost_over_a_cut(lab) -> int:
    """r2's end of member a goes down and comes up under a stream; at the end both members carry traffic again."""
    with stream(lab, "h1", "r2", FAR.addresses[0], RATE) as flow:

        def flows(count: int = 100) -> None:
            before = flow.arrived()
            wait_until(lambda: flow.arrived() > before + count, TRUTH_S, "traffic")

        flows()
        ip(lab, "r2", "link set dev a down")
        wait_until(lambda: not _carrier(lab, "a"), TRUTH_S, "the cut to be seen")
        flows(RATE)
        ip(lab, "r2", "link set dev a up")
        wait_until(lambda: _carrier(lab, "a"), TRUTH_S, "the link to be back")
        flows(RATE)
        return flow.stop()


def _carrier(lab, member: str) -> bool:
    return "LOWER_UP" in lab.exec("r1", ["ip", "link", "show", "dev", member]).stdout


def _mode(lab) -> str:
    return next(device.mode for device in lab.topology.nodes["r1"].devices if device.kind == "bond")
