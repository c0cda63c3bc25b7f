# SPDX-License-Identifier: GPL-2.0-only
"""Frames that belong to a device above the one they come in on: members of a bond and of a bridge. With the program for
that alone and the one with all features, with the cache and without."""

import pytest

from controlplane.cache import HZ
from controlplane.counters import Traffic
from tests import packets
from tests.bpf.link_cases import (
    ALL_FEATURES,
    KEYS,
    Case,
    both,
    expected,
    header,
    outcome,
    outcomes,
    through,
    udp,
)
from tests.bpf.links import (
    ELSEWHERE_MAC,
    Links,
    Tag,
    ad,
    address,
    destination,
    mac,
    next_hop_mac,
)
from tests.bpf.network import rise

REFRESH_TIME = 10 * HZ
"""FDB_REFRESH_TIME of bpf/bridge.h"""
UNKNOWN_MAC = "02:00:00:00:ee:01"
UNLEARNED_HOST = 3


def to(
    description: str, ingress: str, egress: str, verdict: str = "forward", *, family: int, host: int = 0,
    length: int = 60, **more,
) -> Case:  # fmt: skip
    """To a network behind the egress, or to a host on its own."""
    target = address(egress, family, host) if host else destination(egress, family)
    return through(description, ingress, egress, udp(target, length), verdict, host=host or 2, **more)


BOND = [
    *both("bond member to a port", to, "bond0", "p1", device="e0"),
    *both("other bond member to a port", to, "bond0", "p1", device="e1"),
    *both("port to a bond", to, "p0", "bond0"),
    *both("bond member back out of the bond", to, "bond0", "bond0", "pass_hairpin", device="e0"),
    *both("the member's own mac", to, "bond0", "p1", "pass_not_ours", device="e0", to=mac("e0")),
    *both("guarded bond member", to, "bond0", "p1", "pass_guarded", device="eguarded"),
    *both("member of a guarded bond", to, "bond1", "p1", "pass_guarded", device="f0"),
    *both("member of a bond that is gone", to, "bond0", "p1", "pass_unknown_port", device="elost"),
    *both("multicast on a bond member", to, "bond0", "p1", "pass_multicast", device="e0", to="01:00:5e:00:00:05"),
    Case("arp on a bond member", bytes(packets.arp_request("10.0.30.1")), "pass_not_ip", "e0"),
    *both("ttl on a bond member", lambda d, family: through(
        d, "bond0", "p1", udp(destination("p1", family), **{"ttl" if family == 4 else "hlim": 1}), "pass_ttl",
        device="e0")),
]  # fmt: skip
BRIDGE = [
    *both("bridge to a port", to, "br0", "p1", device="m0"),
    *both("port to a host that the bridge knows", to, "p0", "br0", port="m1"),
    *both("port to a host that the bridge does not know", to, "p0", "br0", "pass_bridge", host=UNLEARNED_HOST,
          fib_code=0),
    *both("to a host behind a member that is no port", to, "p0", "br0", "pass_bridge", host=5, fib_code=0),
    *both("to a host behind a member not in the devmap", to, "p0", "br0", "pass_egress_unavailable", host=8),
    *both("the mtu of the member", to, "p0", "br0", host=4, port="m2", length=1400),
    *both("over the mtu of the member", to, "p0", "br0", "pass_too_big", host=4, length=1401, fib_code=0),
    *both("over the mtu of another member", to, "p0", "br0", port="m1", length=1401),
    *both("the mtu of the bridge", to, "p0", "br0", port="m1", length=1500),
    *both("over the mtu of the bridge", to, "p0", "br0", "pass_too_big", length=1501),
    *both("between members of one bridge", to, "br0", "br0", "pass_hairpin", device="m0"),
    *both("from a sender that the bridge does not know", to, "br0", "p1", "pass_bridge", device="m0",
          sender=UNKNOWN_MAC),
    *both("from a sender known on another member", to, "br0", "p1", "pass_bridge", device="m0", sender=ELSEWHERE_MAC),
    *both("from that sender on that member", to, "br0", "p1", device="m1", sender=ELSEWHERE_MAC),
    *both("for a host on the bridge", lambda d, family: through(
        d, "br0", "p1", udp(destination("p1", family)), "pass_not_ours", device="m0", to=next_hop_mac("br0"))),
    *both("for the member's own mac", to, "br0", "p1", "pass_not_ours", device="m0", to=mac("m0")),
    *both("broadcast on a bridge member", to, "br0", "p1", "pass_multicast", device="m0", to="ff:ff:ff:ff:ff:ff"),
    *both("not ours, from a sender not known", to, "br0", "p1", "pass_not_ours", device="m0", to=mac("m0"),
          sender=UNKNOWN_MAC),
    *both("member that the data plane does not know", to, "br0", "p1", "pass_unknown_port", device="mforeign"),
    *both("jumbo to a member that takes no multi-buffer frame", lambda d, family: through(
        d, "big0", "br0", udp(address("br0", family, 7), 8000), "pass_too_big", fib_code=8)),
]  # fmt: skip
TAGS_BELOW = [
    *both("tag on a bond member to a port", to, "b10", "p1", device="e0"),
    *both("two tags on a bond member to a port", to, "bq5", "p1", device="e1"),
    *both("tag on a port to a vlan of a bond", to, "v10", "b10"),
    *both("vlan of a bond to the bond", to, "b10", "bond0", device="e0"),
    *both("vlan of a bond to another", to, "b10", "bq5", device="e0"),
    *both("pcp on a bond member", to, "b10", "p1", device="e0", tags=(Tag(10, pcp=6, dei=1),)),
    *both("unknown vid on a bond member", to, "b10", "p1", "pass_vlan_tag", device="e0", tags=(Tag(20),)),
    *both("tag on a guarded bond member", to, "b10", "p1", "pass_guarded", device="eguarded"),
    *both("tag on the member of a guarded bond", to, "bg10", "p1", "pass_guarded", device="f0"),
    *both("tag on the member of a bond that is gone", to, "b10", "p1", "pass_unknown_port", device="elost"),
    *both("vlan of a bridge to a port", to, "bv40", "p1", device="m0"),
    *both("vlan of a bridge to the bridge", to, "bv40", "br0", device="m0", port="m1"),
    *both("two tags on a bridge to a port", to, "bvq", "p1", device="m0"),
    *both("port to a vlan of a bridge", to, "p0", "bv40", port="m1"),
    *both("port to two tags on a bridge", to, "p0", "bvq", port="m1"),
    *both("vlan of a bridge to a vlan of a bond", to, "bv40", "b10", device="m0"),
    *both("vlan of a bridge, sender not known", to, "bv40", "p1", "pass_bridge", device="m0", sender=UNKNOWN_MAC),
    *both("vlan of a bridge, host not known", to, "p0", "bv40", "pass_bridge", host=UNLEARNED_HOST, fib_code=0),
    *both("the mtu of the member with a tag", to, "p0", "bv40", host=4, port="m2", length=1400),
    *both("over the mtu of the member with a tag", to, "p0", "bv40", "pass_too_big", host=4, length=1401, fib_code=0),
    *both("the most that a member takes with two tags", to, "p0", "bvq", host=4, port="m2", length=1396),
    *both("more than a member takes with two tags", to, "p0", "bvq", "pass_too_big", host=4, length=1397, fib_code=0),
    *both("unknown vid on a bridge member", to, "bv40", "p1", "pass_vlan_tag", device="m0", tags=(Tag(41),)),
    *both("vid of the bridge on a port that is no member", to, "bv40", "p1", "pass_vlan_tag", device="p0"),
    *both("unknown vid on a bridge member, sender not known", to, "bv40", "p1", "pass_vlan_tag", device="m0",
          tags=(ad(40),), sender=UNKNOWN_MAC),
    Case("arp on a vlan of a bridge", header("ff:ff:ff:ff:ff:ff", packets.HOST_MAC, (Tag(40),), 0x0806)
         + bytes(packets.arp_request("10.0.41.1"))[14:], "pass_not_ip", "m0"),
]  # fmt: skip
UNTAGGED = {"upper": BOND, "bridge": [*BOND, *BRIDGE]}
PROGRAMS = {"upper": ("UPPER",), "bridge": ("UPPER", "BRIDGE"), "all": ALL_FEATURES}
TABLES = [*BOND, *BRIDGE, *TAGS_BELOW]
RUNS = [
    *[("upper", case) for case in BOND],
    *[("bridge", case) for case in [*BOND, *BRIDGE]],
    *[("all", case) for case in TABLES],
]


@pytest.fixture
def below(links_with):
    """`below("all", cached=True)` -> the data plane, whose bridges have learned the hosts of the tables."""

    def get(program: str, cached: bool = False) -> Links:
        links = links_with(*PROGRAMS[program], cached=cached)
        links.learn_hosts()
        return links

    return get


with_runs = pytest.mark.parametrize(
    ("program", "case"), RUNS, ids=[f"{program}-{case.description.replace(' ', '-')}" for program, case in RUNS]
)


@with_runs
def test_packet(program, case, below):
    assert outcome(case, below(program)) == expected(case)


@pytest.mark.parametrize("key", KEYS)
@with_runs
def test_packet_recalled(program, case, key, below, one_cpu):
    turns = [expected(case, recalled) for recalled in (False, True, True)]
    assert outcomes(case, below(program, cached=True), KEYS[key]) == turns


# --- senders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True], ids=["asked", "recalled"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_sender_is_shown_to_the_bridge_now_and_then(family, cached, below, one_cpu):
    """Once when it is due, then not again for as long."""
    links = below("bridge", cached)
    case = to("", "br0", "p1", family=family, device="m0")
    links.dataplane.cache.invalidate()
    links.grant(KEYS["narrow"])
    assert _action(links, case) == "forward"
    links.learn("br0", packets.HOST_MAC, "m0", ago=REFRESH_TIME + 1)
    assert _action(links, case) == "pass_bridge"
    now = links.jiffies()
    assert 0 <= (now - links.refreshed("br0", packets.HOST_MAC)) & 0xFFFFFFFF < REFRESH_TIME
    assert _action(links, case) == "forward"
    links.learn("br0", packets.HOST_MAC, "m0", ago=REFRESH_TIME - HZ)
    assert _action(links, case) == "forward"


def test_a_refresh_is_noted_for_frames_from_there_only(below):
    links = below("bridge")
    links.learn("br0", packets.HOST_MAC, "m0", ago=REFRESH_TIME + HZ)
    before = links.refreshed("br0", packets.HOST_MAC)
    assert _action(links, to("", "br0", "p1", "pass_bridge", family=4, device="m1")) == "pass_bridge"
    assert links.refreshed("br0", packets.HOST_MAC) == before


@pytest.mark.parametrize("family", [4, 6])
def test_two_members_of_one_bond_keep_one_answer(family, below, one_cpu):
    """The cache's key has the interface, not the device that a frame came in on."""
    links = below("all", cached=True)
    links.dataplane.cache.invalidate()
    links.grant(KEYS["wide"])
    first, second = (to("", "b10", "p1", family=family, device=member) for member in ("e0", "e1"))
    assert _action(links, first) == "forward"
    before = links.counters()["bond0"].cache_hits
    assert _action(links, second) == "forward"
    assert links.counters()["bond0"].cache_hits == before + 1


def _action(links: Links, case: Case) -> str:
    """The verdict; the frame is forwarded as the case says, or untouched."""
    before = links.counters()
    action, after = links.run(case.frame, case.ingress)
    ((verdict, _),) = [found for port in rise(before, links.counters()).values() for found in port.ingress.items()]
    forwarded = verdict == "forward" and case.after
    assert after == (case.after if forwarded else case.frame), (action, verdict)
    return verdict


# --- VRFs -------------------------------------------------------------------------------------------

VRFS = {  # what is sent: number of the VRF, under what it counts
    "forwarded": (1, "forwarded", to("", "v10", "w10", family=4)),
    "forwarded ipv6": (1, "forwarded", to("", "v10", "w10", family=6)),
    "between two": (1, "forwarded", to("", "v10", "v20", family=4)),
    "the other way": (2, "forwarded", to("", "v20", "v10", family=4)),
    "passed": (1, "passed", to("", "v10", "w10", "pass_too_big", family=4, length=1501)),
    "not for us": (2, "passed", to("", "v20", "w10", "pass_not_ours", family=6, to=mac("v10"))),
    "dropped": (2, "dropped", through("", "v20", "w10", udp("10.91.0.5"), "drop_blackhole")),
    "in no vrf": (0, "", to("", "w10", "v10", family=4)),
    "unknown tag": (0, "", to("", "v10", "w10", "pass_vlan_tag", family=4, tags=(Tag(11),))),
}


@pytest.mark.parametrize("name", VRFS)
@pytest.mark.parametrize("features", [("VLAN", "VRF"), ALL_FEATURES], ids=["vlan-vrf", "all"])
def test_vrf_counts_what_comes_in_there(name, features, links_with):
    number, kind, case = VRFS[name]
    links = links_with(*features)
    before = {vrf: links.vrf(vrf) for vrf in range(4)}
    assert outcome(case, links) == expected(case)
    risen = {
        (vrf, name): total - before[vrf][name]
        for vrf in range(4)
        for name, total in links.vrf(vrf).items()
        if total != before[vrf][name]
    }
    assert risen == ({(number, kind): Traffic(1, len(case.frame))} if number else {})


def test_nothing_is_counted_by_vrf_where_there_is_none(links_with):
    """The feature is off."""
    links = links_with("VLAN")
    before = links.vrf(1)
    case = VRFS["forwarded"][2]
    assert outcome(case, links) == expected(case)
    assert links.vrf(1) == before
