# SPDX-License-Identifier: GPL-2.0-only
"""VLAN interfaces: frames with tags in, with other tags out; with the program for VLANs alone and the one with all
features, with the cache and without."""

import itertools

import pytest

from tests import packets
from tests.bpf.link_cases import (
    ALL_FEATURES,
    KEYS,
    Case,
    arriving,
    both,
    described,
    expected,
    header,
    outcome,
    outcomes,
    through,
    udp,
)
from tests.bpf.links import (
    POLICY_DESTINATION,
    QINQ_MTU,
    Tag,
    ad,
    address,
    destination,
    mac,
)

ROUTED = ("p0", "p1", "v10", "v20", "s10", "q5", "q6", "q7", "q8", "w10", "w4094", "wq5")
"""Untagged, both protocols, all pairs of protocols, and the same tags on another port"""


def to(description: str, ingress: str, egress: str, verdict: str = "forward", *, family: int, **more) -> Case:
    length, source = more.pop("length", 60), more.pop("source", None)
    fields = {"src": source} if source else {}
    return through(description, ingress, egress, udp(destination(egress, family), length, **fields), verdict, **more)


def small(
    description: str, ingress: str, egress: str, verdict: str = "forward", *, family: int, frame_len: int
) -> Case:
    """A datagram of nothing but its header and a byte, and padding up to so many bytes of frame."""
    datagram = bytes(packets.of_protocol(destination(egress, family), 89, b"\1"))[packets.ETHERNET_HEADER :]
    padding = bytes(frame_len - len(arriving(ingress, datagram)))
    return through(description, ingress, egress, datagram, verdict, padding=padding)


def stranger(description: str, verdict: str, tags: tuple[Tag, ...], *, family: int, **more) -> Case:
    """A frame with tags, for the port's own MAC."""
    return Case(description, arriving("p0", udp(destination("w10", family)), tags=tags, **more), verdict)


PAIRS = [
    case
    for ingress, egress in itertools.permutations(ROUTED, 2)
    for case in both(f"{ingress} to {egress}", to, ingress, egress)
]
PRIORITIES = [
    *both("pcp and dei of a tag become 0", to, "v10", "v20", tags=(Tag(10, pcp=5, dei=1),)),
    *both("pcp and dei of an 802.1ad tag become 0", to, "s10", "w10", tags=(ad(10, pcp=7, dei=1),)),
    *both("pcp and dei of both tags become 0", to, "q5", "wq5", tags=(ad(100, 7, 1), Tag(5, pcp=3, dei=1))),
    *both("pcp and dei of a tag that goes", to, "v10", "p1", tags=(Tag(10, pcp=7, dei=1),)),
]
LENGTHS = [
    *both("60 bytes with padding, tag added", small, "p0", "w10", frame_len=60),
    *both("60 bytes with padding, two tags added", small, "p0", "wq5", frame_len=60),
    *[case for n in (61, 64) for case in both(f"{n} bytes with a tag and padding, tag kept", small, "v10", "w10",
                                              frame_len=n)],
    *both("64 bytes with a tag and padding, tag removed", small, "v10", "p1", frame_len=64),
    *both("68 bytes with two tags and padding, tags removed", small, "q5", "p1", frame_len=68),
    *both("68 bytes with two tags and padding, one kept", small, "q5", "w10", frame_len=68),
    *both("65 bytes with a tag, more than padding", small, "v10", "w10", "pass_trailer", frame_len=65),
    *both("69 bytes with two tags, more than padding", small, "q5", "w10", "pass_trailer", frame_len=69),
    *both("61 bytes without a tag, more than padding", small, "p0", "w10", "pass_trailer", frame_len=61),
    Case("ipv4 46 bytes with a tag, without padding", arriving("v10", udp(destination("p1", 4), 28)), "forward",
         after=through("", "v10", "p1", udp(destination("p1", 4), 28)).after, egress="p1"),
    *both("a vlan interface's mtu", to, "v10", "w10", length=1500),
    *both("over a vlan interface's mtu", to, "v10", "w10", "pass_too_big", length=1501),
    *both("a vlan interface's own mtu", to, "v10", "narrow", length=1400),
    *both("over a vlan interface's own mtu", to, "v10", "narrow", "pass_too_big", length=1401),
    *both("the most that a port takes with two tags", to, "v10", "wq5", length=QINQ_MTU),
    *both("more than a port takes with two tags", to, "v10", "wq5", "pass_too_big", length=QINQ_MTU + 1, fib_code=0),
    *both("too big for an untagged port, once its tag is gone", to, "j10", "p1", "pass_too_big", length=1501),
]  # fmt: skip
MULTI_BUFFER = [
    *[case for ingress, egress in itertools.permutations(("big0", "big1", "j10", "jq"), 2)
      for case in both(f"jumbo {ingress} to {egress}", to, ingress, egress, length=8900)],
    *both("jumbo at the mtu", to, "big1", "j10", length=9000),
    *both("jumbo at the usable mtu", to, "j10", "jq", length=8996),
    *both("jumbo over the usable mtu", to, "j10", "jq", "pass_too_big", length=8997, fib_code=0),
    *both("jumbo to a port that takes no multi-buffer frame", to, "j10", "plain10", "pass_egress_unavailable",
          length=8000),
]  # fmt: skip
STRANGERS = [
    *both("priority tag", stranger, "pass_vlan_tag", (Tag(0),)),
    *both("priority tag with a pcp", stranger, "pass_vlan_tag", (Tag(0, pcp=7),)),
    *both("802.1ad priority tag", stranger, "pass_vlan_tag", (ad(0),)),
    *both("priority tag within a tag", stranger, "pass_vlan_tag", (ad(100), Tag(0))),
    *both("priority tag around a tag", stranger, "pass_vlan_tag", (Tag(0), Tag(10))),
    *both("unknown vid", stranger, "pass_vlan_tag", (Tag(11),)),
    *both("vid of another protocol", stranger, "pass_vlan_tag", (ad(20),)),
    *both("vid known on another port only", stranger, "pass_vlan_tag", (Tag(4094),)),
    *both("reserved vid", stranger, "pass_vlan_tag", (Tag(4095),)),
    *both("outer tag alone", stranger, "pass_vlan_tag", (ad(100),)),
    *both("inner tag unknown", stranger, "pass_vlan_tag", (ad(100), Tag(6))),
    *both("inner tag of another protocol", stranger, "pass_vlan_tag", (ad(100), ad(5))),
    *both("tags the other way round", stranger, "pass_vlan_tag", (Tag(5), ad(100))),
    *both("known tag around one too many", stranger, "pass_vlan_tag", (Tag(10), Tag(10))),
    *both("three tags", stranger, "pass_vlan_tag", (ad(100), Tag(5), Tag(5))),
    *both("the port's mac on a vlan", stranger, "pass_not_ours", (Tag(10),)),
    *both("broadcast on a vlan", stranger, "pass_multicast", (Tag(10),), to="ff:ff:ff:ff:ff:ff"),
    *both("multicast on a vlan", stranger, "pass_multicast", (Tag(10),), to="01:00:5e:00:00:05"),
    *both("broadcast within two tags", stranger, "pass_multicast", (ad(100), Tag(5)), to="ff:ff:ff:ff:ff:ff"),
    *both("multicast on an unknown vlan", stranger, "pass_vlan_tag", (Tag(11),), to="01:00:5e:00:00:05"),
    *both("a vlan interface's mac without its tag", to, "p0", "w10", "pass_not_ours", to=mac("v10")),
    *both("a vlan interface's mac on another", to, "v10", "w10", "pass_not_ours", to=mac("v20")),
    Case("arp on a vlan", header("ff:ff:ff:ff:ff:ff", packets.HOST_MAC, (Tag(10),), 0x0806)
         + bytes(packets.arp_request("10.0.10.1"))[14:], "pass_not_ip"),
    Case("arp on an unknown vlan", header("ff:ff:ff:ff:ff:ff", packets.HOST_MAC, (Tag(11),), 0x0806)
         + bytes(packets.arp_request("10.0.10.1"))[14:], "pass_vlan_tag"),
    Case("mpls on a vlan", header(mac("v10"), packets.HOST_MAC, (Tag(10),), 0x8847) + bytes(46), "pass_not_ip"),
    Case("ipv4 under the ethertype of ipv6 on a vlan",
         header(mac("v10"), packets.HOST_MAC, (Tag(10),), 0x86DD) + udp(destination("w10", 4)), "pass_malformed"),
]  # fmt: skip
ROUTING = [
    *both("vlan to vlan of one port is no hairpin", to, "v10", "v20"),
    *both("back out of a vlan", to, "v10", "v10", "pass_hairpin"),
    Case("ipv4 back out of a vlan without redirects",
         arriving("hairpin", udp(destination("hairpin", 4))), "forward", egress="p0",
         after=through("", "hairpin", "hairpin", udp(destination("hairpin", 4))).after),
    *both("back out of a vlan without redirects", to, "hairpin", "hairpin", "pass_hairpin")[1:],
    *both("to the vlan interface itself", lambda d, family: through(
        d, "v10", "v10", udp(address("v10", family)), "pass_local_or_no_route")),
    *both("blackhole from a vlan", lambda d, family: through(
        d, "v10", "w10", udp("10.91.0.5" if family == 4 else "2001:db8:91::5"), "drop_blackhole", fib_code=1)),
    *both("ttl on a vlan", lambda d, family: through(
        d, "v10", "w10", udp(destination("w10", family), **{"ttl" if family == 4 else "hlim": 1}), "pass_ttl")),
    *both("egress port of a vlan not in the devmap", to, "v10", "idle10", "pass_egress_unavailable"),
    *both("guarded vlan", to, "guarded", "w10", "pass_guarded"),
    *both("rule on another vlan", lambda d, family: through(d, "v10", "w10", udp(POLICY_DESTINATION[family]))),
    *both("rule on the vlan", lambda d, family: through(
        d, "v20", "w10", udp(POLICY_DESTINATION[family]), "drop_blackhole")),
    to("strict vlan: source behind it", "strict", "w10", family=4, source=address("strict", 4, 2)),
    to("strict vlan: source behind its port", "strict", "w10", "pass_reverse_path", family=4,
       source=address("p0", 4, 2)),
    to("strict vlan: source behind another vlan of the port", "strict", "w10", "pass_reverse_path", family=4,
       source=address("v10", 4, 2)),
    to("strict vlan: ipv6 has no rp_filter", "strict", "w10", family=6),
    to("loose vlan: source behind another vlan", "loose", "w10", family=4, source=address("v10", 4, 2)),
    to("loose vlan: source without a route", "loose", "w10", "pass_reverse_path", family=4, source="192.0.2.1"),
]  # fmt: skip
TABLES = [*PAIRS, *PRIORITIES, *LENGTHS, *MULTI_BUFFER, *STRANGERS, *ROUTING]
PROGRAMS = {"vlan": ("VLAN",), "all": ALL_FEATURES}
with_programs = pytest.mark.parametrize("features", PROGRAMS.values(), ids=PROGRAMS)


@with_programs
@described(TABLES)
def test_packet(case, features, links_with):
    assert outcome(case, links_with(*features)) == expected(case)


@pytest.mark.parametrize("key", KEYS)
@described(TABLES)
def test_packet_recalled(case, key, links_with, one_cpu):
    turns = [expected(case, recalled) for recalled in (False, True, True)]
    assert outcomes(case, links_with(*ALL_FEATURES, cached=True), KEYS[key]) == turns


@pytest.fixture(params=["low_tagged", "tagged_interfaces"])
def only_in(request, links_with):
    """Tags are in one of the two maps only."""
    links = links_with("VLAN")
    if request.param == "low_tagged":
        links.dataplane._tables[b"tagged_interfaces"].clear()
    else:
        links.dataplane._memory.clear("low_tagged")
    yield links
    with links.ns.entered():
        links.describe()


def test_each_map_of_tags_is_enough(only_in):
    """The array's places are where Python writes them; and what has no place there is found."""
    for case in TABLES:
        assert (case.description, outcome(case, only_in)) == (case.description, expected(case))
