"""Topology files: the shipped ones load, wrong ones are refused with one line that helps."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.device import Device
from lab.errors import TopologyError
from lab.topology import Endpoint, Link, Route, diagram, load, names, parse

GOOD = """\
# Two nodes and a wire.
#
#   h1 --- r1

[nodes.h1]
kind = "host"
routes = [{ to = "default", via = "10.1.0.1" }, { to = "fd02::/64", via = ["fd01::1", "fd01::3"] }]

[nodes.r1]
kind = "router"
xdprouter = ["left"]
loopback = ["10.255.0.1/32"]
sysctl = { "net.ipv4.fib_multipath_hash_policy" = 1 }

[[links]]
mtu = 9000
a = { node = "h1", port = "eth0", addresses = ["10.1.0.2/24", "fd01::2/64"] }
b = { node = "r1", port = "left", mac = "02:00:00:00:01:01", addresses = ["10.1.0.1/24"] }
"""


def parse_text(text):
    return parse(text, Path("/somewhere/wire.toml"))


def test_a_good_file_becomes_nodes_and_links():
    topology = parse_text(GOOD)
    assert (topology.name, topology.description) == ("wire", "Two nodes and a wire.")
    assert list(topology.nodes) == ["h1", "r1"]
    h1, r1 = topology.nodes.values()
    assert h1.routes == (Route("default", ("10.1.0.1",)), Route("fd02::/64", ("fd01::1", "fd01::3")))
    assert [route.version for route in h1.routes] == [4, 6]
    assert (h1.is_router, r1.is_router, r1.xdprouter) == (False, True, ("left",))
    assert r1.sysctl == (("net.ipv4.fib_multipath_hash_policy", "1"),)
    assert [str(address) for address in r1.loopback] == ["10.255.0.1/32"]
    (link,) = topology.links
    assert link == Link(
        a=Endpoint("h1", "eth0", link.a.addresses),
        b=Endpoint("r1", "left", link.b.addresses, "02:00:00:00:01:01"),
        mtu=9000,
        queues=1,
    )
    assert [str(address) for address in link.a.addresses] == ["10.1.0.2/24", "fd01::2/64"]


def test_ports_and_addresses_are_found_by_node():
    topology = load("two_hosts")
    assert [end.port for end in topology.ports("r1")] == ["left", "right"]
    assert topology.address("h2", 4) == "10.2.0.2"
    assert topology.address("r1", 6, port="right") == "fd02::1"


def test_an_address_that_is_not_there_is_an_error():
    with pytest.raises(TopologyError, match="r1 has no IPv6 address on left"):
        parse_text(GOOD).address("r1", 6, port="left")


def test_diagram_is_the_leading_comment_without_its_marks():
    assert diagram(parse_text(GOOD)) == "Two nodes and a wire.\n\n  h1 --- r1"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('kind = "host"', 'kind = "hots"', "nodes.h1.kind: unknown kind 'hots'; did you mean 'host'?"),
        ('kind = "host"', "", "nodes.h1: lacks 'kind'"),
        ("mtu = 9000", "mtuu = 9000", "links[0]: unknown key 'mtuu'; did you mean 'mtu'?"),
        ("mtu = 9000", 'mtu = "big"', "links[0].mtu: must be an integer"),
        ("mtu = 9000", "mtu = 9", "links[0].mtu: 9 is not in 68..65535"),
        ("mtu = 9000", "queues = 0", "links[0].queues: 0 is not in 1..64"),
        ("loopback =", "lopback =", "nodes.r1: unknown key 'lopback'; did you mean 'loopback'?"),
        ('node = "r1"', 'node = "r11"', "links[0].b.node: unknown node 'r11'; did you mean 'r1'?"),
        ('"r1", port = "left"', '"h1", port = "eth0"', "links[0].b.port: interface 'eth0' of h1 is already in links[0].a.port"),
        ('port = "eth0"', 'port = "sixteen_letters_"', "links[0].a.port: 'sixteen_letters_' is 16 characters long, 15 are allowed"),
        ('port = "eth0"', 'port = "a/b"', "links[0].a.port: 'a/b' cannot name an interface"),
        ('port = "eth0"', 'port = "lo"', "links[0].a.port: 'lo' cannot name an interface"),
        ('"10.1.0.2/24"', '"10.1.0.256/24"', "links[0].a.addresses: bad address: '10.1.0.256/24' does not appear to be an IPv4 or IPv6 interface"),
        ('"10.1.0.2/24"', '"10.1.0.2"', "links[0].a.addresses: '10.1.0.2' has no prefix length"),
        ('"10.1.0.2/24"', '"10.1.0.1/24"', "links[0].b.addresses: address 10.1.0.1 is already in links[0].a.addresses"),
        ('"10.255.0.1/32"', '"10.1.0.1/32"', "nodes.r1.loopback: address 10.1.0.1 is already in links[0].b.addresses"),
        ("02:00:00:00:01:01", "03:00:00:00:01:01", "links[0].b.mac: '03:00:00:00:01:01' is not a unicast MAC such as 02:00:00:00:01:01"),
        ('xdprouter = ["left"]', 'xdprouter = ["lef"]', "nodes.r1.xdprouter: unknown port 'lef'; did you mean 'left'?"),
        ('xdprouter = ["left"]', 'xdprouter = "left"', "nodes.r1.xdprouter: must be an array"),
        ('xdprouter = ["left"]', 'frr = ""\nbird = ""', "nodes.r1: has both frr and bird; two daemons would fight over one FIB"),
        ('kind = "host"', 'kind = "host"\nbird = ""', "nodes.h1.bird: only a router can have it"),
        ('via = "10.1.0.1"', 'via = ["10.1.0.1", "fd01::1"]', "nodes.h1.routes[0]: needs next hops of one family, the destination's"),
        ('via = "10.1.0.1"', "via = []", "nodes.h1.routes[0]: needs next hops of one family, the destination's"),
        ('via = "10.1.0.1"', 'via = "10.1.0"', "nodes.h1.routes[0].via: bad address: '10.1.0' does not appear to be an IPv4 or IPv6 address"),
        ('to = "default"', "to = 0", "nodes.h1.routes[0].to: must be a string"),
        ('"net.ipv4.fib', '"kernel.fib', "nodes.r1.sysctl: 'kernel.fib_multipath_hash_policy' is not a net.* sysctl"),
        ("[nodes.h1]", "[nodes.h-1]", "nodes.h-1: a node's name is lower-case letters, digits and _, a letter first"),
        ("[[links]]", "[[link]]", "the file: unknown key 'link'; did you mean 'links'?"),
        ("# Two nodes and a wire.\n#\n#   h1 --- r1\n", "", "line 1: must be a comment that says what the topology is"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_key_and_remedy(right, wrong, message):
    assert right in GOOD
    with pytest.raises(TopologyError) as caught:
        parse_text(GOOD.replace(right, wrong, 1))
    assert str(caught.value) == f"wire.toml: {message}"


def test_what_is_not_toml_is_refused_in_one_line():
    with pytest.raises(TopologyError, match=r"^wire.toml: not TOML: [^\n]*$"):
        parse_text(GOOD + "[")


def test_an_unknown_name_brings_up_the_nearest():
    with pytest.raises(TopologyError, match="no topology 'two_host'; did you mean 'two_hosts'?"):
        load("two_host")


def test_a_path_may_lie_anywhere(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load(path).name == "mine"
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_the_promised_topologies_are_shipped():
    assert {"two_hosts", "frr_ospf_bgp", "bird_bgp", "ecmp_diamond"} <= set(names())
    assert {"vlan_trunk", "qinq", "vrf_pair", "bond_lacp", "home_router"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_shipped_topology_is_dual_stack_and_drawn(name):
    topology = load(name)
    assert all(node in diagram(topology) for node in topology.nodes)
    assert any(node.xdprouter for node in topology.nodes.values())
    for node in topology.nodes.values():
        ends = topology.ports(node.name)
        below = {device.on for device in node.devices} | node.members
        for name, addresses in (
            *((end.port, end.addresses) for end in ends),
            *((device.name, device.addresses) for device in node.devices if device.kind != "table"),
        ):
            versions = {address.version for address in addresses}
            assert versions == {4, 6} or (not versions and (name in below or _is_switch(topology, node)))


def _is_switch(topology, node) -> bool:
    """No address of its own anywhere: it carries frames."""
    return bool(node.devices) and not any(end.addresses for end in topology.ports(node.name))


DEVICES = """
[nodes.r1.devices]
red = { table = 10 }
lan = { bridge = ["left"], mtu = 1400 }
core = { bond = ["right"], mode = "802.3ad" }
core5 = { svlan = 5, on = "core" }
core57 = { vlan = 7, on = "core5", vrf = "red", addresses = ["10.1.0.1/24"] }
"""
WITH_DEVICES = GOOD.replace('xdprouter = ["left"]', 'xdprouter = ["left", "core"]').replace(
    "[[links]]",
    DEVICES
    + '[[links]]\na = { node = "h1", port = "eth1" }\nb = { node = "r1", port = "right", vrf = "red" }\n[[links]]',
    1,
)


def test_devices_stand_on_ports_and_on_each_other():
    topology = parse_text(WITH_DEVICES)
    r1 = topology.nodes["r1"]
    assert r1.devices == (
        Device("red", "table", 10),
        Device("lan", "bridge", members=("left",), mtu=1400),
        Device("core", "bond", members=("right",), mode="802.3ad"),
        Device("core5", "svlan", 5, on="core"),
        Device("core57", "vlan", 7, on="core5", vrf="red", addresses=r1.devices[4].addresses),
    )
    assert r1.members == {"left", "right"}
    assert topology.ports("r1")[0].vrf == "red"
    assert topology.address("r1", 4, "core57") == "10.1.0.1"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("vlan = 7", "vlan = 4095", "core57.vlan: 4095 is not in 1..4094"),
        ('on = "core5"', 'on = "cor"', "core57.on: unknown device 'cor'; did you mean 'core'?"),
        ('on = "core" }', 'on = "core57" }', "core5.on: unknown device 'core57'; did you mean 'core'?"),
        ('svlan = 5, on = "core"', "svlan = 5", "core5: lacks 'on'"),
        ("svlan = 5", "vlann = 5", "core5: must have one of vlan, svlan, bond, bridge, table, to say what it is"),
        ("table = 10", 'table = 10, vlan = 5, on = "left"', "red: must have one of vlan, svlan, bond, bridge, table, to say what it is"),
        ("table = 10", 'table = 10, vrf = "red"', "red: unknown key 'vrf'; there are: table, addresses, mac, mtu"),
        ('mode = "802.3ad"', 'mode = "802.1ad"', "core.mode: unknown mode '802.1ad'; did you mean '802.3ad'?"),
        ('bond = ["right"]', 'bond = ["left"]', "core.bond: left is a member of lan already"),
        ('bond = ["right"]', 'bond = ["rght"]', "core.bond: unknown device 'rght'; did you mean 'right'?"),
        ('7, on = "core5", vrf = "red"', '7, on = "core5", vrf = "rod"', "core57.vrf: unknown VRF 'rod'; did you mean 'red'?"),
        ("core5 =", "left =", "left: is a port's name already"),
        ("core5 =", '"a/b" =', ": 'a/b' cannot name an interface"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_device_is_named(right, wrong, message):
    assert right in WITH_DEVICES
    with pytest.raises(TopologyError) as caught:
        parse_text(WITH_DEVICES.replace(right, wrong, 1))
    assert str(caught.value) == f"wire.toml: nodes.r1.devices{'' if message[0] == ':' else '.'}{message}"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('port = "right", vrf = "red"', 'port = "right", vrf = "blue"', "links[0].b.vrf: unknown VRF 'blue'; there are: red"),
        ('kind = "router"', 'kind = "router"\nvrf = "red"', "nodes.r1.vrf: only a host can have it; a router's ports and devices are in VRFs"),
        ('via = "10.1.0.1"', 'via = "10.1.0.1", vrf = "red"', "nodes.h1.routes[0].vrf: unknown VRF 'red'; there are: none"),
        (', vrf = "red", addresses', ", addresses", "nodes.r1.devices.core57.addresses: address 10.1.0.1 is already in links[1].b.addresses"),
        ('xdprouter = ["left", "core"]', 'xdprouter = ["core5"]', "nodes.r1.xdprouter: unknown port 'core5'; did you mean 'core'?"),
    ],
)  # fmt: skip
def test_what_refers_to_devices_is_checked(right, wrong, message):
    assert right in WITH_DEVICES
    with pytest.raises(TopologyError) as caught:
        parse_text(WITH_DEVICES.replace(right, wrong, 1))
    assert str(caught.value) == f"wire.toml: {message}"


def test_the_command_line_does_without_pyroute2():
    program = "import sys, lab.cli; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
