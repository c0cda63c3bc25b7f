# SPDX-License-Identifier: GPL-2.0-only
"""VLANs: what bears a tag in and another, or none, out; and VLAN interfaces that come, go and change under traffic."""

import json
import struct
import subprocess
from contextlib import ExitStack

import pytest

from lab import namespace
from lab.wait import wait_until
from tests.lab.command import xdprouter
from tests.lab.conftest import Router
from tests.lab.crossing import TRUTH_S, Side, crossing, dot1q, interface, ip, is_gone, shows
from tests.lab.wire import Wire, stream

pytestmark = pytest.mark.needs("8021q")

TRUNK = (("sw", "trunk"),)
H1 = Side("h1", "eth0", "trunk", "trunk.10", ("10.10.0.2", "fd10::2"), dot1q(10), TRUNK)
H2 = Side("h2", "eth0", "trunk", "trunk.20", ("10.20.0.2", "fd20::2"), dot1q(20), TRUNK)
ISP = Side("isp", "eth0.30", "wan", "wan.30", ("10.30.0.2", "fd30::2"), dot1q(30))
UNTAGGED = Side("isp", "eth0", "wan", "wan", ("10.40.0.2", "fd40::2"))
RATE = 300
PRIORITY_AND_DEI = 0xB000


@pytest.fixture(scope="module")
def lab(module_lab):
    return module_lab("vlan_trunk")


@pytest.fixture(scope="module")
def r1(lab):
    return Router(lab, "r1")


@pytest.fixture
def undo():
    """Puts back what a test has changed, the last first."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(H1, ISP, id="another tag"),
        pytest.param(ISP, H1, id="and back"),
        pytest.param(H1, H2, id="another tag on the same port"),
        pytest.param(H2, UNTAGGED, id="tag off"),
        pytest.param(UNTAGGED, H2, id="tag on"),
    ],
)
def test_a_frame_leaves_with_the_tag_of_its_way_out(lab, r1, source, target):
    with crossing(lab, r1, source, target) as way:
        way.becomes_fast()
        way.crosses(size=1500)
        way.crosses(ttl=2, families=(4,))
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_priority_and_dei_are_not_carried_over(lab, r1):
    with crossing(lab, r1, H1, ISP) as way:
        way.becomes_fast()
        before = r1.verdict("forward", "trunk")
        frame, expected = way.frame(4)
        (tci,) = struct.unpack_from("!H", frame, 14)
        way.send(frame[:14] + struct.pack("!H", tci | PRIORITY_AND_DEI) + frame[16:])
        assert way.arrived([expected]) == [expected]
        assert r1.verdict("forward", "trunk") == before + 1


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(H1, ISP, id="another tag"),
        pytest.param(H2, UNTAGGED, id="off"),
        pytest.param(UNTAGGED, H2, id="on"),
    ],
)
def test_explain_is_as_the_wire(lab, r1, source, target):
    """By the interface, by its port with the tag, and by the way back alone: one answer, and the frame is sent as it is told."""
    for family in (4, 6):
        with crossing(lab, r1, source, target) as way:
            way.becomes_fast()
            addresses = [source.address(family), target.address(family), "--size", "100"]
            said = explain(lab, *addresses, "--iif", source.interface)
            assert said["port"]["name"] == source.port and said["port"]["interface"] == source.interface
            assert said["packet"]["interface"] == source.interface
            assert said["packet"]["tags"] == [f"802.1Q {vid}" for _, vid in source.tags]
            assert (said["verdict"], said["egress"]["device"]) == ("forward", target.interface)
            assert said["egress"]["port"] == target.port
            assert said["egress"]["tags"] == [f"802.1Q {vid}" for _, vid in target.tags]
            assert f" iif {source.interface}" in said["kernel"]["command"]
            assert explain(lab, *addresses)["frame_after"] == said["frame_after"]
            if source.tags:
                vid = str(source.tags[0][1])
                by_port = explain(lab, *addresses, "--iif", source.port, "--vlan", vid)
                assert (by_port["frame"], by_port["frame_after"]) == (said["frame"], said["frame_after"])
            before = r1.verdict("forward", source.port)
            way.send(bytes.fromhex(said["frame"]))
            assert way.receives(bytes.fromhex(said["frame_after"]))
            assert r1.verdict("forward", source.port) > before


def test_explain_of_a_vlan_that_is_not_served(lab, r1, undo):
    ip(lab, "r1", "link add link wan name wan.77 type vlan id 77 egress-qos-map 0:3")
    undo.callback(ip, lab, "r1", "link del wan.77")
    ip(lab, "r1", "link set wan.77 up")
    shows(r1, "wan.77", reason="egress-qos-map")
    said = explain(lab, ISP.address(4), H1.address(4), "--iif", "wan.77")
    assert (said["port"]["name"], said["verdict"], said["path"]) == ("wan", "pass_vlan_tag", "slow")
    assert said["reasons"][0]["text"] == (
        "802.1Q 77: frames of wan.77 are not on the fast path: its egress-qos-map sets priorities"
    )


def explain(lab, *arguments: str) -> dict:
    """The first one compiles, on an emulated machine for longer than a client waits."""

    def answered() -> subprocess.CompletedProcess | None:
        try:
            done = xdprouter("explain", "--netns", lab.ns("r1"), "--json", *arguments)
        except subprocess.TimeoutExpired:
            return None
        return None if "did not answer" in done.stderr else done

    done = wait_until(answered, TRUTH_S, "an answer")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_other_tags_are_the_kernels(lab, r1):
    """A priority tag counts as none; a VID that nobody has, or one that is down, leads nowhere."""
    with crossing(lab, r1, UNTAGGED, H1) as way:
        way.becomes_fast()
        frame, expected = way.frame(4)
        before = r1.verdict("forward", "wan")
        way.send(frame[:12] + b"\x81\x00\x60\x00" + frame[12:])
        assert way.arrived([expected]) == [expected]
        assert r1.verdict("forward", "wan") == before
        strays = []
        for tag in (b"\x81\x00\x00\x1f", b"\x88\xa8\x00\x1e", b"\x81\x00\x0f\xff", b"\x81\x00\x00\x1e\x81\x00\x00\x1e"):
            frame, _ = way.frame(4)
            strays.append(frame[:12] + tag + frame[12:])
        way.vanishes(strays)


def test_a_vlan_that_is_down_leads_nowhere(lab, r1, undo):
    with crossing(lab, r1, H1, UNTAGGED) as way, crossing(lab, r1, H2, UNTAGGED) as other:
        other.becomes_fast()
        ip(lab, "r1", "link set trunk.20 down")
        undo.callback(ip, lab, "r1", "link set trunk.20 up")
        way.vanishes([other.frame(family)[0] for family in (4, 6) for _ in range(5)])
        shows(r1, "trunk.20", state="down")


def test_the_mtu_is_the_vlans(lab, r1, undo):
    """Not the port's: what is too long for it comes back as an error from the kernel."""
    ip(lab, "r1", "link set wan.30 mtu 1400")
    undo.callback(ip, lab, "r1", "link set wan.30 mtu 1500")
    shows(r1, "wan.30", mtu=1400)
    with crossing(lab, r1, H1, ISP) as way, Wire(lab.ns("sw"), "trunk") as back:
        way.becomes_fast(size=1400)
        for family, error in ((4, b"\x03\x04"), (6, b"\x02\x00")):
            sent, _ = way.frame(family, size=1401)
            way.send(sent)
            quoted = sent[18:46]  # what an error quotes of it, TTL aside
            kind = 38 if family == 4 else 58
            (found,) = back.expect(
                1,
                lambda f, quoted=quoted, kind=kind, error=error: (
                    quoted[12:] in f[kind:] and f[kind : kind + 2] == error
                ),
            )
            assert found[12:16] == sent[12:16]


def test_vlans_come_go_and_change_while_traffic_flows(lab, r1, undo):
    """And the traffic, between two other VLANs, loses nothing."""
    with crossing(lab, r1, H1, ISP) as way:
        way.becomes_fast()
    late = Side("isp", "eth0.50", "wan", "wan.50", ("10.50.0.2", "fd50::2"), dot1q(50))
    _host_vlan(lab, undo, "isp", "eth0", 50)
    with stream(lab, "h1", "isp", ISP.addresses[0], RATE) as flow:
        _router_vlan(lab, "wan", 50)
        undo.callback(lab.exec, "r1", ["ip", "link", "del", "wan.50"])
        with crossing(lab, r1, H2, late) as way:
            way.becomes_fast()
            for line in ("wan.50 down", "wan.50 name office", "office up"):  # up, Linux 6.1 renames nothing
                ip(lab, "r1", f"link set {line}")
            shows(r1, "office", state="active", tags="50")
            undo.callback(lab.exec, "r1", ["ip", "link", "del", "office"])
            is_gone(r1, "wan.50")
            renamed = Side(late.host, late.device, "wan", "office", late.addresses, late.tags)
            with crossing(lab, r1, H2, renamed) as way:
                way.becomes_fast()
                ip(lab, "r1", "link set office mtu 1300")
                shows(r1, "office", mtu=1300)
                way.becomes_fast(size=1300)
                ip(lab, "r1", "link set office down")
                shows(r1, "office", state="down")
                ip(lab, "r1", "link set office up")
                way.becomes_fast()
        with crossing(lab, r1, H2, ISP) as way:
            ip(lab, "r1", "link del office")
            is_gone(r1, "office")
            way.crosses(fast=None)
        # The same VID again, on another port.
        _router_vlan(lab, "trunk", 50)
        undo.callback(lab.exec, "r1", ["ip", "link", "del", "trunk.50"])
        ip(lab, "isp", "link del eth0.50")
        _host_vlan(lab, undo, "sw", "trunk", 50)
        ip(lab, "sw", "route replace 10.30.0.0/24 via 10.50.0.1")
        ip(lab, "sw", "-6 route replace fd30::/64 via fd50::1")
        moved = Side("sw", "trunk.50", "trunk", "trunk.50", late.addresses, dot1q(50), TRUNK)
        with crossing(lab, r1, ISP, moved) as way:
            way.becomes_fast()
        assert flow.stop() == 0
    assert flow.sent > RATE
    assert r1.status()["in_sync"], r1.status()["out_of_sync_reasons"]


def test_priorities_that_a_map_sets_are_set_by_the_kernel(lab, r1, undo):
    _host_vlan(lab, undo, "isp", "eth0", 51)
    _router_vlan(lab, "wan", 51, "egress 0:5")
    undo.callback(ip, lab, "r1", "link del wan.51")
    shows(r1, "wan.51", state="slow", reason="egress-qos-map")
    mapped = Side("isp", "eth0.51", "wan", "wan.51", ("10.51.0.2", "fd51::2"), ((0x8100, 0xA000 | 51),))
    with crossing(lab, r1, H1, mapped) as way:
        way.crosses(fast=False)


def test_the_first_vlan_appears_while_traffic_flows(lab_of):
    """Another program takes over, and not a packet is lost over it."""
    lab = lab_of("two_hosts")
    r1 = Router(lab, "r1")
    assert "vlan" not in r1.status()["features"]
    right = Side("h2", "eth0", "right", "right", ("10.2.0.2", "fd02::2"))
    left = Side("h1", "eth0", "left", "left", ("10.1.0.2", "fd01::2"))
    with crossing(lab, r1, left, right) as way:
        way.becomes_fast()
        with stream(lab, "h1", "h2", "10.2.0.2", RATE) as flow, ExitStack() as undo:
            _router_vlan(lab, "left", 60)
            _host_vlan(lab, undo, "h1", "eth0", 60)
            wait_until(lambda: "vlan" in r1.status()["features"], TRUTH_S, "a program with VLANs")
            tagged = Side("h1", "eth0.60", "left", "left.60", ("10.60.0.2", "fd60::2"), dot1q(60))
            with crossing(lab, r1, right, tagged) as other:
                other.becomes_fast()
            way.crosses()
            before = flow.arrived()
            wait_until(lambda: flow.arrived() > before + 50, TRUTH_S, "more traffic")
            assert flow.stop() == 0
    assert r1.status()["in_sync"]


def test_a_vlan_of_another_namespace_is_not_mixed_up(lab, r1, undo):
    """It came in from elsewhere, with the VID of another and the number of a port; and one has gone elsewhere."""
    elsewhere = f"{lab.name}-else"
    namespace.create(elsewhere)
    undo.callback(namespace.delete, elsewhere)
    number = interface(r1, "wan")["ifindex"]
    for line in (
        f"link add wan index {number} up type veth peer name far",
        "link set far up",
        "link add link wan name alien type vlan id 30",
        f"link set alien netns {lab.ns('r1')}",
    ):
        assert namespace.run(elsewhere, ["ip", *line.split()]).returncode == 0, line
    ip(lab, "r1", "link set alien up")
    shows(r1, "alien", state="slow")
    with crossing(lab, r1, H1, ISP) as way:
        way.becomes_fast()
    _router_vlan(lab, "wan", 52)
    shows(r1, "wan.52", state="active")
    ip(lab, "r1", f"link set wan.52 netns {elsewhere}")
    is_gone(r1, "wan.52")
    with crossing(lab, r1, UNTAGGED, H1) as way:
        frame, _ = way.frame(4)
        way.vanishes([frame[:12] + b"\x81\x00\x00\x34" + frame[12:]])


def test_a_vlan_on_what_is_no_port_is_shown(lab, r1, undo):
    ip(lab, "r1", "link add side up type veth peer name sidep")
    undo.callback(ip, lab, "r1", "link del side")
    ip(lab, "r1", "link add link side name side.7 up type vlan id 7")
    shows(r1, "side.7", state="slow", ports=[])
    assert interface(r1, "side.7")["reason"]


def test_devices_that_stand_on_each_other_in_a_ring_are_refused(lab, r1, undo):
    """By the kernel already; the nearest that it allows is shown, and keeps nobody else from the fast path."""
    ip(lab, "r1", "link add ring up type bridge")
    undo.callback(ip, lab, "r1", "link del ring")
    ip(lab, "r1", "link add link ring name ring.5 up type vlan id 5")
    assert lab.exec("r1", ["ip", "link", "set", "ring.5", "master", "ring"]).returncode != 0
    _router_vlan(lab, "wan", 53)
    undo.callback(ip, lab, "r1", "link del wan.53")
    ip(lab, "r1", "link set wan.53 master ring")
    shows(r1, "wan.53", state="slow", reason="bridge")
    with crossing(lab, r1, H1, ISP) as way:
        way.becomes_fast()


def _router_vlan(lab, port: str, vid: int, more: str = "") -> None:
    """PORT.VID with 10.VID.0.1 and fdVID::1."""
    name = f"{port}.{vid}"
    ip(lab, "r1", f"link add link {port} name {name} up type vlan id {vid} {more}")
    ip(lab, "r1", f"addr add 10.{vid}.0.1/24 dev {name}")
    ip(lab, "r1", f"addr add fd{vid}::1/64 nodad dev {name}")


def _host_vlan(lab, undo, node: str, device: str, vid: int) -> None:
    name = f"{device}.{vid}"
    ip(lab, node, f"link add link {device} name {name} up type vlan id {vid}")
    undo.callback(lab.exec, node, ["ip", "link", "del", name])
    ip(lab, node, f"addr add 10.{vid}.0.2/24 dev {name}")
    ip(lab, node, f"addr add fd{vid}::2/64 nodad dev {name}")
