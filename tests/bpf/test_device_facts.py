# SPDX-License-Identifier: GPL-2.0-only
"""What netlink and ethtool say of devices, beside what /proc/sys and the ethtool command say."""

import os
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from controlplane.devconf import DeviceConf, DeviceConfs
from controlplane.link import VLAN_8021AD, VLAN_8021Q, Bridge, BridgePort
from controlplane.monitor import read_links
from controlplane.offload import Offloads
from lab import namespace


@pytest.fixture
def ns():
    """A bridge with one of a pair of veths as its member."""
    name = f"x{os.getpid()}facts"
    namespace.create(name)
    try:
        with namespace.entered(name), IPRoute() as ipr:
            ipr.link("add", ifname="near", kind="veth", peer="far")
            ipr.link("add", ifname="br0", kind="bridge")
            ipr.link("set", index=ipr.link_lookup(ifname="near")[0], master=ipr.link_lookup(ifname="br0")[0])
        yield name
    finally:
        namespace.delete(name)


def test_sysctls_of_a_device_come_with_its_link(ns):
    values = {
        "ipv4/conf/near/rp_filter": 2, "ipv4/conf/near/send_redirects": 0, "ipv4/conf/near/forwarding": 1,
        "ipv6/conf/near/forwarding": 0, "ipv6/conf/near/mtu": 1400,
    }  # fmt: skip
    confs = DeviceConfs()
    with namespace.entered(ns):
        before = confs.read()
        for name, value in values.items():
            Path("/proc/sys/net", name).write_text(str(value))
        after = confs.read()
    assert after["near"] == DeviceConf(2, 0, 1, 0, 1400)
    assert after["near"] != before["near"]
    assert after["far"] == before["far"]


def test_a_device_that_has_gone_is_forgotten(ns):
    confs = DeviceConfs()
    with namespace.entered(ns), IPRoute() as ipr:
        assert {"near", "far", "br0", "lo"} <= confs.read().keys()
        ipr.link("del", ifname="near")
        assert confs.read().keys() & {"near", "far"} == set()


def test_links_tell_of_bridges_and_members(ns):
    with namespace.entered(ns):
        links = {link.name: link for link in read_links()}
    assert links["br0"].details == Bridge(vlan_filtering=False, ageing_s=300.0)
    assert (links["near"].master, links["near"].upper_kind) == (links["br0"].ifindex, "bridge")
    assert isinstance(links["near"].membership, BridgePort)
    assert links["near"].membership.unusual == ()


def test_stripping_is_what_ethtool_switches(ns):
    def switch(*options: str) -> frozenset[int]:
        assert namespace.run(ns, ["ethtool", "-K", "near", *options]).returncode == 0
        return offloads.stripping(["near", "absent"]).get("near", frozenset())

    with namespace.entered(ns):
        offloads = Offloads()
    assert switch("rxvlan", "on", "rx-vlan-stag-hw-parse", "on") == {VLAN_8021Q, VLAN_8021AD}
    assert switch("rxvlan", "off") == {VLAN_8021AD}
    assert switch("rx-vlan-stag-hw-parse", "off") == frozenset()
    offloads.close()
