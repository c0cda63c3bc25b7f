# SPDX-License-Identifier: GPL-2.0-only
"""The explaining variant agrees with the running program over links too: tags in and out, bonds, bridges, VRFs. What it
tells beside the verdict is checked against the network that links.py describes, and against the frame."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.cache import HZ
from controlplane.explain import Trace
from tests import packets
from tests.bpf import test_packets_below as below_tables
from tests.bpf import test_tagged_packets as tagged_tables
from tests.bpf.explaining import agree, contents, explain
from tests.bpf.link_cases import ALL_FEATURES, KEYS, Case, arriving, described, udp
from tests.bpf.links import DEVICES, ELSEWHERE_MAC, Links, Tag, destination, tags_number

pytestmark = pytest.mark.usefixtures("one_cpu")
TABLES = [*tagged_tables.TABLES, *below_tables.TABLES]
BEFORE_THE_INTERFACE = {"pass_vlan_tag", "pass_unknown_port", "pass_guarded", "pass_malformed"}
"""Verdicts that may fall before it is known whose the frame is"""


@pytest.fixture
def links(links_with) -> Links:
    return learned(links_with(*ALL_FEATURES))


@pytest.fixture
def cached_links(links_with) -> Links:
    return learned(links_with(*ALL_FEATURES, cached=True))


def learned(links: Links) -> Links:
    """Its bridges know the hosts of the tables."""
    links.learn_hosts()
    return links


# --- what has to be told ----------------------------------------------------------------------------


def tags_on(frame: bytes) -> tuple[Tag, ...]:
    """All of a frame's that are whole."""
    found, offset = [], 12
    while len(frame) >= offset + 6 and (protocol := int.from_bytes(frame[offset : offset + 2])) in (0x8100, 0x88A8):
        (control,) = struct.unpack_from("!H", frame, offset + 2)
        found.append(Tag(control & 0xFFF, protocol))
        offset += 4
    return tuple(found)


def belongs_to(frame: bytes, device: str) -> str:
    """The name of the interface, by the network's description; empty if there is none."""
    base = DEVICES[device].upper or device
    tags = tags_on(frame)
    if not tags:
        return base
    below = {"br0": ("bridge", "br0")}.get(base, ("port", base))
    return next((n for n, d in DEVICES.items() if getattr(d, below[0]) == below[1] and d.tags == tags), "")


def check_told(links: Links, trace: Trace, frame: bytes, device: str) -> None:
    names = {ifindex: name for name, ifindex in links.indexes.items()}
    slots = {slot: name for name, slot in links.slots.items()}
    owner = belongs_to(frame, device)
    if trace.verdict not in BEFORE_THE_INTERFACE or trace.ifindex:
        assert names[trace.ifindex] == owner
        assert trace.tags == tags_number(tags_on(frame))
        assert trace.vrf == DEVICES[owner].vrf
    assert trace.frame_len == len(frame)
    if DEVICES[device].known:
        assert slots[trace.slot] == (DEVICES[device].port or device)
    if trace.version:
        assert trace.datagram_len in (0, _datagram_len(frame, trace.version))
    if trace.way:
        egress, port = names[trace.way.hop.ifindex], slots[trace.way.slot]
        assert trace.way.tags == tags_number(DEVICES[egress].tags)
        assert port == DEVICES[egress].port or port == egress or DEVICES[port].upper == DEVICES[egress].bridge
    if trace.verdict != "forward":
        assert trace.frame == frame
        return
    assert tags_number(tags_on(trace.frame)) == trace.way.tags
    assert (trace.frame[:6].hex(":"), trace.frame[6:12].hex(":")) == (trace.way.dmac, trace.way.smac)
    assert len(trace.frame) - len(frame) == 4 * (len(tags_on(trace.frame)) - len(tags_on(frame)))
    assert trace.datagram_len <= trace.way.mtu


def _datagram_len(frame: bytes, version: int) -> int:
    """As its IP header says."""
    ip = frame[14 + 4 * len(tags_on(frame)) :]
    return int.from_bytes(ip[2:4]) if version == 4 else 40 + int.from_bytes(ip[4:6])


def check(explainers, links: Links, frame: bytes, device: str, key=None) -> Trace:
    trace = agree(explainers, links, frame, device, key)
    check_told(links, trace, frame, device)
    return trace


# --- the tables -------------------------------------------------------------------------------------


@described(TABLES)
def test_packet(case: Case, links, explainers):
    trace = check(explainers, links, case.frame, case.ingress)
    assert trace.verdict == case.verdict
    if case.verdict == "forward":
        assert {slot: name for name, slot in links.slots.items()}[trace.way.slot] == case.egress
        assert trace.frame.hex(" ") == case.after.hex(" ")


@pytest.mark.parametrize("key", KEYS)
@described(list({(case.verdict, case.ingress, case.egress): case for case in TABLES}.values()))
def test_packet_with_a_cache(case: Case, key, cached_links, explainers):
    cached_links.dataplane.cache.invalidate()
    assert check(explainers, cached_links, case.frame, case.ingress, KEYS[key]).verdict == case.verdict


@pytest.mark.parametrize("features", [(), ("VLAN",), ("UPPER",), ("UPPER", "BRIDGE"), ("VLAN", "VRF")], ids="-".join)
def test_programs_without_some_features(features, links_with, explainers):
    """Whose interfaces the maps know all the same."""
    links = learned(links_with(*features))
    for case in {(case.verdict, case.ingress): case for case in TABLES}.values():
        agree(explainers, links, case.frame, case.ingress)


# --- any frames -------------------------------------------------------------------------------------

DATAGRAMS = [
    udp(destination(name, family), length)
    for name in ("p1", "v10", "v20", "q5", "w10", "wq5", "idle10", "narrow", "bond0", "b10", "br0", "bv40", "bvq")
    for family in (4, 6)
    for length in (60, 1396, 1401, 1497, 1500)
]
SENDERS = (packets.HOST_MAC, ELSEWHERE_MAC, "02:00:00:00:ee:99")
ENTRIES = [name for name, device in DEVICES.items() if device.is_port or device.upper]
KNOWN_TAGS = sorted({tags for device in DEVICES.values() for tags in [device.tags]})
one_tag = st.builds(
    Tag,
    st.sampled_from((0, 5, 10, 20, 40, 100, 4095)),
    st.sampled_from((0x8100, 0x88A8)),
    st.integers(0, 7),
    st.integers(0, 1),
)


@st.composite
def frames(draw) -> tuple[bytes, str]:
    """(frame, the device it comes in on): mostly with tags and a MAC of one of the interfaces, then spoilt a little."""
    entry = draw(st.sampled_from(ENTRIES))
    owner = draw(st.sampled_from(sorted(DEVICES)))
    tags = draw(st.sampled_from([DEVICES[owner].tags, *KNOWN_TAGS]) | st.lists(one_tag, max_size=3).map(tuple))
    tags = tuple(tag._replace(pcp=draw(st.integers(0, 7)), dei=draw(st.integers(0, 1))) for tag in tags)
    frame = arriving(owner, draw(st.sampled_from(DATAGRAMS)), tags=tags, sender=draw(st.sampled_from(SENDERS)))
    frame = bytearray(frame + bytes(draw(st.sampled_from((0, 0, 0, 4, 30)))))
    for place, octet in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2)):
        frame[place] = octet
    return bytes(frame[: draw(st.sampled_from((len(frame), len(frame), 14, 17, 20, 40)))]), entry


fixtures_stay = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)


@fixtures_stay
@given(sent=frames())
def test_any_frame(sent, links, explainers):
    agree(explainers, links, *sent)


@fixtures_stay
@given(sent=frames())
def test_any_frame_with_a_cache(sent, cached_links, explainers):
    agree(explainers, cached_links, *sent, KEYS["wide"])


# --- what is not to be changed ----------------------------------------------------------------------


def test_a_sender_that_is_due_is_not_taken_for_seen(links, explainers):
    """The kernel has not seen the frame that was only explained."""
    frame = arriving("br0", udp(destination("p1", 4)))
    assert explain(explainers, links, frame, "m0").live.verdict == "forward"
    links.learn("br0", packets.HOST_MAC, "m0", ago=11 * HZ)
    for _ in range(2):
        assert explain(explainers, links, frame, "m0").live.verdict == "pass_bridge"
    links.run(frame, "m0")
    assert explain(explainers, links, frame, "m0").live.verdict == "forward"


def test_the_comparison_of_maps_sees_vrfs_and_the_fdb(links):
    before = contents(links)
    links.run(arriving("v20", udp(destination("w10", 4))), "p0")
    after = contents(links)
    assert before["vrf_counters"] != after["vrf_counters"]
    links.learn("br0", packets.HOST_MAC, "m0", ago=11 * HZ)
    before = contents(links)
    links.run(arriving("br0", udp(destination("p1", 4))), "m0")
    assert before["fdb"] != contents(links)["fdb"]
