# SPDX-License-Identifier: GPL-2.0-only
"""What the data plane is told of a port: each flag from its setting, and care about what is not known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.interface import NO_NARROW_ROUTE, Common, Interface, InterfaceFlag, describe, unpack
from controlplane.link import LEAVES_FRAMES_ALONE, Link
from controlplane.netdev import NDO_XMIT, NDO_XMIT_SG
from controlplane.netlink import attribute
from controlplane.refusal import cannot_be_port
from controlplane.settings import LOOSE, STRICT, PortSettings, Settings
from controlplane.stack import build
from tests.unit.test_netlink import IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, link, newlink

LEFT = Link(ifindex=5, name="left", mac="02:00:00:00:00:0a", mtu=1500, up=True, carrier=True, kind="veth")
PLAIN = PortSettings(reverse_path=0, send_redirects=True, ipv6_mtu=1500)
NOTHING_SPECIAL = Settings(
    ipv6_forwarding=True, hash_policy4=1, hash_policy6=1, rules6_by_protocol=False, rules6_suppress=False,
    ports={"left": PLAIN},
)  # fmt: skip


def made(settings: Settings = NOTHING_SPECIAL, *, features=NDO_XMIT, guarded=False, wide=False, narrow=NO_NARROW_ROUTE):
    return describe(LEFT.name, LEFT.mac, LEFT.mtu, 3, features, Common(settings, wide, narrow), guarded)


def flags(**changed) -> InterfaceFlag:
    own = {key: changed.pop(key) for key in ("reverse_path", "send_redirects") if key in changed}
    options = {key: changed.pop(key) for key in ("features", "guarded", "wide") if key in changed}
    settings = replace(NOTHING_SPECIAL, ports={"left": replace(PLAIN, **own)}, **changed)
    return InterfaceFlag(made(settings, **options).flags)


def test_a_port_with_nothing_special():
    assert made() == Interface(3, 1500, LEFT.mac, 0, 1500, NO_NARROW_ROUTE)


F = InterfaceFlag
FLAGS = {
    "sends multi-buffer frames": (dict(features=NDO_XMIT | NDO_XMIT_SG), F.TX_MULTI_BUFFER),
    "abilities not known": (dict(features=None), F(0)),
    "guarded": (dict(guarded=True), F.GUARDED),
    "rp_filter strict": (dict(reverse_path=STRICT), F.REVERSE_PATH_STRICT),
    "rp_filter loose": (dict(reverse_path=LOOSE), F.REVERSE_PATH_LOOSE),
    "redirects off": (dict(send_redirects=False), F.HAIRPIN_IPV4),
    "own prefixes": (dict(wide=True), F.WIDE_OWN_SOURCES),
    "no IPv6 forwarding": (dict(ipv6_forwarding=False), F.PASS_IPV6),
    "IPv4 hashed by layer 3": (dict(hash_policy4=0), F(0)),
    "IPv6 hashed by layer 3": (dict(hash_policy6=0), F.IPV6_FRAGMENT_HASHED),
    "IPv6 hashed by layer 3, rules on the protocol": (
        dict(hash_policy6=0, rules6_by_protocol=True), F.PASS_IPV6_FRAGMENTS | F.PASS_ICMPV6,
    ),
    "rules that suppress": (dict(rules6_suppress=True), F.RULES_UNSURE_IPV6),
    "rules on the protocol alone": (dict(rules6_by_protocol=True), F.PASS_ICMPV6),
    "IPv4 hashed by inner headers": (dict(hash_policy4=2), F.MULTIPATH_UNSURE_IPV4),
    "IPv6 hashed by inner headers": (dict(hash_policy6=2), F.MULTIPATH_UNSURE_IPV6),
    "IPv4 hashed as wished": (dict(hash_policy4=3), F.MULTIPATH_UNSURE_IPV4),
    "IPv6 hashed as wished": (dict(hash_policy6=3, rules6_by_protocol=True), F.MULTIPATH_UNSURE_IPV6 | F.PASS_ICMPV6),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAGS)
def test_flag(case):
    changed, expected = FLAGS[case]
    assert flags(**changed) == expected


def test_every_flag_has_a_case():
    together = F(0)
    for _, expected in FLAGS.values():
        together |= expected
    assert together == ~F(0)


def test_a_port_of_which_nothing_is_known_forwards_little():
    found = made(Settings(), features=None)
    assert found.ipv6_mtu == 0
    assert F(found.flags) == (
        F.PASS_ICMPV6
        | F.REVERSE_PATH_STRICT
        | F.PASS_IPV6
        | F.RULES_UNSURE_IPV6
        | F.MULTIPATH_UNSURE_IPV4
        | F.MULTIPATH_UNSURE_IPV6
    )


def test_the_careful_settings_stand_for_a_port_that_was_not_read():
    found = made(replace(NOTHING_SPECIAL, ports={"right": PLAIN}))
    assert (F(found.flags), found.ipv6_mtu) == (F.REVERSE_PATH_STRICT, 0)


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_the_ipv6_mtu_is_never_beyond_the_devices(own, narrow):
    found = made(replace(NOTHING_SPECIAL, ports={"left": replace(PLAIN, ipv6_mtu=own)}), narrow=narrow)
    assert found.ipv6_mtu == min(1500, own)
    assert (found.mtu, found.narrow_mtu) == (1500, narrow)


# --- devices on top of others -----------------------------------------------------------------------

IFLA_LINK, IFLA_LINK_NETNSID = 5, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_MACVLAN_MODE = 1, 2, 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
LOWER = 7


def upper(kind: str, data: bytes | None = None, elsewhere: bool = False, lower: int = LOWER) -> Link:
    """A device over that of ifindex LOWER."""
    info = attribute(IFLA_INFO_KIND, kind.encode() + b"\0") if kind else b""
    info += attribute(IFLA_INFO_DATA, data) if data is not None else b""
    fields = [attribute(IFLA_IFNAME, b"top\0"), attribute(IFLA_ADDRESS, bytes.fromhex("02000000000b"))]
    fields += [attribute(IFLA_LINK, lower.to_bytes(4, "little"))] if lower else []
    fields += [attribute(IFLA_LINK_NETNSID, bytes(4))] if elsewhere else []
    fields += [attribute(IFLA_LINKINFO, info)] if info else []
    return link(newlink(*fields))


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
@pytest.mark.parametrize(
    ("mode", "takes"), [("private", False), ("vepa", False), ("bridge", False), ("passthru", True), ("source", True)]
)
def test_macvlan_takes_frames_in_some_modes(kind, mode, takes):
    found = upper(kind, attribute(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode].to_bytes(4, "little")))
    assert (found.lower, found.takes_frames) == (LOWER, takes)


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
@pytest.mark.parametrize("data", [None, b"", attribute(IFLA_MACVLAN_MODE, (32).to_bytes(4, "little"))])
def test_a_macvlan_of_unknown_mode_may_take_frames(kind, data):
    assert upper(kind, data).takes_frames


@pytest.mark.parametrize("kind", sorted(LEAVES_FRAMES_ALONE))
def test_kinds_that_leave_frames_alone(kind):
    found = upper(kind)
    assert (found.lower, found.takes_frames) == (LOWER, False)


@pytest.mark.parametrize("kind", ["ipvlan", "ipvtap", "macsec", "hsr", "dsa", "rmnet", "a_kind_to_come", ""])
def test_all_other_kinds_may_take_frames(kind):
    assert upper(kind).takes_frames


@pytest.mark.parametrize("kind", ["veth", "macsec", "ipvlan", ""])
def test_a_lower_device_elsewhere_is_none_of_ours(kind):
    """Its ifindex is of another namespace."""
    found = upper(kind, elsewhere=True)
    assert (found.lower, found.takes_frames) == (0, False)


def test_a_device_on_nothing():
    found = upper("macsec", lower=0)
    assert (found.lower, found.takes_frames) == (0, False)


def test_the_lower_device_of_one_that_takes_frames_is_refused():
    port, other = replace(LEFT, ifindex=LOWER), replace(LEFT, ifindex=LOWER + 1, name="right")
    top = upper("ipvlan")
    assert "the lower device of top (ipvlan)" in cannot_be_port(port, None, [top])
    assert build([port, other, top], ["left", "right"]).refused.keys() == {"left"}
    assert build([port, other, upper("vlan")], ["left"]).refused == {}


@given(
    st.builds(
        Interface,
        slot=st.integers(0, 255),
        mtu=st.integers(0, 65535),
        mac=st.binary(min_size=6, max_size=6).map(lambda mac: mac.hex(":")),
        flags=st.integers(0, 65535),
        tags=st.integers(0, 0x1FFF1FFF),
        upper=st.integers(0, 1 << 31),
    )
)
def test_what_is_packed_is_unpacked(interface):
    assert unpack(interface.pack()) == interface
