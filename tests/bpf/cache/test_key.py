# SPDX-License-Identifier: GPL-2.0-only
"""Which parts of a packet tell answers apart."""

import pytest

from controlplane.cache_key import Key
from tests import packets
from tests.bpf.cache.cached import NARROW, OUT, WIDE, families, keys, mac_of
from tests.bpf.network import PORTS, SECOND_NEXT_HOP_MAC, destination
from tests.bpf.network import rise as difference

pytestmark = pytest.mark.usefixtures("one_cpu")


OTHERS = {
    "source": lambda f: packets.udp(OUT[f], src="10.0.0.10" if f == 4 else "2001:db8::a"),
    "first byte of the source": lambda f: packets.udp(OUT[f], src="9.0.0.9" if f == 4 else "3001:db8::9"),
    "second word of the source": lambda f: packets.udp(OUT[f], src="10.0.1.9" if f == 4 else "2001:db8:0:1::9"),
    "third word of the source": lambda f: packets.udp(OUT[f], src="10.1.0.9" if f == 4 else "2001:db8::1:0:9"),
    "sport": lambda f: packets.udp(OUT[f], sport=1025),
    "dport": lambda f: packets.udp(OUT[f], dport=2049),
    "tos": lambda f: packets.udp(OUT[f], **{"tos" if f == 4 else "tc": 0x20}),
    "protocol": lambda f: packets.ports_only(OUT[f], packets.IPPROTO_DCCP),
    "label": lambda f: packets.udp(OUT[6], fl=0x12345),
    "ingress": lambda f: packets.udp(OUT[f], dst_mac=PORTS["big0"].mac),
}
PART_OF = {"sport": "ports", "dport": "ports"} | {what: "source" for what in OTHERS if what.endswith("the source")}
other_packets = pytest.mark.parametrize(
    ("what", "family"), [(what, family) for what in OTHERS for family in (4, 6) if (what, family) != ("label", 4)]
)


def ingress_of(what: str) -> str:
    return "big0" if what == "ingress" else "in0"


@other_packets
def test_with_the_destination_as_the_key_nothing_else_matters(router, family, what):
    router.warm(packets.udp(OUT[family]))
    assert router.recalls(OTHERS[what](family), ingress_of(what))


@other_packets
@pytest.mark.parametrize("key", ["alone", "with all others"])
def test_what_is_in_the_key_makes_another_entry(one_set, family, what, key):
    part = PART_OF.get(what, what)
    one_set.warm(packets.udp(OUT[family]), key=WIDE if key != "alone" else Key(**{part: True}))
    assert not one_set.recalls(OTHERS[what](family), ingress_of(what))
    assert one_set.recalls(OTHERS[what](family), ingress_of(what))


@other_packets
def test_what_is_not_in_the_key_does_not(router, family, what):
    part = PART_OF.get(what, what)
    others = {name: True for name in ("source", "ports", "protocol", "tos", "ingress", "label") if name != part}
    router.warm(packets.udp(OUT[family]), key=Key(**others))
    assert router.recalls(OTHERS[what](family), ingress_of(what))


@families
@keys
def test_another_destination_is_another_entry(one_set, family, key):
    """Whichever word of it differs."""
    one_set.warm(packets.udp(OUT[family]), key=key)
    for other in ("10.10.0.4", "10.10.128.5", "10.11.0.5") if family == 4 else (
        "2001:db8:10::4", "2001:db8:10::8000:0:0:5", "2001:db8:10::1:0:5", "2001:db8:11::5",
    ):  # fmt: skip
        assert not one_set.recalls(packets.udp(other))


@families
def test_flows_over_several_next_hops_keep_their_way(router, family):
    """With all of it in the key, each flow goes where the FIB sends it."""
    flows = [packets.udp(destination("ecmp", family), sport=port) for port in range(1000, 1064)]
    router.cache.withdraw("to see what the FIB says")
    by_fib = [mac_of(router, flow) for flow in flows]
    assert set(by_fib) == {PORTS["out0"].next_hop_mac, SECOND_NEXT_HOP_MAC}
    router.calm(WIDE)
    before = router.counters()
    for _ in range(3):
        assert [mac_of(router, flow) for flow in flows] == by_fib
    assert difference(before, router.counters())["in0"].cache_hits > len(flows)


@families
def test_another_key_finds_nothing_of_the_old_one(router, family):
    router.warm(packets.udp(OUT[family]))
    router.calm(WIDE)
    assert not router.recalls(packets.udp(OUT[family]))
    router.calm(NARROW)
    assert not router.recalls(packets.udp(OUT[family]))
