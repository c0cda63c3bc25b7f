# SPDX-License-Identifier: GPL-2.0-only
"""What the guard finds in real namespaces, and that it stops finding it."""

import ctypes as ct
import errno
import itertools
import os
import socket
import struct
import sys

import pytest

from controlplane import bpf_query, netfilter, ruleset, xtables
from controlplane.guard import Examiner, Finding, examine
from lab import namespace
from tests.lab.legacy_table import DROP, Rule, replace_table, state_match

_number = itertools.count()


class Router:
    """A namespace with two ports, p0 and p1, and a guard that looks at them."""

    def __init__(self, name: str):
        self.name = name
        self.examiner = Examiner()
        self.sh("ip link add p0 type veth peer name q0; ip link add p1 type veth peer name q1")
        self.sh("for d in lo p0 q0 p1 q1; do ip link set $d up; done")

    def sh(self, *lines: str) -> None:
        for line in lines:
            done = namespace.run(self.name, ["sh", "-c", line])
            assert done.returncode == 0, f"{line}: {done.stderr}"

    def nft(self, rules: str) -> None:
        done = namespace.run(self.name, ["nft", "-f", "-"], input=rules)
        assert done.returncode == 0, done.stderr

    def look(self) -> list[Finding]:
        """The findings; a periodic look without an event says the same as a fresh one."""
        with namespace.entered(self.name):
            devices = {name: socket.if_nametoindex(name) for name in ("p0", "p1")}
            periodic = self.examiner.examine(devices, changed=False)
            fresh = examine(devices)
        assert periodic == fresh
        return fresh

    def texts(self) -> list[str]:
        return [finding.text for finding in self.look()]


@pytest.fixture
def router():
    name = f"xguard{os.getpid()}n{next(_number)}"
    namespace.create(name)
    try:
        yield Router(name)
    finally:
        namespace.delete(name)


def test_a_namespace_without_rules(router):
    assert router.look() == []


# --- nftables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ip", "ip6", "inet"])
@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting"])
def test_a_rule_on_the_way_of_forwarded_packets(router, family, hook):
    router.nft(f"table {family} fw {{ chain c {{ type filter hook {hook} priority 0; tcp dport 22 drop; }}; }}")
    assert router.look() == [Finding(None, f"nftables: chain {family} fw c: tcp dport 22 drop")]
    router.nft(f"flush chain {family} fw c")
    assert router.look() == []


def test_further_rules_are_counted_and_the_policy_is_named(router):
    router.nft("table inet fw { chain c { type filter hook forward priority 0; policy drop; tcp dport 22 drop; }; }")
    assert router.texts() == ["nftables: chain inet fw c: tcp dport 22 drop, policy drop"]
    router.nft("add rule inet fw c counter\nadd rule inet fw c accept")
    assert router.texts() == ["nftables: chain inet fw c: tcp dport 22 drop (and 2 more rules), policy drop"]


def test_a_replaced_rule_is_worded_anew(router):
    router.nft("table inet fw { chain c { type filter hook forward priority 0; tcp dport 22 drop; }; }")
    assert router.texts() == ["nftables: chain inet fw c: tcp dport 22 drop"]
    router.nft("flush chain inet fw c\nadd rule inet fw c tcp dport 23 drop")
    assert router.texts() == ["nftables: chain inet fw c: tcp dport 23 drop"]


def test_policy_drop_without_a_rule(router):
    router.nft("table ip fw { chain c { type filter hook forward priority 0; policy drop; }; }")
    assert router.texts() == ["nftables: chain ip fw c: policy drop"]
    router.nft("add chain ip fw c { policy accept; }")
    assert router.texts() == []


@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_chain_for_the_routers_own_packets(router, hook):
    router.nft(
        f"table inet fw {{ chain c {{ type filter hook {hook} priority 0; policy drop; tcp dport 22 drop; }}; }}"
    )
    assert router.look() == []


def test_chains_that_no_forwarded_packet_meets(router):
    router.nft("""table inet fw { chain unused { drop; }; chain c { type filter hook forward priority 0; }; }
                  table bridge b { chain c { type filter hook forward priority 0; policy drop; drop; }; }
                  table arp a { chain c { type filter hook input priority 0; policy drop; drop; }; }
                  table ip n { chain c { type nat hook postrouting priority 100; }; }""")
    assert router.look() == []


def test_a_dormant_table(router):
    router.nft("table inet fw { flags dormant; chain c { type filter hook forward priority 0; drop; }; }")
    assert router.look() == []
    router.nft("add table inet fw")
    assert router.texts() == ["nftables: chain inet fw c: drop"]


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_a_netdev_chain_concerns_its_devices_only(router, hook):
    router.nft(
        f"table netdev fw {{ chain c {{ type filter hook {hook} devices = {{ p1, q0 }} priority 0; counter; }}; }}"
    )
    (found,) = router.look()
    assert found.device == "p1"
    assert found.text == f"nftables: chain netdev fw c ({hook} of p1): counter"
    router.nft("delete table netdev fw")
    assert router.look() == []


def test_an_inet_ingress_chain(router):
    router.nft("table inet fw { chain c { type filter hook ingress device p0 priority 0; ip ttl 3 drop; }; }")
    assert router.look() == [Finding("p0", "nftables: chain inet fw c (ingress of p0): ip ttl 3 drop")]


def test_without_the_nft_program(router, monkeypatch):
    router.nft("table inet fw { chain c { type filter hook forward priority 0; counter; }; }")
    monkeypatch.setattr(netfilter.shutil, "which", lambda *_, **__: None)
    (found,) = router.look()
    assert found.text.startswith("nftables: chain inet fw c: rule handle ")


def test_thousands_of_rules(router):
    lines = [f"add rule ip fw c ip saddr 10.{i >> 8}.{i & 255}.0/24 tcp dport {i + 1} drop" for i in range(4000)]
    router.nft("table ip fw { chain c { type filter hook forward priority 0; }; }\n" + "\n".join(lines))
    assert router.texts() == [
        "nftables: chain ip fw c: ip saddr 10.0.0.0/24 tcp dport 1 drop (and 3999 more rules)",
    ]


# --- connection tracking ----------------------------------------------------------------------------

TRACKERS = {
    "input": ("table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }", "chain inet t c uses ct"),
    "dormant": ("table ip t { flags dormant; chain c { ct state new accept; }; }", "chain ip t c uses ct"),
    "count": ("table ip t { set s { type ipv4_addr; flags dynamic; size 9; }; chain c { add @s { ip saddr ct count over 3 }; }; }", "chain ip t c uses connlimit"),
    "helper": ('table ip t { ct helper h { type "ftp" protocol tcp; }; }', "ct helper ip t h"),
    "timeout": ("table ip t { ct timeout h { protocol tcp; policy = { established: 9 }; }; }", "ct timeout ip t h"),
    "synproxy": ("table ip t { synproxy h { mss 1460; wscale 2; }; }", "synproxy ip t h"),
}  # fmt: skip


@pytest.mark.parametrize("rules, where", TRACKERS.values(), ids=TRACKERS)
def test_what_switches_tracking_on(router, rules, where):
    """Each of these was seen to put forwarded packets into the connection table."""
    router.nft(rules)
    assert router.texts() == [f"conntrack: tracks forwarded packets (nftables: {where})"]
    assert loopback_is_tracked(router)
    router.nft("flush ruleset")
    assert entries(router) > 0
    assert router.look() == []


def test_nat(router):
    router.nft("table ip t { chain c { type nat hook postrouting priority 100; oifname p1 masquerade; }; }")
    assert router.texts() == [
        'nftables: chain ip t c: oifname "p1" masquerade',
        "conntrack: tracks forwarded packets (nftables: chain ip t c uses masq)",
    ]


def test_an_unexplained_tracker_is_found_by_asking_the_kernel(router, monkeypatch):
    router.nft(TRACKERS["input"][0])
    assert loopback_is_tracked(router)
    monkeypatch.setattr(ruleset, "tracking_expression", lambda name: False)
    assert router.texts() == ["conntrack: tracks IPv4 packets, though no rule was found that needs it"]


def test_entries_that_cannot_be_explained_count(router):
    router.nft(TRACKERS["input"][0])
    assert loopback_is_tracked(router)
    router.nft("flush ruleset")
    router.sh("ip link set lo down")
    (text,) = router.texts()
    assert text.startswith("conntrack: has connections in its table")


def loopback_is_tracked(router) -> bool:
    before = entries(router)
    with namespace.entered(router.name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        sock.sendto(b"x", sock.getsockname())
        sock.recv(1)
    return entries(router) > before


def entries(router) -> int:
    return int(namespace.run(router.name, ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).stdout)


# --- legacy iptables --------------------------------------------------------------------------------


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["iptables", "ip6tables"])
def legacy(request, router):
    """Replaces a table of one family; skips where the kernel has no legacy tables."""

    def replace(table: str, *rules: Rule, **policies: int) -> None:
        with namespace.entered(router.name):
            try:
                replace_table(request.param, table, rules, policies)
            except OSError as error:
                if error.errno in (errno.ENOPROTOOPT, errno.ENOENT):
                    pytest.skip("the kernel has no legacy iptables (CONFIG_IP_NF_IPTABLES_LEGACY)")
                raise

    replace.program = "iptables" if request.param == socket.AF_INET else "ip6tables"
    return replace


def test_empty_legacy_tables(router, legacy):
    for table in ("filter", "mangle", "raw"):
        legacy(table)
    assert router.look() == []


@pytest.mark.parametrize(
    ("table", "chain"),
    [
        ("filter", "FORWARD"),
        ("mangle", "PREROUTING"),
        ("mangle", "FORWARD"),
        ("mangle", "POSTROUTING"),
        ("raw", "PREROUTING"),
    ],
)
def test_a_legacy_rule(router, legacy, table, chain):
    legacy(table, Rule(chain), Rule(chain))
    assert router.texts() == [f"{legacy.program}: table {table} chain {chain}: 2 rules"]
    legacy(table)
    assert router.look() == []


def test_a_legacy_policy(router, legacy):
    legacy("filter")
    assert router.look() == []
    legacy("filter", FORWARD=DROP)
    assert router.texts() == [f"{legacy.program}: table filter chain FORWARD: policy DROP"]


def test_legacy_rules_for_the_routers_own_packets(router, legacy):
    legacy("filter", Rule("INPUT"), Rule("OUTPUT"), INPUT=DROP)
    assert router.look() == []


def test_a_legacy_rule_that_tracks(router, legacy):
    legacy("filter", Rule("INPUT", match=state_match()))
    assert router.texts() == [f"conntrack: tracks forwarded packets ({legacy.program}: table filter uses match state)"]


def test_the_words_of_a_legacy_rule(router, legacy, monkeypatch, tmp_path):
    program = tmp_path / f"{legacy.program}-legacy-save"
    program.write_text("#!/bin/sh\necho '-A INPUT -j DROP'\necho '-A FORWARD -p tcp -j DROP'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    legacy("filter", Rule("FORWARD"), Rule("FORWARD"))
    assert router.texts() == [f"{legacy.program}: table filter chain FORWARD: -p tcp -j DROP (and 1 more rule)"]


# --- tc ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qdisc", ["tbf rate 1mbit burst 10kb latency 10ms", "htb", "pfifo"])
def test_a_qdisc(router, qdisc):
    router.sh(f"tc qdisc add dev p1 root {qdisc}; tc qdisc add dev q0 root {qdisc}")
    assert router.look() == [Finding("p1", f"tc: qdisc {qdisc.split()[0]} on p1")]
    router.sh("tc qdisc del dev p1 root")
    assert router.look() == []


@pytest.mark.parametrize(("qdisc", "place"), [("clsact", "ingress"), ("clsact", "egress"), ("ingress", "ingress")])
def test_a_filter(router, qdisc, place):
    router.sh(f"tc qdisc add dev p0 {qdisc}")
    assert router.look() == []
    where = place if qdisc == "clsact" else "parent ffff:"
    router.sh(f"tc filter add dev p0 {where} prio 1 protocol ip u32 match u32 0 0")
    assert router.look() == [Finding("p0", f"tc: u32 filter on p0 {place}")]
    router.sh(f"tc filter add dev p0 {where} prio 2 protocol ip u32 match u32 0 0")
    assert router.texts() == [f"tc: u32 filter on p0 {place} (and 1 more filter)"]
    router.sh(f"tc qdisc del dev p0 {qdisc}")
    assert router.look() == []


def test_a_tcx_program(router):
    with namespace.entered(router.name):
        link = tcx_link(socket.if_nametoindex("p1"))
    try:
        assert router.look() == [Finding("p1", "tc: tcx program on p1 egress")]
    finally:
        os.close(link)
    assert router.look() == []


def tcx_link(ifindex: int) -> int:
    """A tcx link (closing its fd detaches it) whose program answers TCX_NEXT."""
    code = ct.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, -1, 0x95, 0, 0, 0))  # r0 = -1; exit
    name = ct.create_string_buffer(b"GPL")
    load = struct.pack("=IIQQ", 3, 2, ct.addressof(code), ct.addressof(name)).ljust(64, b"\0")  # SCHED_CLS
    program = bpf_query.bpf(5, bytearray(load))
    try:
        attach = struct.pack("=IIII", program, ifindex, bpf_query.TCX_EGRESS, 0).ljust(48, b"\0")
        return bpf_query.bpf(28, bytearray(attach))
    except OSError as error:
        if error.errno == errno.EINVAL:
            pytest.skip("the kernel has no tcx")
        raise
    finally:
        os.close(program)


# --- xfrm -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["fwd", "out"])
def test_a_policy(router, direction):
    router.sh(f"ip xfrm policy add dir {direction} src 10.0.0.0/8 dst 0.0.0.0/0 action block")
    assert router.texts() == [f"xfrm: policy dir {direction} 10.0.0.0/8 -> 0.0.0.0/0"]
    router.sh(f"ip xfrm policy add dir {direction} src 2001:db8::/32 dst ::/0 action block")
    (text,) = router.texts()
    assert text.startswith(f"xfrm: policy dir {direction} ") and text.endswith(" (and 1 more policy)")
    router.sh("ip xfrm policy flush")
    assert router.look() == []


def test_policies_that_no_forwarded_packet_meets(router):
    router.sh("ip xfrm policy add dir in src 10.0.0.0/8 dst 0.0.0.0/0 action block")
    router.sh("ip xfrm policy add dir out src 10.0.0.0/8 dst 0.0.0.0/0 action block if_id 7")
    assert router.look() == []


@pytest.mark.parametrize("direction", ["fwd", "out"])
def test_a_default_policy(router, direction):
    router.sh(f"ip xfrm policy setdefault {direction} block")
    assert router.texts() == [f"xfrm: default policy dir {direction} block"]
    router.sh(f"ip xfrm policy setdefault {direction} accept")
    assert router.look() == []


# --- what cannot be read ----------------------------------------------------------------------------


def test_what_cannot_be_read_counts_as_a_firewall(router):
    """Without privileges nothing is shown: each examiner says so, and nothing is raised."""
    script = (
        "import sys; from controlplane.guard import examine; print(*[f.text for f in examine({'p0': 1})], sep='\\n')"
    )
    argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", sys.executable, "-c", script]
    done = namespace.run(router.name, argv)
    assert done.returncode == 0, done.stderr
    unreadable = [line for line in done.stdout.splitlines() if line.endswith("; counted as a firewall")]
    assert any(line.startswith("nftables rules cannot be read: ") for line in unreadable), done.stdout
    assert any(line.startswith("xfrm policies cannot be read: ") for line in unreadable), done.stdout


def test_an_examiner_that_breaks_is_a_finding(router, monkeypatch):
    def broken(_):
        raise ValueError("no sense")

    monkeypatch.setattr(xtables, "table_names", broken)
    assert router.texts() == ["iptables rules cannot be read: no sense; counted as a firewall"]


def test_a_ruleset_that_always_changes_is_a_finding(router, monkeypatch):
    router.nft("table inet fw { chain c { type filter hook input priority 0; }; }")
    numbers = itertools.count()
    monkeypatch.setattr(netfilter, "generation", lambda sock: next(numbers))
    (text,) = router.texts()
    assert text.startswith("nftables rules cannot be read: ")
