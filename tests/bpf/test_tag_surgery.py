# SPDX-License-Identifier: GPL-2.0-only
"""Tags off and tags on, at the head of whatever frame: nothing but the Ethernet header, the TTL and the checksum of a
packet changes, and a frame that cannot be changed is not touched."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.libbpf import XdpMd
from tests import packets
from tests.bpf.link_cases import (
    ALL_FEATURES,
    XDP_PASS,
    XDP_REDIRECT,
    arriving,
    leaving,
    through,
    udp,
)
from tests.bpf.links import (
    DEVICES,
    Tag,
    destination,
)
from tests.bpf.network import rise

HEADROOM = 256
"""XDP_PACKET_HEADROOM, of which the kernel keeps what struct xdp_frame needs"""
UNTAGGED_AND_TAGGED = ("big0", "big1", "j10", "jq")
ONE_BUFFER = ("p0", "p1", "v10", "s10", "q5", "q6", "q7", "q8", "w10", "wq5")


def tags_of(name: str, priorities) -> tuple[Tag, ...]:
    """Those of an interface, with a PCP and a DEI that the network may have set."""
    bits = zip(DEVICES[name].tags, priorities, strict=False)
    return tuple(Tag(tag.vid, tag.protocol, priority >> 1, priority & 1) for tag, priority in bits)


@st.composite
def datagrams(draw, egress: str, at_most: int):
    """Valid ones that are forwarded, of every length that goes, without options."""
    family = draw(st.sampled_from((4, 6)))
    target = destination(egress, family, draw(st.integers(1, 254 if family == 4 else 9)))
    least = 20 if family == 4 else 40
    length = draw(st.integers(least, at_most) | st.sampled_from((least, at_most)))
    payload = draw(st.randoms(use_true_random=False)).randbytes(length - least)
    ttl = draw(st.integers(2, 255))
    if family == 4:
        fields = {"ttl": ttl, "tos": draw(st.integers(0, 255)), "id": draw(st.integers(0, 0xFFFF))}
    else:
        fields = {"hlim": ttl, "tc": draw(st.integers(0, 255)), "fl": draw(st.integers(0, 0xFFFFF))}
    protocol = draw(st.sampled_from((89, 47, 103)))  # without ports
    return bytes(packets.of_protocol(target, protocol, payload, **fields))[packets.ETHERNET_HEADER :]


@st.composite
def passages(draw, names: tuple[str, ...]):
    """(ingress, egress, tags as they come in, datagram)"""
    ingress, egress = draw(st.permutations(names))[:2]
    tags = tags_of(ingress, draw(st.lists(st.integers(0, 15), min_size=2, max_size=2)))
    room = DEVICES[egress].usable_mtu or DEVICES[egress].mtu
    return ingress, egress, tags, draw(datagrams(egress, room))


def check_passage(links, ingress: str, egress: str, tags: tuple[Tag, ...], datagram: bytes) -> None:
    frame = arriving(ingress, datagram, tags=tags)
    port = DEVICES[ingress].port or ingress
    action, after = links.run(frame, port)
    assert (action, after.hex(" ")) == (XDP_REDIRECT, leaving(egress, datagram).hex(" "))


fixtures_stay = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@fixtures_stay
@given(passage=passages(ONE_BUFFER))
def test_only_the_ethernet_header_and_the_ttl_change(passage, links_with):
    check_passage(links_with("VLAN"), *passage)


@fixtures_stay
@given(passage=passages(UNTAGGED_AND_TAGGED))
def test_only_they_change_in_frames_of_several_buffers(passage, links_with):
    """And in smaller ones between the same ports."""
    check_passage(links_with(*ALL_FEATURES), *passage)


# --- room at the head -------------------------------------------------------------------------------


def run_with_metadata(links, frame: bytes, ingress: str, size: int) -> tuple[int, bytes]:
    """With so many bytes of metadata before the frame, which take the room of tags: (XDP action, all bytes after)."""
    data = bytes(i & 0xFF for i in range(size)) + frame
    context = XdpMd(data=size, data_end=len(data), ingress_ifindex=links.indexes[ingress])
    with links.ns.entered():
        return links.dataplane._lib.run_on(links.dataplane.program_fd, data, context)


def most_metadata(links) -> int:
    """That this kernel lets a frame have in a test run."""
    frame = arriving("p0", udp(destination("w10", 4)))
    for size in range(HEADROOM, 0, -4):
        try:
            run_with_metadata(links, frame, "p0", size)
            return size
        except Exception:
            continue
    raise AssertionError("no metadata at all")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("ingress", "egress"), [("p0", "w10"), ("p0", "wq5"), ("v10", "wq5")], ids=lambda name: name)
def test_without_room_for_tags_the_frame_is_passed_untouched(ingress, egress, family, links_with):
    links = links_with("VLAN")
    size = most_metadata(links)
    frame = arriving(ingress, udp(destination(egress, family)))
    before = links.counters()
    action, after = run_with_metadata(links, frame, "p0", size)
    (counted,) = rise(before, links.counters()).values()
    assert (action, after[size:].hex(" "), after[:size]) == (XDP_PASS, frame.hex(" "), bytes(range(size)))
    assert {verdict: traffic.packets for verdict, traffic in counted.ingress.items()} == {"pass_egress_unavailable": 1}


@pytest.mark.parametrize(("ingress", "egress"), [("v10", "p1"), ("v10", "w10"), ("q5", "w10"), ("p0", "p1")])
def test_without_room_what_needs_none_is_forwarded(ingress, egress, links_with):
    links = links_with("VLAN")
    size = most_metadata(links)
    datagram = udp(destination(egress, 4))
    action, after = run_with_metadata(links, arriving(ingress, datagram), "p0", size)
    assert (action, after[size:].hex(" ")) == (XDP_REDIRECT, leaving(egress, datagram).hex(" "))


def test_room_for_one_tag_is_not_room_for_two(links_with):
    links = links_with("VLAN")
    size = most_metadata(links)
    for less, egress, expected in ((4, "w10", XDP_REDIRECT), (4, "wq5", XDP_PASS), (8, "wq5", XDP_REDIRECT)):
        datagram = udp(destination(egress, 4))
        frame = arriving("p0", datagram)
        # Each byte of metadata counts twice: as data before the frame, and as what moves with its head.
        action, after = run_with_metadata(links, frame, "p0", size - less)
        whole = leaving(egress, datagram) if expected == XDP_REDIRECT else frame
        assert (action, after[size - less :].hex(" ")) == (expected, whole.hex(" "))


# --- truncation -------------------------------------------------------------------------------------

SHORTEST_FRAME = 14
"""BPF_PROG_TEST_RUN takes no frame without a whole Ethernet header."""


@pytest.mark.parametrize("ingress", ["v10", "s10", "q5", "q6"])
@pytest.mark.parametrize("family", [4, 6])
def test_every_prefix_is_passed_untouched(ingress, family, links_with):
    links = links_with("VLAN")
    frame = arriving(ingress, udp(destination("w10", family), 64))
    before = links.counters()
    lengths = range(SHORTEST_FRAME, len(frame))
    assert {n: links.run(frame[:n], "p0") for n in lengths} == {n: (XDP_PASS, frame[:n]) for n in lengths}
    assert links.run(frame, "p0")[0] == XDP_REDIRECT
    counted = rise(before, links.counters())["p0"]
    assert {verdict: traffic.packets for verdict, traffic in counted.ingress.items()} == {
        "forward": 1,
        "pass_malformed": len(lengths),
    }


# --- the feature is off -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", [(), ("UPPER", "BRIDGE"), ("VRF",)], ids=["none", "bridge", "vrf"])
@pytest.mark.parametrize("family", [4, 6])
def test_without_the_feature_a_tag_is_the_kernels(features, family, links_with):
    links = links_with(*features)
    for ingress in ("v10", "s10", "q5"):
        case = through("", ingress, "w10", udp(destination("w10", family)), "pass_vlan_tag")
        before = links.counters()
        assert links.run(case.frame, "p0") == (XDP_PASS, case.frame)
        counted = rise(before, links.counters())["p0"]
        assert counted.ingress.keys() == {"pass_vlan_tag"}


@pytest.mark.parametrize("family", [4, 6])
def test_without_the_feature_nothing_leaves_by_a_vlan_interface(family, links_with):
    """Its entry may be there before the program that knows of tags, or still be after it."""
    links = links_with("VRF")
    frame = arriving("p0", udp(destination("w10", family)))
    before = links.counters()
    assert links.run(frame, "p0") == (XDP_PASS, frame)
    assert rise(before, links.counters())["p0"].ingress.keys() == {"pass_egress_unavailable"}
