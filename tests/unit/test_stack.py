# SPDX-License-Identifier: GPL-2.0-only
"""What stands on what: which interfaces the fast path serves, by which tags, and why it does not serve the others."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.features import Feature
from controlplane.link import VLAN_8021AD, VLAN_8021Q, Bond, BondMember, Bridge, BridgePort, Link, Vlan, Vrf
from controlplane.place import InterfaceState, Kind
from controlplane.source import limits
from controlplane.stack import Stack, build
from controlplane.tags import TAG_8021AD, words

MAC = "02:00:00:00:00:0a"


def link(ifindex: int, name: str, **more) -> Link:
    return Link(**{"ifindex": ifindex, "name": name, "mac": MAC, "mtu": 1500, "up": True, "carrier": True, **more})


def vlan(ifindex: int, name: str, lower: int, vid: int, protocol: int = VLAN_8021Q, **more) -> Link:
    details = Vlan(
        vid, protocol, **{key: more.pop(key) for key in ("flags", "ingress_map", "egress_map") if key in more}
    )
    return link(ifindex, name, kind="vlan", lower=lower, details=details, **more)


ETH0, ETH1 = link(1, "eth0"), link(2, "eth1")
BOND = link(10, "bond0", kind="bond", details=Bond(1))
BR = link(20, "br0", kind="bridge", details=Bridge())
RED = link(30, "red", kind="vrf", details=Vrf(100))


def slave(base: Link, active: bool = True) -> Link:
    return replace(base, master=BOND.ifindex, upper_kind="bond", membership=BondMember(active))


def member(base: Link, **more) -> Link:
    return replace(base, master=BR.ifindex, upper_kind="bridge", membership=BridgePort(**more))


def in_red(base: Link) -> Link:
    return replace(base, master=RED.ifindex, upper_kind="vrf")


def why(stack: Stack, name: str) -> str:
    return next(shown.reason for shown in stack.shown.values() if shown.link.name == name)


def state(stack: Stack, name: str) -> InterfaceState:
    return next(shown.state for shown in stack.shown.values() if shown.link.name == name)


def test_a_plain_port_needs_nothing():
    stack = build([ETH0, ETH1], ["eth0", "absent"])
    assert stack.places.keys() == {1}
    assert (stack.needed, stack.tagged, stack.fdbs) == (frozenset(), {}, frozenset())
    assert stack.shown.keys() == {1}


def test_vlans_and_both_orders_of_qinq():
    stack = build(
        [
            vlan(5, "a.100", 1, 100), vlan(6, "a.s200", 1, 200, VLAN_8021AD), vlan(7, "a.s200.10", 6, 10), ETH0,
            vlan(8, "a.100.s7", 5, 7, VLAN_8021AD), vlan(3, "a.100.100", 5, 100),
        ],
        ["eth0"],
    )  # fmt: skip
    outer_s = 200 | TAG_8021AD
    assert stack.tagged == {
        (1, 100): 5, (1, outer_s): 6, (1, outer_s | 10 << 16): 7, (1, 100 | (7 | TAG_8021AD) << 16): 8,
        (1, 100 | 100 << 16): 3,
    }  # fmt: skip
    assert {words(place.tags) for place in stack.places.values()} == {
        "", "100", "802.1ad 200", "802.1ad 200.10", "100.802.1ad 7", "100.100",
    }  # fmt: skip
    assert stack.needed == {Feature.VLAN}
    assert all(shown.state is InterfaceState.ACTIVE for shown in stack.shown.values())


def test_the_mtu_is_what_the_port_can_send():
    """xdp_ok_fwd_dev(): a frame of the port's MTU, an Ethernet header and one tag."""
    links = [ETH0, vlan(5, "a", 1, 5), vlan(6, "b", 5, 6), vlan(7, "c", 1, 7, mtu=1400), vlan(8, "d", 7, 8, mtu=1400)]
    mtus = {place.link.name: place.mtu for place in build(links, ["eth0"]).places.values()}
    assert mtus == {"eth0": 1500, "a": 1500, "b": 1496, "c": 1400, "d": 1400}


BAD_VLANS = {
    "three tags": ([vlan(5, "a", 1, 5), vlan(6, "b", 5, 6), vlan(7, "x", 6, 7)], "more than 2 tags"),
    "egress map": ([vlan(7, "x", 1, 7, egress_map=True)], "egress-qos-map"),
    "ingress map": ([vlan(7, "x", 1, 7, ingress_map=True)], "ingress-qos-map"),
    "reorder_hdr": ([vlan(7, "x", 1, 7, flags=0)], "reorder_hdr"),
    "VID 0": ([vlan(7, "x", 1, 0)], "VID 0"),
    "VID too large": ([vlan(7, "x", 1, 4096)], "VID 4096"),
    "another protocol": ([vlan(7, "x", 1, 7, 0x9100)], "protocol 0x9100"),
    "enslaved": ([vlan(7, "x", 1, 7, upper_kind="bridge", master=99)], "enslaved to a bridge"),
    "a taker on top": (
        [vlan(7, "x", 1, 7), link(8, "iv", kind="ipvlan", lower=7, takes_frames=True)], "iv (ipvlan) may take",
    ),
    "below a bad one": ([vlan(5, "a", 1, 5, egress_map=True), vlan(7, "x", 5, 7)], "a, below it: its egress-qos-map"),
    "below one that is down": ([vlan(5, "a", 1, 5, up=False), vlan(7, "x", 5, 7)], "a, below it: administratively down"),
    "twice the same": ([vlan(7, "x", 1, 7), vlan(8, "y", 1, 7)], "two VLAN interfaces have these tags"),
    "on no port": ([ETH1, vlan(7, "x", 2, 7)], "eth1, below it, is no port"),
    "on a VLAN on no port": ([ETH1, vlan(5, "a", 2, 7), vlan(7, "x", 5, 7)], "eth1, below it, is no port"),
    "lower gone": ([vlan(7, "x", 98, 7)], "its lower device is not to be seen"),
    "lower elsewhere": ([vlan(7, "x", 0, 7, elsewhere=True)], "another network namespace"),
    "a loop": ([vlan(7, "x", 8, 7), vlan(8, "y", 7, 7)], "a loop of lower devices"),
    "on itself": ([vlan(7, "x", 7, 7)], "a loop of lower devices"),
    "on a slave of a bond": ([slave(ETH1), BOND, vlan(7, "x", 2, 7)], "eth1, below it, is enslaved to a bond"),
    "no details": ([link(7, "x", kind="vlan", lower=1)], "does not tell its tag"),
}  # fmt: skip


@pytest.mark.parametrize(("links", "reason"), BAD_VLANS.values(), ids=BAD_VLANS)
def test_a_vlan_that_is_not_served_says_why(links, reason):
    stack = build([ETH0, *links], ["eth0"])
    assert reason in why(stack, "x")
    assert state(stack, "x") is InterfaceState.SLOW
    assert 7 not in stack.places
    assert 7 not in stack.tagged.values()


@pytest.mark.parametrize("what", [{"up": False, "carrier": False}, {"up": False}])
def test_a_vlan_that_is_down(what):
    stack = build([ETH0, vlan(7, "x", 1, 7, **what)], ["eth0"])
    assert (state(stack, "x"), why(stack, "x")) == (InterfaceState.DOWN, "administratively down")
    assert stack.tagged == {}


def test_a_vlan_cannot_be_a_port():
    stack = build([ETH0, vlan(7, "eth0.7", 1, 7)], ["eth0.7"])
    assert "wish for its port instead" in stack.refused["eth0.7"]
    assert stack.places == {}


def test_a_bond_its_members_and_its_vlans():
    links = [slave(ETH0), slave(ETH1, active=False), BOND, vlan(7, "bond0.7", 10, 7)]
    stack = build(links, ["bond0"])
    assert {i: (p.kind, p.port, p.upper) for i, p in stack.places.items()} == {
        10: (Kind.BOND, "bond0", 0), 1: (Kind.MEMBER, "bond0", 10), 7: (Kind.VLAN, "bond0", 0),
    }  # fmt: skip
    assert stack.tagged == {(10, 7): 7}
    assert stack.needed == {Feature.UPPER, Feature.VLAN}
    assert 1 not in stack.shown


def test_a_bond_without_a_member_and_one_that_runs_no_xdp():
    assert build([BOND], ["bond0"]).held == {"bond0": "a bond without a member"}
    alb = replace(BOND, details=Bond(6))
    assert "balance-alb" in build([alb], ["bond0"]).refused["bond0"]


def test_a_member_of_a_bond_is_no_port():
    assert "wish for the bond bond0" in build([slave(ETH0), BOND], ["eth0"]).refused["eth0"]


def test_a_member_with_vlans_of_its_own_takes_frames_before_its_bond():
    stack = build([slave(ETH0), slave(ETH1), BOND, vlan(7, "eth0.7", 1, 7)], ["bond0"])
    assert stack.places.keys() == {10, 2}


def test_a_bond_over_a_vlan():
    """Nothing is seen on such a member, and what its port sees is the kernel's."""
    links = [ETH0, slave(vlan(7, "eth0.7", 1, 7)), BOND]
    stack = build(links, ["eth0", "bond0"])
    assert (stack.places.keys(), stack.tagged, stack.held) == ({1, 10}, {}, {})
    assert "enslaved" in why(stack, "eth0.7")
    assert build(links[1:], ["bond0"]).places.keys() == {10}


def test_a_bridge_and_a_vlan_on_it():
    links = [member(ETH0), member(replace(ETH1, mtu=1450)), BR, vlan(7, "br0.7", 20, 7), vlan(8, "br0.7.8", 7, 8)]
    stack = build(links, ["eth0", "eth1"])
    assert {i: (p.upper, p.bridge, p.device) for i, p in stack.places.items()} == {
        1: (20, 0, 1), 2: (20, 0, 2), 20: (0, 20, 20), 7: (0, 20, 20), 8: (0, 20, 20),
    }  # fmt: skip
    assert stack.places[8].mtu == 1446
    assert stack.shown[20].ports == stack.shown[7].ports == ("eth0", "eth1")
    assert stack.needed == {Feature.UPPER, Feature.BRIDGE, Feature.VLAN}
    assert stack.fdbs == {20}
    assert 1 not in stack.shown


BAD_BRIDGES = {
    "vlan_filtering": ([replace(BR, details=Bridge(vlan_filtering=True)), member(ETH0)], "vlan_filtering is on"),
    "ageing": ([replace(BR, details=Bridge(ageing_s=10)), member(ETH0)], "ageing time is below"),
    "isolated": ([BR, member(ETH0, unusual=("isolated",))], "isolated"),
    "enslaved": ([replace(BR, upper_kind="bond", master=99), member(ETH0)], "enslaved to a bond"),
    "openvswitch": ([replace(BR, details=None, kind="openvswitch"), member(ETH0)], "openvswitch is not served"),
    "not seen": ([member(ETH0)], "not to be seen"),
    "VLAN below": ([BR, member(ETH0), vlan(7, "eth0.7", 1, 7)], "eth0.7 sits below the bridge"),
}


@pytest.mark.parametrize(("links", "reason"), BAD_BRIDGES.values(), ids=BAD_BRIDGES)
def test_a_member_of_a_bridge_that_is_not_served_is_refused(links, reason):
    stack = build(links, ["eth0"])
    assert reason in stack.refused["eth0"]
    assert (stack.places, stack.tagged, stack.fdbs) == ({}, {}, frozenset())


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        ([BR, member(ETH0, state=1)], "the bridge br0 has it listening"),
        ([replace(BR, up=False), member(ETH0)], "the bridge br0: administratively down"),
    ],
)
def test_a_member_that_is_held_is_no_interface(links, reason):
    stack = build(links, ["eth0"])
    assert stack.held == {"eth0": reason}
    assert stack.places == {}


def test_a_bridge_none_of_whose_members_is_a_port():
    stack = build([BR, member(ETH0), ETH1], ["eth1"])
    assert why(stack, "br0") == "no member of it is a port"
    assert stack.needed == frozenset()


def test_vrfs_of_ports_vlans_bonds_and_bridges():
    links = [RED, in_red(ETH0), ETH1, in_red(vlan(7, "eth1.7", 2, 7)), vlan(8, "eth0.8", 1, 8), in_red(BR)]
    stack = build(links, ["eth0", "eth1"])
    assert {p.link.name: p.vrf for p in stack.places.values()} == {
        "eth0": "red", "eth1": "", "eth1.7": "red", "eth0.8": "",
    }  # fmt: skip
    assert stack.vrfs == {"red": RED}
    assert Feature.VRF in stack.needed


def test_what_the_program_cannot_do_yet_is_not_told():
    links = [member(ETH0), BR, ETH1, vlan(7, "eth1.7", 2, 7)]
    stack = build(links, ["eth0", "eth1"], available=frozenset())
    assert stack.places.keys() == {2}
    assert stack.tagged == {}
    assert stack.needed == {Feature.UPPER, Feature.BRIDGE, Feature.VLAN}
    assert "compiled" in why(stack, "eth1.7")
    assert "compiled" in why(stack, "br0")


def test_what_is_found_on_a_device_concerns_all_above_it():
    links = [ETH0, vlan(5, "a", 1, 5), vlan(6, "a.6", 5, 6), vlan(7, "b", 1, 7), in_red(vlan(8, "c", 1, 8)), RED]
    stack = build(links, ["eth0"], found={"a": "tc: a filter", "red": "tc: on red"})
    assert stack.places.keys() == {1, 7}
    assert why(stack, "a") == "tc: a filter"
    assert why(stack, "c") == "tc: on red"
    stack = build([slave(ETH0), BOND], ["bond0"], found={"eth0": "tc: a filter"})
    assert stack.guarded == {"bond0": "tc: a filter"}


def test_stripped_tags_keep_the_port_off_the_fast_path():
    links = [ETH0, vlan(5, "a", 1, 5)]
    stack = build(links, ["eth0"], stripping={1: {VLAN_8021Q}})
    assert "`ethtool -K eth0 rxvlan off`" in stack.guarded["eth0"]
    assert build([ETH0], ["eth0"], stripping={1: {VLAN_8021Q}}).guarded == {}
    on_a_bond = [slave(ETH0), BOND, vlan(5, "bond0.5", 10, 5)]
    assert build(on_a_bond, ["bond0"], stripping={10: {VLAN_8021Q}}).guarded == {}
    assert "ethtool -K eth0 rxvlan off" in build(on_a_bond, ["bond0"], stripping={1: {VLAN_8021Q}}).guarded["bond0"]
    stag = [replace(ETH0, kind="veth"), vlan(5, "a", 1, 5, VLAN_8021AD)]
    assert "stag" in build(stag, ["eth0"], stripping={1: {VLAN_8021AD}}).guarded["eth0"]
    assert build([stag[0], links[1]], ["eth0"], stripping={1: {VLAN_8021AD}}).guarded == {}


def test_there_is_room_for_so_many():
    number = limits()["MAX_INTERFACES"] + 5
    vlans = [vlan(10 + i, f"v{i}", 1 + i % 2, 1 + i // 2 % 4094) for i in range(number)]
    stack = build([ETH0, ETH1, *vlans], ["eth0", "eth1"])
    assert len(stack.places) == limits()["MAX_INTERFACES"]
    assert len(stack.tagged) == limits()["MAX_INTERFACES"] - 2
    left_out = [shown for shown in stack.shown.values() if shown.state is InterfaceState.SLOW]
    assert {shown.reason for shown in left_out} == {"more than 4096 interfaces"}
    assert len(left_out) == 5 + 2


# --- whatever the kernel says ------------------------------------------------------------------------

_IFINDEXES = st.integers(0, 9)
_VLANS = st.builds(Vlan, st.sampled_from([0, 1, 2, 4094]), st.sampled_from([VLAN_8021Q, VLAN_8021AD, 0x9100]))
_KINDS = {  # and the details that link.py reads of each
    "": st.none(), "veth": st.none(), "ipvlan": st.none(), "vlan": _VLANS, "bond": st.builds(Bond, st.integers(0, 7)),
    "bridge": st.builds(Bridge, st.booleans(), st.sampled_from([0.0, 300.0])), "vrf": st.just(Vrf(7)),
}  # fmt: skip


@st.composite
def graphs(draw) -> list[Link]:
    out = []
    for ifindex in draw(st.sets(st.integers(1, 9))):
        upper_kind = draw(st.sampled_from(["", "bond", "bridge", "vrf", "team"]))
        kind = draw(st.sampled_from([*_KINDS, "vlan"]))
        out.append(
            Link(
                ifindex, draw(st.sampled_from("abcdefghi")) + str(draw(st.integers(0, 1))), draw(st.sampled_from([MAC, ""])),
                1500, draw(st.booleans()), draw(st.booleans()),
                kind=kind,
                upper_kind=upper_kind, lower=draw(_IFINDEXES), takes_frames=draw(st.integers(0, 9)) == 0,
                master=draw(_IFINDEXES), details=draw(_KINDS[kind]),
                membership=draw(st.sampled_from([None, BondMember(True), BondMember(False), BridgePort(), BridgePort(1)])),
                elsewhere=draw(st.booleans()),
            )
        )  # fmt: skip
    return out


@settings(max_examples=300)
@given(
    graphs(), st.sets(st.sampled_from([c + n for c in "abcdefghi" for n in "01"])), st.sets(st.sampled_from(Feature))
)
def test_any_graph(links, ports, available):
    stack = build(links, ports, available=frozenset(available))
    by_index = {link.ifindex: link for link in links}
    for ifindex, place in stack.places.items():
        assert place.link is by_index[ifindex]
        assert place.port in ports
        assert place.port not in stack.refused
        assert not (place.upper or place.bridge) or Feature.UPPER in available
        assert not place.bridge or place.bridge in stack.fdbs
        assert not place.tags or Feature.VLAN in available
        if place.upper:
            assert place.upper in stack.places
    for (device, tags), ifindex in stack.tagged.items():
        assert stack.places[ifindex].tags == tags
        assert stack.places[ifindex].device == device
        assert device in stack.places
        assert not stack.places[device].tags
    assert len(set(stack.tagged.values())) == len(stack.tagged)
    for shown in stack.shown.values():
        assert (shown.reason == "") == (shown.state is InterfaceState.ACTIVE) == (shown.link.ifindex in stack.places)
