# SPDX-License-Identifier: GPL-2.0-only
"""Two tags on a frame, in both kinds of the outer one."""

import pytest

from tests.lab.conftest import Router
from tests.lab.crossing import Side, crossing, dot1ad, dot1q, ip, is_gone, shows

pytestmark = pytest.mark.needs("8021q", "8021ad")

AD = Side("h1", "eth0.100.10", "left", "left.100.10", ("10.1.0.2", "fd01::2"), dot1ad(100, 10))
QQ = Side("h2", "eth0.200.20", "right", "right.200.20", ("10.2.0.2", "fd02::2"), dot1q(200, 20))


@pytest.fixture(scope="module")
def lab(module_lab):
    return module_lab("qinq")


@pytest.fixture(scope="module")
def r1(lab):
    return Router(lab, "r1")


@pytest.mark.parametrize(("source", "target"), [(AD, QQ), (QQ, AD)], ids=["802.1ad in", "802.1ad out"])
def test_two_tags_in_two_others_out(lab, r1, source, target):
    with crossing(lab, r1, source, target) as way:
        way.becomes_fast()
        way.crosses(size=1500)
        frame, _ = way.frame(4)
        swapped = bytes.fromhex("88a8" if frame[12:14] == b"\x81\x00" else "8100")
        way.vanishes([frame[:12] + swapped + frame[14:], frame[:12] + frame[16:]])
    assert r1.status()["in_sync"]


def test_the_outer_goes_and_comes_back(lab, r1):
    """With it the inner, which the kernel deletes too."""
    ip(lab, "r1", "link del left.100")
    is_gone(r1, "left.100.10")
    ip(lab, "r1", "link add link left name left.100 up type vlan proto 802.1ad id 100")
    ip(lab, "r1", "link add link left.100 name left.100.10 mtu 1500 up type vlan id 10")
    ip(lab, "r1", "addr add 10.1.0.1/24 dev left.100.10")
    ip(lab, "r1", "addr add fd01::1/64 nodad dev left.100.10")
    with crossing(lab, r1, QQ, AD) as way:
        way.becomes_fast()


def test_a_third_tag_is_the_kernels(lab, r1):
    ip(lab, "r1", "link add link right.200.20 name third up type vlan id 5")
    shows(r1, "third", state="slow", reason="more than 2 tags")
    ip(lab, "r1", "link del third")
    is_gone(r1, "third")
