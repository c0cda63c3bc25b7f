# SPDX-License-Identifier: GPL-2.0-only
"""Settings as read from a tree of sysctls, and how the values for all devices and for one go together."""

import pytest

from controlplane import settings
from controlplane.devconf import DeviceConf
from controlplane.settings import LOOSE, STRICT, PortSettings, Settings

VALUES = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/left/rp_filter": 0,
    "ipv4/conf/left/send_redirects": 0,
    "ipv4/conf/left/forwarding": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv6/conf/left/mtu": 1500,
    "ipv6/conf/left/forwarding": 1,
    "ipv4/fib_multipath_hash_policy": 1,
    "ipv4/fib_multipath_use_neigh": 0,
    "ipv6/fib_multipath_hash_policy": 1,
}


FIELDS = {
    ("ipv4", "rp_filter"): "rp_filter", ("ipv4", "send_redirects"): "send_redirects",
    ("ipv4", "forwarding"): "forwarding4", ("ipv6", "forwarding"): "forwarding6", ("ipv6", "mtu"): "mtu6",
}  # fmt: skip


@pytest.fixture
def read(tmp_path, monkeypatch):
    """`read({"ipv4/conf/all/rp_filter": 1})` -> Settings of left, over VALUES; None: there is no such file."""

    def read(changed: dict, *names: str, address: bool = True, rules=frozenset(), groups: bool = False) -> Settings:
        monkeypatch.setattr(settings, "_SYSCTL", tmp_path)
        monkeypatch.setattr(settings, "_has_ipv4_address", lambda _: address)
        monkeypatch.setattr(settings, "_rule_attributes", lambda _: set(rules))
        monkeypatch.setattr(settings, "_has_nexthop_groups", lambda: groups)
        devices: dict[str, dict] = {}
        for name, value in {**VALUES, **changed}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            family, _, *rest = name.split("/")
            if value is not None and len(rest) == 2 and rest[0] != "all":
                devices.setdefault(rest[0], {})[FIELDS[family, rest[1]]] = value
            elif value is not None:
                (tmp_path / name).write_text(f"{value}\n")
        return settings.read(names or ("left",), {name: DeviceConf(**own) for name, own in devices.items()})

    return read


def test_everything_plain(read):
    assert read({}) == Settings(
        ipv6_forwarding=True, hash_policy4=1, hash_policy6=1, rules6_by_protocol=False, rule_selectors=frozenset(),
        nexthop_groups=False, use_neighbours=False, rules6_suppress=False,
        ports={"left": PortSettings(0, False, 1500, True)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("everywhere", "own", "address", "in_effect"),
    [
        (0, 0, True, 0), (1, 0, True, STRICT), (0, 1, True, STRICT), (2, 0, True, LOOSE), (0, 2, True, LOOSE),
        (1, 2, True, LOOSE), (2, 1, True, LOOSE), (0, 2, False, STRICT), (2, 0, False, STRICT), (0, 0, False, 0),
        (0, 3, True, LOOSE), (7, 0, True, LOOSE), (0, 3, False, STRICT), (0, -1, True, 0), (-1, -1, True, LOOSE),
    ],
)  # fmt: skip
def test_rp_filter_is_the_greater_of_two(read, everywhere, own, address, in_effect):
    """The kernel takes any number; but for 0 and 1 all mean loose, and loose without an address is strict."""
    found = read({"ipv4/conf/all/rp_filter": everywhere, "ipv4/conf/left/rp_filter": own}, address=address)
    assert found.of("left").reverse_path == in_effect


@pytest.mark.parametrize(("everywhere", "own", "sent"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)])
def test_redirects_are_sent_if_either_says_so(read, everywhere, own, sent):
    found = read({"ipv4/conf/all/send_redirects": everywhere, "ipv4/conf/left/send_redirects": own})
    assert found.of("left").send_redirects is sent


@pytest.mark.parametrize("value", [0, 1, 2])
def test_ipv6_forwarding(read, value):
    assert read({"ipv6/conf/all/forwarding": value}).ipv6_forwarding is (value != 0)


@pytest.mark.parametrize(("ipv4", "ipv6", "both"), [(1, 1, True), (1, 0, False), (0, 1, False), (0, 0, False)])
def test_a_port_forwards_if_both_families_do(read, ipv4, ipv6, both):
    found = read({"ipv4/conf/left/forwarding": ipv4, "ipv6/conf/left/forwarding": ipv6})
    assert found.of("left").forwarding is both


def test_without_a_word_a_port_does_not_forward(read):
    assert not read({"ipv6/conf/left/forwarding": None}).of("left").forwarding


@pytest.mark.parametrize("value", [0, 1])
def test_multipath_by_neighbours(read, value):
    assert read({"ipv4/fib_multipath_use_neigh": value}).use_neighbours is (value != 0)


FRA = {
    "dst": 1, "src": 2, "iifname": 3, "goto": 4, "priority": 6, "fwmark": 10, "flow": 11, "tun_id": 12,
    "suppress_ifgroup": 13, "suppress_prefixlen": 14, "table": 15, "fwmask": 16, "oifname": 17, "pad": 18, "l3mdev": 19,
    "uid_range": 20, "protocol": 21, "ip_proto": 22, "sport_range": 23, "dport_range": 24, "dscp": 25,
    "flowlabel": 26, "flowlabel_mask": 27, "sport_mask": 28, "dport_mask": 29, "dscp_mask": 30, "to_come": 31,
}  # fmt: skip
"""include/uapi/linux/fib_rules.h"""
LOOKS_AT = {
    "source": {"source"}, "tos": {"tos"}, "iifname": {"ingress"}, "l3mdev": {"ingress"}, "ip_proto": {"protocol"},
    "sport_range": {"ports", "protocol"}, "dport_range": {"ports", "protocol"},
}  # fmt: skip
LOOKS_AT_NOTHING = {
    "dst", "src", "goto", "priority", "fwmark", "flow", "suppress_ifgroup", "suppress_prefixlen", "table", "fwmask",
    "oifname", "pad", "uid_range", "protocol",
}  # fmt: skip


@pytest.mark.parametrize("name", ["source", "tos", *FRA])
def test_what_a_rule_looks_at(read, name):
    """All of a packet, if this program does not know."""
    wanted = set() if name in LOOKS_AT_NOTHING else LOOKS_AT.get(name, set(settings.SELECTORS))
    assert read({}, rules={FRA.get(name, name)}).rule_selectors == wanted


def test_rules_look_at_what_each_of_them_looks_at(read):
    assert read({}, rules={"tos", FRA["iifname"], FRA["table"]}).rule_selectors == {"tos", "ingress"}


@pytest.mark.parametrize("groups", [False, True])
def test_nexthop_groups(read, groups):
    assert read({}, groups=groups).nexthop_groups is groups


def test_hash_policies(read):
    found = read({"ipv4/fib_multipath_hash_policy": 3, "ipv6/fib_multipath_hash_policy": 2})
    assert (found.hash_policy4, found.hash_policy6) == (3, 2)


def test_a_kernel_without_ipv6(read):
    missing = ("ipv6/conf/all/forwarding", "ipv6/conf/left/mtu", "ipv6/fib_multipath_hash_policy")
    found = read(dict.fromkeys(missing))
    assert not found.ipv6_forwarding
    assert found.of("left").ipv6_mtu == 0


def test_a_device_without_sysctls_is_handled_with_care(read):
    """It may go while it is read."""
    found = read({}, "left", "gone")
    assert found.of("gone") == PortSettings()
    assert found.of("never asked") == PortSettings()


@pytest.mark.parametrize("nonsense", ["", "yes", "\N{SNOWMAN}"])
def test_a_sysctl_that_is_no_number_is_handled_with_care(read, nonsense):
    found = read({"ipv4/conf/all/rp_filter": nonsense, "ipv4/conf/all/send_redirects": nonsense})
    assert found.of("left") == PortSettings(STRICT, True, 1500, True)


def test_a_name_with_a_dot(read):
    """eth0.10, say: a dot is no separator in /proc/sys."""
    found = read(
        {"ipv4/conf/left.10/rp_filter": 0, "ipv4/conf/left.10/send_redirects": 0, "ipv6/conf/left.10/mtu": 1400},
        "left.10",
    )
    assert found.of("left.10") == PortSettings(0, False, 1400, forwarding=False)


def test_the_defaults_are_the_most_careful():
    assert PortSettings() == PortSettings(reverse_path=STRICT, send_redirects=True, ipv6_mtu=0, forwarding=False)
    assert Settings() == Settings(
        ipv6_forwarding=False, hash_policy4=settings.HASH_INNER, hash_policy6=settings.HASH_INNER,
        rules6_by_protocol=True, rule_selectors=frozenset(settings.SELECTORS), nexthop_groups=True,
        use_neighbours=True, rules6_suppress=True, ports={},
    )  # fmt: skip
