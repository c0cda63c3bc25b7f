# SPDX-License-Identifier: GPL-2.0-only
"""Where frames of an interface come in, and what a frame that is made for it looks like there."""

import socket
import struct
from dataclasses import replace

import pytest

from controlplane import arrival, neighbour
from controlplane.arrival import Arriving
from controlplane.entrance import Entrances
from controlplane.errors import ControlPlaneError
from controlplane.features import Feature
from controlplane.link import VLAN_8021AD
from controlplane.links import Links
from controlplane.neighbour import Details, Owner
from controlplane.ports import PortView
from controlplane.route_get import Answer, Route
from controlplane.stack import build
from controlplane.tags import number
from tests import packets
from tests.unit.test_stack import BOND, BR, ETH0, ETH1, RED, in_red, link, member, slave, vlan
from xdprouter.explain import packet
from xdprouter.explain.flow import Flow

WAN, LOOSE, TUN, LO = (
    link(50, "wan", mac="02:00:00:00:00:32"),
    link(51, "mgmt"),
    link(52, "tun0", mac=""),
    link(1000, "lo"),
)
MEMBERS = [member(link(21, "m0")), member(link(22, "m1")), member(link(23, "tap0"))]
V10 = vlan(60, "wan.10", 50, 10, mac="02:00:00:00:00:60")
DEVICES = [
    WAN, LOOSE, TUN, LO, V10, slave(ETH0), slave(ETH1, active=False), BOND, BR, in_red(RED), *MEMBERS,
    in_red(vlan(61, "wan.20", 50, 20)),
    vlan(62, "wan.100", 50, 100, VLAN_8021AD), vlan(63, "wan.100.5", 62, 5), vlan(64, "wan.100.5.6", 63, 6),
    vlan(65, "wan.30", 50, 30, egress_map=True),
    vlan(66, "bond0.10", 10, 10), vlan(67, "br0.40", 20, 40), vlan(68, "mgmt.5", 51, 5),
    vlan(69, "odd", 0, 5, elsewhere=True),
]  # fmt: skip
PORTS = ("wan", "bond0", "m0", "m1", "absent")
SENDER = "02:00:00:00:00:99"
AD = 0x1000


@pytest.fixture
def entrances() -> Entrances:
    return Entrances(Links(DEVICES), build(DEVICES, PORTS, available=frozenset(Feature)))


def learned(bridge: int, mac: str) -> int | None:
    return 22 if (bridge, mac) == (BR.ifindex, SENDER) else None


@pytest.mark.parametrize(
    ("name", "device", "tags", "why"),
    [
        ("wan", "wan", 0, ""),
        ("wan.10", "wan", 10, ""),
        ("wan.20", "wan", 20, ""),
        ("wan.100.5", "wan", 100 | AD | 5 << 16, ""),
        ("wan.30", "wan", 30, ""),
        ("bond0", "eth0", 0, "active"),
        ("bond0.10", "eth0", 10, "active"),
        ("br0", "m1", 0, "has learned the sender"),
        ("br0.40", "m1", 40, "has learned the sender"),
        ("m0", "m0", 0, ""),
        ("eth1", "eth1", 0, ""),
        ("mgmt.5", "mgmt", 5, ""),
    ],
)
def test_an_interface_and_its_device(entrances, name, device, tags, why):
    found = entrances.entrance(entrances.links.named(name), SENDER, learned)
    assert (found.device.name, found.tags, found.interface.name, found.member) == (device, tags, name, why)


def test_a_bridge_that_does_not_know_the_sender(entrances):
    """Then a member that is a port, not just any."""
    for sender in ("", "02:00:00:00:00:98"):
        found = entrances.entrance(BR, sender, learned)
        assert (found.device.name, found.member) == ("m0", "any")
    found = entrances.entrance(BR, SENDER, lambda bridge, mac: 23)
    assert (found.device.name, found.member) == ("tap0", "has learned the sender")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("red", "red is a VRF: name an interface in it (there is: wan.20)"),
        ("tun0", "tun0 is no Ethernet device, so it is not on the fast path"),
        ("lo", "lo is no Ethernet device"),
        ("wan.100.5.6", "wan.100.5.6 is not on the fast path: more than 2 tags; what comes in there is the kernel's"),
        ("odd", "odd is not on the fast path: the device below odd is not to be seen here"),
    ],
)
def test_what_no_frame_comes_in_by(entrances, name, words):
    with pytest.raises(ControlPlaneError) as told:
        entrances.entrance(entrances.links.named(name))
    assert words in str(told.value)


def test_a_bridge_and_a_bond_without_members():
    entrances = Entrances(Links([BOND, BR]), build([BOND, BR], ["bond0"]))
    assert entrances.entrance(BOND).device == BOND
    with pytest.raises(ControlPlaneError, match="br0 has no member"):
        entrances.entrance(BR)


@pytest.mark.parametrize(
    ("device", "tags", "owner"),
    [
        ("wan", 0, "wan"), ("wan", 10, "wan.10"), ("wan", 100 | AD, "wan.100"), ("wan", 100, "wan"),
        ("wan", 100 | AD | 5 << 16, "wan.100.5"), ("wan", 30, "wan.30"), ("eth0", 0, "bond0"), ("eth0", 10, "bond0.10"),
        ("eth1", 0, "bond0"), ("m0", 0, "br0"), ("tap0", 40, "br0.40"), ("m0", 10, "br0"), ("mgmt", 5, "mgmt.5"),
    ],
)  # fmt: skip
def test_whose_a_frame_is(entrances, device, tags, owner):
    assert entrances.owner(entrances.links.named(device), tags).name == owner


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wan", ""), ("wan.10", ""), ("wan.30", "its egress-qos-map sets priorities"),
        ("mgmt.5", "mgmt, below it, is no port"), ("mgmt", ""), ("eth0", ""),
        ("eth1", "eth1 is not an active member of bond0: the kernel drops what comes in there"),
    ],
)  # fmt: skip
def test_why_it_is_not_served(entrances, name, words):
    assert entrances.why_not(entrances.links.named(name)).startswith(words) and bool(
        entrances.why_not(entrances.links.named(name))
    ) == bool(words)


def test_a_member_of_a_bond_that_is_no_port():
    entrances = Entrances(Links(DEVICES), build(DEVICES, ["wan"]))
    assert entrances.why_not(entrances.links.named("eth0")) == "enslaved to a bond: wish for the bond bond0 instead"


def test_what_a_frame_meets(entrances):
    assert entrances.around(entrances.links.named("m0"), entrances.links.named("br0.40")) == {"m0", "br0", "br0.40"}
    assert entrances.around(entrances.links.named("wan"), entrances.links.named("wan.20")) == {"wan", "wan.20", "red"}
    assert entrances.bridge(entrances.links.named("br0.40")) == entrances.bridge(entrances.links.named("tap0")) == BR
    assert entrances.bridge(entrances.links.named("wan.20")) is entrances.bridge(None) is None


def test_loops_of_lower_devices_end():
    loop = [vlan(7, "x", 8, 7), vlan(8, "y", 7, 7), WAN]
    entrances = Entrances(Links(loop), build(loop, ["wan"]))
    with pytest.raises(ControlPlaneError, match="x is not on the fast path"):
        entrances.entrance(entrances.links.named("x"))
    assert entrances.owner(WAN, 7) == WAN
    assert entrances.bridge(entrances.links.named("x")) is None
    assert entrances.around(WAN, entrances.links.named("x")) == {"wan", "x", "y"}


def test_numbers_of_tags():
    assert number([]) == 0
    assert number([("802.1ad", 100), ("802.1Q", 5)]) == 100 | AD | 5 << 16
    assert number([("802.1Q", 0)]) == number([("802.1Q", 1)] * 3) == -1


# --- frames -----------------------------------------------------------------------------------------


class Kernel:
    """Answers for route_get and neighbour: the source is behind an interface, its MAC is known."""

    def __init__(self, monkeypatch):
        self.back: Route | None = None
        self.mac = SENDER
        monkeypatch.setattr(arrival.route_get, "ask", lambda sock, question: Answer(self.back))
        monkeypatch.setattr(neighbour, "find", lambda sock, hop: self._find(hop))

    def behind(self, interface) -> None:
        self.back = Route("unicast", "10.0.0.9", ifindex=interface.ifindex)

    def _find(self, hop):
        assert hop.family == socket.AF_INET
        return Details(2, Owner.NOBODY, self.mac, 0)


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def arriving(entrances):
    views = [PortView(n, None, "", None, 1, entrances.links.named(n), None, None, None) for n in PORTS]
    return Arriving(None, entrances, views, learned)


FLOW = Flow("10.0.0.9", "10.9.0.1", 17)
MADE = packet.build(FLOW)


def ethernet(frame: bytes) -> tuple[str, str, bytes]:
    return frame[:6].hex(":"), frame[6:12].hex(":"), frame[12 : len(frame) - FLOW.size]


def tag(protocol: int, vid: int) -> bytes:
    return struct.pack("!HH", protocol, vid)


@pytest.mark.parametrize(
    ("name", "device", "tags"),
    [
        ("wan", "wan", b""), ("wan.10", "wan", tag(0x8100, 10)),
        ("wan.100.5", "wan", tag(0x88A8, 100) + tag(0x8100, 5)), ("bond0.10", "eth0", tag(0x8100, 10)),
        ("br0", "m1", b""), ("br0.40", "m1", tag(0x8100, 40)), ("mgmt.5", "mgmt", tag(0x8100, 5)), ("mgmt", "mgmt", b""),
    ],
)  # fmt: skip
def test_a_frame_made_for_an_interface(arriving, entrances, kernel, name, device, tags):
    kernel.behind(entrances.links.named(name))
    came = arriving.arrive(MADE, name, made=True)
    assert (came.entrance.device.name, came.owner.name, came.chosen) == (device, name, "given")
    assert ethernet(came.frame) == (entrances.links.named(name).mac, SENDER, tags + b"\x08\x00")
    assert came.frame.endswith(MADE[14:])
    # Without a name the way back leads to the same, if it is on the fast path.
    if device != "mgmt":
        again = arriving.arrive(MADE, "", made=True)
        assert (again.frame, again.owner, again.chosen) == (came.frame, came.owner, "way back to the source")


def test_a_made_frame_with_tags_of_its_own(arriving, kernel):
    """On the port they tell the interface, its MAC and who sends there; on another interface they are in the way."""
    kernel.behind(V10)
    tagged = packet.build(replace(FLOW, tags=(10,)))
    came = arriving.arrive(tagged, "wan", made=True)
    assert (came.owner.name, came.frame[:6].hex(":"), len(came.frame)) == ("wan.10", V10.mac, len(tagged))
    assert came.frame[6:12].hex(":") == SENDER
    assert arriving.arrive(tagged, "wan.10", made=True).frame == came.frame
    with pytest.raises(ControlPlaneError, match="the frame has 802.1Q 10, and those of wan.20 have 802.1Q 20"):
        arriving.arrive(tagged, "wan.20", made=True)


def test_a_captured_frame_is_left_as_it_is(arriving, kernel):
    plain = bytes(packets.udp("10.9.0.1"))
    tagged = bytes(packets.vlan(packets.udp("10.9.0.1"), 10))
    for frame, name, owner in (
        (plain, "wan", "wan"),
        (tagged, "wan", "wan.10"),
        (tagged, "wan.10", "wan.10"),
        (tagged, "br0", "br0"),
    ):
        came = arriving.arrive(frame, name, made=False)
        assert (came.frame, came.owner.name) == (frame, owner)
    for frame, has in ((plain, "no tag"), (bytes(packets.vlan(packets.udp("10.9.0.1"), 20)), "802.1Q 20")):
        with pytest.raises(ControlPlaneError) as told:
            arriving.arrive(frame, "wan.10", made=False)
        assert f"the captured frame has {has}, and what comes in for wan.10 on wan has 802.1Q 10" in str(told.value)
        assert "--iif wan" in str(told.value)


def test_a_captured_frame_finds_its_interface_by_mac_and_tag(arriving, kernel):
    to_v10 = bytes(packets.vlan(packets.udp("10.9.0.1", dst_mac=V10.mac), 10))
    came = arriving.arrive(to_v10, "", made=False)
    assert (came.entrance.device.name, came.owner.name, came.chosen) == ("wan", "wan.10", "destination MAC")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "there is no device nowhere here (ports: wan, bond0, m0, m1)"),
        ("absent", "nothing comes in on absent: its device is absent"),
        ("", "which port does it come in on? Give one with --iif (ports: wan, bond0, m0, m1)"),
    ],
)
def test_no_such_place(arriving, kernel, name, words):
    with pytest.raises(ControlPlaneError) as told:
        arriving.arrive(MADE, name, made=True)
    assert words in str(told.value)


def test_a_sender_that_the_kernel_does_not_know(arriving, entrances, kernel, monkeypatch):
    monkeypatch.setattr(neighbour, "find", lambda sock, hop: None)
    came = arriving.arrive(MADE, "br0", made=True)
    assert (came.frame[6:12].hex(":"), came.entrance.member) == (packet.SOURCE_MAC, "any")
