# SPDX-License-Identifier: GPL-2.0-only
"""Parsers of netlink buffers: right ones come back, garbage ends without harm."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import netdev, netlink
from controlplane.errors import NetlinkError
from controlplane.link import Link, links_of
from controlplane.netdev import NetdevSocket
from controlplane.netlink import HEADER, attribute, attributes, messages, objects

FAMILY = 0x1F


def message(kind: int, payload: bytes, flags: int = 0) -> bytes:
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, flags, 1, 0) + payload + bytes(-length % 4)


def parser() -> NetdevSocket:
    """A NetdevSocket without its socket, which needs privileges."""
    made = object.__new__(NetdevSocket)
    made._family = FAMILY
    return made


def device(ifindex: bytes, features: bytes, kind: int = FAMILY) -> bytes:
    fields = attribute(netdev._NETDEV_A_DEV_IFINDEX, ifindex) + attribute(netdev._NETDEV_A_DEV_XDP_FEATURES, features)
    return message(kind, bytes(4) + fields)


# --- what is right comes back -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40), st.integers(0, 0xFFFF)), max_size=6))
def test_messages_come_back(wanted):
    data = b"".join(message(kind, payload, flags) for kind, payload, flags in wanted)
    found = [
        (kind, data[offset + HEADER.size : offset + length], flags) for offset, kind, flags, length in messages(data)
    ]
    assert found == wanted


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=6))
def test_attributes_come_back(wanted):
    assert list(attributes(b"".join(attribute(kind, value) for kind, value in wanted))) == wanted


@pytest.mark.parametrize("flag", [0x8000, 0x4000])
def test_the_flags_of_an_attributes_type_are_left_out(flag):
    """NLA_F_NESTED and NLA_F_NET_BYTEORDER."""
    assert list(attributes(attribute(flag | 7, b"x"))) == [(7, b"x")]


def test_an_attribute_is_padded_but_its_length_is_its_own():
    assert attribute(3, b"abcde") == struct.pack("=HH", 9, 3) + b"abcde\0\0\0"
    assert attribute(3, b"") == struct.pack("=HH", 4, 3)


TWO_NUMBERS = struct.Struct("=HH")


def test_objects_of_the_types_asked_for():
    wanted = message(16, TWO_NUMBERS.pack(3, 4) + attribute(1, b"one") + attribute(2, b"two"))
    other = message(17, TWO_NUMBERS.pack(5, 6))
    bare = message(18, TWO_NUMBERS.pack(7, 8))
    assert list(objects(wanted + other + bare, TWO_NUMBERS, {16, 18})) == [
        ((3, 4), {1: b"one", 2: b"two"}), ((7, 8), {}),
    ]  # fmt: skip


@pytest.mark.parametrize("size", range(TWO_NUMBERS.size))
def test_a_message_too_short_for_its_header_is_passed_over(size):
    right = message(16, TWO_NUMBERS.pack(7, 8))
    assert list(objects(message(16, bytes(size)) + right, TWO_NUMBERS, {16})) == [((7, 8), {})]
    assert list(objects(right[: HEADER.size + size], TWO_NUMBERS, {16})) == [], "the buffer ends before it"


def test_features_of_devices():
    data = device(struct.pack("=I", 5), struct.pack("=Q", 0x47)) + device(struct.pack("=I", 6), struct.pack("=Q", 0))
    assert parser().parse(data) == [(5, 0x47), (6, 0)]


def test_messages_of_other_families_and_without_features_are_passed_over():
    other = device(struct.pack("=I", 5), struct.pack("=Q", 1), kind=FAMILY + 1)
    bare = message(FAMILY, bytes(4) + attribute(netdev._NETDEV_A_DEV_IFINDEX, struct.pack("=I", 7)))
    assert parser().parse(other + bare + message(netlink.NLMSG_DONE, bytes(4))) == []


def refusal(code: int, attributes_: bytes = b"") -> bytes:
    return message(netlink.NLMSG_ERROR, struct.pack("=i", code) + HEADER.pack(16, 19, 5, 1, 0) + attributes_)


def test_an_acknowledgement_is_no_error():
    netlink._raise_if_refused(refusal(0), 0)


def test_a_refusal_carries_the_kernels_words():
    words = attribute(netlink.NLMSGERR_ATTR_MSG, b"Underlying driver does not support XDP in native mode\0")
    with pytest.raises(NetlinkError, match="^Underlying driver does not support XDP in native mode$"):
        netlink._raise_if_refused(refusal(-95, words), 0)


def test_a_refusal_without_words_is_named_by_its_number():
    with pytest.raises(NetlinkError, match="^Operation not supported$"):
        netlink._raise_if_refused(refusal(-95), 0)


def test_words_that_are_not_utf8_do_not_hide_the_refusal():
    with pytest.raises(NetlinkError):
        netlink._raise_if_refused(refusal(-95, attribute(netlink.NLMSGERR_ATTR_MSG, b"\xff\xfe\0")), 0)


# --- garbage ----------------------------------------------------------------------------------------

_LENGTHS = st.sampled_from([0, 1, 3, 4, 15, 16, 17, 20, 0xFFFF, 0xFFFFFFFF]) | st.integers(0, 64)
_KINDS = st.sampled_from([netlink.NLMSG_ERROR, netlink.NLMSG_DONE, 16, 24, FAMILY])
_LIARS = st.builds(
    lambda length, kind, payload: HEADER.pack(length, kind, 0, 0, 0) + payload,
    _LENGTHS, _KINDS, st.binary(max_size=40),
)  # fmt: skip
_GARBAGE = st.one_of(st.binary(max_size=200), st.lists(_LIARS, max_size=5).map(b"".join))
_ATTRIBUTE_LIARS = st.builds(
    lambda length, kind, value: struct.pack("=HH", length & 0xFFFF, kind) + value,
    _LENGTHS, st.integers(0, 0xFFFF), st.binary(max_size=20),
)  # fmt: skip


@given(_GARBAGE)
def test_messages_of_garbage_end(data):
    last = -1
    for offset, _, _, length in messages(data):
        assert last < offset <= len(data) - HEADER.size
        assert length >= HEADER.size
        last = offset


@given(_GARBAGE)
def test_objects_of_garbage_end(data):
    for fields, found in objects(data, TWO_NUMBERS, range(1 << 16)):
        assert TWO_NUMBERS.pack(*fields) in data
        assert all(value in data for value in found.values())


@given(st.one_of(st.binary(max_size=200), st.lists(_ATTRIBUTE_LIARS, max_size=6).map(b"".join)))
def test_attributes_of_garbage_end(data):
    for number, (kind, value) in enumerate(attributes(data)):
        assert number < len(data)
        assert kind <= 0x3FFF
        assert value in data


@pytest.mark.parametrize("size", [0, 1, 3, 8])
def test_a_device_message_with_a_short_ifindex_is_passed_over(size):
    assert parser().parse(device(bytes(size), bytes(8))) == []


@pytest.mark.parametrize("size", [0, 4, 7, 16])
def test_a_device_message_with_odd_features_is_passed_over(size):
    """nla_put_uint may one day send four bytes; nothing may end the daemon."""
    parser().parse(device(struct.pack("=I", 5), bytes(size)))


@given(st.one_of(_GARBAGE, st.builds(device, st.binary(max_size=9), st.binary(max_size=9))))
def test_features_of_garbage_end(data):
    for ifindex, features in parser().parse(data):
        assert 0 <= ifindex < 1 << 32
        assert 0 <= features < 1 << 64


@given(st.binary(max_size=60))
def test_a_garbled_error_is_an_error_or_nothing(payload):
    try:
        netlink._raise_if_refused(message(netlink.NLMSG_ERROR, payload), 0)
    except NetlinkError:
        pass


# --- links ------------------------------------------------------------------------------------------

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 1, 3, 4, 18


def link(data: bytes) -> Link:
    ((_, found),) = links_of(data)
    return found


def newlink(*attributes_: bytes, ifindex: int = 5, flags: int = 0x10001) -> bytes:
    return message(16, struct.pack("=BBHiII", 0, 0, 1, ifindex, flags, 0) + b"".join(attributes_))


def test_a_link():
    kinds = attribute(1, b"veth\0") + attribute(4, b"vrf\0")
    data = newlink(
        attribute(IFLA_IFNAME, b"left\0"),
        attribute(IFLA_MTU, struct.pack("=I", 1500)),
        attribute(IFLA_ADDRESS, bytes.fromhex("02000000000a")),
        attribute(IFLA_LINKINFO, kinds),
    )
    assert link(data) == Link(5, "left", "02:00:00:00:00:0a", 1500, True, True, "veth", "vrf", None)


def test_a_link_that_says_nothing_of_itself():
    assert link(newlink(flags=0)) == Link(5, "", "", 0, False, False)


def test_a_link_whose_name_is_not_utf8():
    """The kernel takes any bytes but white space, `/` and `:`; one such device must not end the daemon."""
    found = link(newlink(attribute(IFLA_IFNAME, b"e\xff\xfe\0")))
    assert found.ifindex == 5
    assert isinstance(found.name, str)
