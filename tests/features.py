# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel may lack and a test may need; found out by trying it in a network namespace made for that.

A test is marked `@pytest.mark.needs("8021q", "vrf")`, or a fixture calls `require("8021q")`. Where the kernel lacks one of
them the test is skipped, and the reason names it. In a guest of tests/vm, whose kernel must have certain features,
the lack of one of those is a failure.
"""

import functools
import itertools
import os

import pytest

from controlplane import kernel
from controlplane.kernel import Answer
from lab import namespace

EXPECTED = "XDPROUTER_TEST_FEATURES"
"""Environment variable: the features that this kernel must have, separated by blanks"""
SKIPPED = "the kernel has no "
"""How the reason of such a skip begins; the feature's name follows."""

COMMANDS = {  # in a namespace with a veth pair p, q that is up; the kernel may refuse any of them
    "8021q": ["ip link add link p name x type vlan id 5"],
    "8021ad": ["ip link add link p name x type vlan proto 802.1ad id 5"],
    "vrf": ["ip link add x type vrf table 10"],
    "bonding": ["ip link add x type bond"],
    "bridge": ["ip link add x type bridge"],
    "vlan_filtering": ["ip link add x type bridge vlan_filtering 1"],
    "dummy": ["ip link add x type dummy"],
    "macvlan": ["ip link add link p name x type macvlan"],
    "ipvlan": ["ip link add link p name x type ipvlan"],
    "vxlan": ["ip link add x type vxlan id 5 dstport 4789"],
    "team": ["ip link add x type team"],
    "gre": ["ip link add x type gre remote 192.0.2.1 local 192.0.2.2"],
    "ipip": ["ip link add x type ipip remote 192.0.2.1 local 192.0.2.2"],
    "wireguard": ["ip link add x type wireguard"],
    "netem": ["tc qdisc add dev p root netem delay 1ms"],
    "act_police": [
        "tc qdisc add dev p clsact",
        "tc filter add dev p ingress u32 match u32 0 0 action police rate 1mbit burst 10k",
    ],
    "lwtunnel": ["ip route add 192.0.2.0/24 encap ip id 1 dst 192.0.2.1 dev p"],
    "nexthop": ["ip nexthop add id 1 dev p"],
    "xfrm": ["ip xfrm policy add dir fwd src 192.0.2.0/24 dst 198.51.100.0/24"],
    "nftables": ["nft add table inet x"],
    "conntrack": ["nft add table inet x", "nft add chain inet x y", "nft add rule inet x y ct state new"],
    "managed_neighbours": ["ip neigh add 192.0.2.1 dev p managed"],
}
_LACKS = ("unknown device type", "not supported", "qdisc kind is unknown", "not found", "failed to load tc action",
          "no such file or directory")  # fmt: skip
"""In what ip, tc or nft say, in lower case, when the kernel has no such thing"""
_serial = itertools.count()


PROBED = frozenset({"xdp_features", "netfilter_hooks"})
"""What controlplane/kernel.py finds out"""
FEATURES = frozenset(COMMANDS) | PROBED


@functools.cache
def has(feature: str) -> bool:
    """Raises KeyError for a name that is not in FEATURES, RuntimeError when the kernel's answer is neither yes nor a
    plain no."""
    if feature in PROBED:
        found = kernel.probe([feature])[feature]
        if found.answer is Answer.UNKNOWN:
            raise RuntimeError(f"cannot tell whether the kernel has {feature}: {found.detail}")
        return bool(found)
    ns = f"xdprouter-probe-{os.getpid()}-{next(_serial)}"
    namespace.create(ns)
    try:
        for command in ["ip link add p up type veth peer name q", "ip link set q up", *COMMANDS[feature]]:
            done = namespace.run(ns, command.split())
            if done.returncode == 0:
                continue
            said = " ".join(done.stderr.split())
            if any(part in said.lower() for part in _LACKS):
                return False
            raise RuntimeError(f"cannot tell whether the kernel has {feature}: {command}: {said}")
        return True
    finally:
        namespace.delete(ns)


def expected() -> frozenset[str]:
    return frozenset(os.environ.get(EXPECTED, "").split())


def require(*features: str) -> None:
    """Skip the running test when the kernel lacks one of them; fail it when the kernel must have it."""
    for feature in features:
        if not has(feature):
            (pytest.fail if feature in expected() else pytest.skip)(SKIPPED + feature)
