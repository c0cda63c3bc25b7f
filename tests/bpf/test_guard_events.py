# SPDX-License-Identifier: GPL-2.0-only
"""A firewall change stops the fast path before the command that made it has returned. No user space takes part:
nothing here reads the sockets before it looks at the counters."""

import select
import subprocess

import pytest

from controlplane.counters import Traffic
from controlplane.dataplane import Dataplane
from controlplane.guard import GuardWatch
from controlplane.pins import PinDirectory
from controlplane.reconcile import Interface, SetInterface, Transmit
from tests import packets
from tests.bpf.network import PORTS, Namespace, destination, whole_network

FRAME = bytes(packets.udp(destination("out", 4)))
XDP_PASS, XDP_REDIRECT = 2, 4


class Guarded:
    """A namespace with a data plane whose guard is enforced, and a watch."""

    def __init__(self, ns: Namespace, dataplane: Dataplane, watch: GuardWatch):
        self.ns, self.dataplane, self.watch = ns, dataplane, watch
        for name in ("in0", "out0"):
            slot, ifindex = dataplane.slots.assign(name), ns.ifindex(name)
            dataplane.apply(SetInterface(ifindex, Interface(slot, PORTS[name].mtu, PORTS[name].mac, True)))
            dataplane.apply(Transmit(slot, ifindex))

    def action(self) -> int:
        action, after = self.dataplane.test_run(FRAME, self.ns.ifindex("in0"))
        assert action == XDP_REDIRECT or after == FRAME
        return action

    def readable(self) -> bool:
        return bool(select.select(self.watch.sockets, [], [], 0)[0])

    def examined(self) -> None:
        """As the daemon does it: the counter first, then the look, then the word."""
        changes = self.dataplane.gate.changes()
        self.watch.drain()
        self.dataplane.gate.examined(changes)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    with whole_network() as ns:
        try:
            with ns.entered():
                dataplane = Dataplane(pins)
                with GuardWatch(dataplane.guard_filter_fds) as watch:
                    yield Guarded(ns, dataplane, watch)
                dataplane.close()
        finally:
            pins.remove()


@pytest.fixture
def guarded(watched):
    """Enforced, examined, and without any rule; the thread is in the namespace."""
    watched.dataplane.gate.enforce(True)
    watched.examined()
    yield watched
    subprocess.run(CLEAN, shell=True, check=True, capture_output=True)


CLEAN = """nft flush ruleset
ip xfrm policy flush
ip xfrm policy setdefault fwd accept
for d in in0 out0 big0; do tc qdisc del dev $d root; tc qdisc del dev $d clsact; done
tc qdisc del dev side0 root
true"""


def do(command: str) -> None:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SETUP = """nft 'table inet t { set s { type ipv4_addr; }; chain f { type filter hook forward priority 0; };
           chain d { type filter hook forward priority 1; ip ttl 9 drop; }; }; table inet z { flags dormant; }'
           ip xfrm policy add dir out src 10.0.0.0/8 dst 9.0.0.0/8 action block
           tc qdisc add dev out0 clsact; tc qdisc add dev big0 clsact
           tc filter add dev big0 ingress prio 1 protocol ip u32 match u32 0 0
           tc qdisc add dev side0 root htb"""

MORE = [
    "nft add rule inet t f drop",
    "nft insert rule inet t f drop",
    "nft add chain inet t g '{ type filter hook forward priority 0; policy drop; }'",
    "nft add chain inet t f '{ policy drop; }'",
    "nft add table inet z",
    "nft 'add table ip n; add chain ip n c { type filter hook forward priority 0; }; add rule ip n c drop'",
    "nft add table netdev n '{ chain c { type filter hook ingress device in0 priority 0; drop; }; }'",
    "nft 'add element inet t s { 1.1.1.1, 1.1.1.2, 1.1.1.3 }; add rule inet t f drop'",
    "tc qdisc add dev out0 root tbf rate 1mbit burst 10kb latency 10ms",
    "tc qdisc add dev in0 clsact",
    "tc filter add dev out0 egress prio 1 protocol ip u32 match u32 0 0",
    "ip xfrm policy add dir fwd src 10.0.0.0/8 dst 0.0.0.0/0 action block",
    "ip xfrm policy update dir out src 10.0.0.0/8 dst 9.0.0.0/8 action allow",
    "ip xfrm policy setdefault fwd block",
]


@pytest.mark.parametrize("command", MORE)
def test_something_new_stops_the_fast_path_at_once(guarded, command):
    do(SETUP)
    guarded.examined()
    assert guarded.action() == XDP_REDIRECT
    before = guarded.dataplane.gate.changes()
    do(command)
    assert guarded.dataplane.gate.changes() > before
    assert guarded.action() == XDP_PASS
    assert guarded.readable()
    guarded.examined()
    assert guarded.action() == XDP_REDIRECT
    assert not guarded.readable()


def test_the_verdict_has_its_name(guarded):
    do("nft add table inet t")
    slot = guarded.dataplane.slots.owners()["in0"]
    before = guarded.dataplane.slots.counters(slot).ingress.get("pass_guarded", Traffic())
    guarded.action()
    assert guarded.dataplane.slots.counters(slot).ingress["pass_guarded"] - before == Traffic(1, len(FRAME))


FEWER = [
    "nft flush chain inet t d",
    "nft delete table inet t",
    "tc filter del dev big0 ingress",
    "tc qdisc del dev out0 clsact",
    "tc qdisc del dev side0 root",
    "ip xfrm policy del dir out src 10.0.0.0/8 dst 9.0.0.0/8",
    "ip xfrm policy flush",
]


@pytest.mark.parametrize("command", FEWER)
def test_a_removal_is_told_but_stops_nothing(guarded, command):
    do(SETUP)
    guarded.examined()
    do(command)
    assert guarded.action() == XDP_REDIRECT
    assert guarded.readable()
    assert guarded.watch.drain()


UNIMPORTANT = [
    "nft add element inet t s '{ 1.1.1.1, 1.1.1.2 }'",
    "tc class add dev side0 parent 8001: classid 8001:1 htb rate 1mbit",
    "nft list ruleset; tc qdisc show; ip xfrm policy",
]


@pytest.mark.parametrize("command", UNIMPORTANT)
def test_what_is_no_rule_is_kept_away(guarded, command):
    do(SETUP.replace("root htb", "root handle 8001: htb"))
    guarded.examined()
    do(command)
    assert guarded.action() == XDP_REDIRECT
    assert not guarded.readable()
    assert not guarded.watch.drain()


def test_a_change_during_the_look_is_not_lost(guarded):
    do("nft add table inet t")
    changes = guarded.dataplane.gate.changes()
    do("nft add chain inet t f '{ type filter hook forward priority 0; policy drop; }'")
    guarded.dataplane.gate.examined(changes)
    assert guarded.action() == XDP_PASS


@pytest.mark.parametrize("elements", [60, 64, 5000])
def test_a_rule_behind_many_elements(guarded, elements):
    """64: more messages in one announcement than the filter reads, the only rule at the end."""
    do("nft 'add table inet t; add set inet t s { type ipv4_addr; }; add chain inet t c'")
    guarded.examined()
    addresses = ", ".join(f"10.0.{i >> 8}.{i & 255}" for i in range(elements))
    rules = f"add element inet t s {{ {addresses} }}\nadd rule inet t c drop\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    assert guarded.action() == XDP_PASS


def test_an_overrun_counts_as_heard():
    ns = Namespace()
    try:
        with ns.entered(), GuardWatch({}, receive_buffer=0) as watch:
            for _ in range(20):
                do("nft add table inet t; nft delete table inet t")
            assert watch.drain()
            assert not watch.drain()
    finally:
        ns.delete()


def test_not_enforced_nothing_is_stopped_but_all_is_told(guarded):
    guarded.dataplane.gate.enforce(False)
    do("nft add table inet t '{ chain f { type filter hook forward priority 0; policy drop; }; }'")
    assert guarded.action() == XDP_REDIRECT
    assert guarded.watch.drain()


def test_switching_it_off_lets_go(guarded):
    do("nft add table inet t")
    assert guarded.action() == XDP_PASS
    guarded.dataplane.gate.enforce(False)
    assert guarded.action() == XDP_REDIRECT


def test_other_namespaces_are_not_heard(guarded):
    other = Namespace()
    try:
        with other.entered():
            do("nft add table inet t '{ chain f { type filter hook forward priority 0; policy drop; }; }'")
    finally:
        other.delete()
    assert guarded.action() == XDP_REDIRECT
    assert not guarded.readable()
