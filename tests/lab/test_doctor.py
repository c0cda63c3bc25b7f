# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter doctor` in namespaces that are broken on purpose, one thing at a time: it names the thing, and the command
that it gives, run exactly as it stands, makes the finding go away."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controlplane import kernel, transient
from controlplane.attachment import RTM_SETLINK, set_xdp
from controlplane.libbpf import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
from controlplane.netlink import RTNLGRP_LINK, NetlinkSocket
from lab import instance, namespace
from lab.wait import wait_until
from tests.lab.command import ROOT, xdprouter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF")

PORTS = ("-i", "left", "-i", "right")
FINE = {"ok", "info"}
TRUTH_S = 5.0


def doctor(ns: str, *arguments: str) -> dict:
    """The report; what it prints, its exit code and the worst finding agree."""
    done = xdprouter("doctor", "--json", "--netns", ns, *arguments)
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    severities = {finding["severity"] for finding in report["findings"]}
    expected = 2 if "error" in severities else 1 if "warning" in severities else 0
    assert (done.returncode, report["exit_code"]) == (expected, expected)
    return report


def bad(report: dict) -> dict[tuple[str, str | None], dict]:
    """(id, port) -> finding, of those that are a warning or an error."""
    return {(f["id"], f["port"]): f for f in report["findings"] if f["severity"] not in FINE}


def sh(ns: str, *commands: str) -> None:
    for command in commands:
        done = namespace.run(ns, shlex.split(command))
        assert done.returncode == 0, (command, done.stderr)


def mend(ns: str, finding: dict) -> None:
    """Run the finding's command exactly, after making sure that it stays inside this lab."""
    command, lab = finding["command"], ns.rsplit("-", 1)[0]
    assert command.startswith((f"nsenter --net=/run/netns/{lab}-", f"xdprouter attach --netns {ns} ")), finding
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.returncode == 0, (command, done.stderr)


@dataclass(frozen=True)
class Case:
    breaks: tuple[str, ...]
    finding: tuple[str, str | None]
    severity: str = "warning"
    node: str = "r1"
    """where it is broken"""
    undo: tuple[str, ...] = ()
    """in r1, whatever has happened"""
    ports: tuple[str, ...] = PORTS
    says: str = ""
    also: set = field(default_factory=set)
    """findings that cannot but come with it"""


QUEUES = "numrxqueues 4 numtxqueues 4"
BROKEN = {
    "IPv4 forwarding": Case(
        ("sysctl -w net.ipv4.ip_forward=0",), ("ipv4-forwarding", None), says="not forwarded, though ports have",
        undo=("sysctl -w net.ipv4.ip_forward=1",),
    ),
    "IPv6 forwarding": Case(
        ("sysctl -w net.ipv6.conf.all.forwarding=0",), ("ipv6-forwarding", None),
        undo=("sysctl -w net.ipv6.conf.all.forwarding=1",),
    ),
    "IPv4 forwarding of one port": Case(
        ("sysctl -w net.ipv4.conf.left.forwarding=0",), ("ipv4-forwarding", "left"),
        undo=("sysctl -w net.ipv4.conf.left.forwarding=1",),
    ),
    "IPv6 forwarding of one port": Case(
        ("sysctl -w net.ipv6.conf.right.forwarding=0",), ("ipv6-forwarding", "right"),
        undo=("sysctl -w net.ipv6.conf.right.forwarding=1",),
    ),
    "a port that is down": Case(("ip link set left down",), ("link", "left"), undo=("ip link set left up",)),
    "no NAPI at the peer, in another namespace": Case(
        ("ethtool -K eth0 gro off",), ("takes-redirects", "left"), node="h1", says="veth peer eth0 has no NAPI",
    ),
    "no NAPI at the peer, in this one": Case(
        ("ip link add va type veth peer name vb", "ip link set va up", "ip link set vb up"), ("takes-redirects", "va"),
        undo=("ip link del va",), ports=("-i", "va"),
    ),
    "gro switched on too early": Case(
        ("ip link add va type veth peer name vb", "ethtool -K vb gro off", "ip link set va up", "ip link set vb up",
         "ip link set vb down", "ethtool -K vb gro on", "ethtool -K vb gro off", "ip link set vb up"),
        ("takes-redirects", "va"), undo=("ip link del va",), ports=("-i", "va"),
    ),
    "fewer queues than the peer": Case(
        (f"ip link add va {QUEUES} type veth peer name vb {QUEUES}", "ethtool -L va rx 1", "ethtool -L vb tx 2",
         "ethtool -K vb gro on", "ip link set va up", "ip link set vb up"),
        ("queues", "va"), severity="error", undo=("ip link del va",), ports=("-i", "va"), says="1 receive queues",
    ),
    "fewer queues than the peer, while it is down: the driver's own words": Case(
        (f"ip link add va {QUEUES} type veth peer name vb {QUEUES}", "ethtool -L va rx 1", "ethtool -L vb tx 2"),
        ("queues", "va"), severity="error", undo=("ip link del va",), ports=("-i", "va"),
        also={("native-xdp", "va"), ("link", "va")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_it_names_what_is_broken_and_its_command_mends_it(bare_lab, ns, name):
    case = BROKEN[name]
    try:
        sh(bare_lab.ns(case.node), *case.breaks)
        found = bad(doctor(ns, *case.ports))
        assert set(found) - case.also == {case.finding}
        finding = found[case.finding]
        assert (finding["severity"], finding["subject"]) == (
            case.severity,
            "machine" if case.finding[1] is None else "port",
        )
        assert case.says in finding["reason"]
        mend(ns, finding)
        # A link's carrier and the features that follow it come a moment after the command.
        wait_until(lambda: case.finding not in bad(doctor(ns, *case.ports)), TRUTH_S, "the finding to go away")
    finally:
        sh(ns, *case.undo)


def test_a_healthy_machine(ns):
    report = doctor(ns, *PORTS)
    assert bad(report) == {}
    assert (report["schema"], report["instance"], report["severity"]) == (1, ns, "info")
    keys = {"id", "group", "severity", "subject", "port", "reason", "command", "no_command"}
    assert all(set(finding) == keys for finding in report["findings"])
    assert {f["port"] for f in report["findings"] if f["id"] == "native-xdp"} == {"left", "right"}


# --- other programs on a port ---------------------------------------------------------------------


@contextlib.contextmanager
def attached(ns: str, port: str, how: str) -> Iterator[None]:
    """Another program on a port, by bpf_link or by netlink."""
    with transient.xdp_pass() as program, contextlib.ExitStack() as stack:
        with namespace.entered(ns):
            index = socket.if_nametoindex(port)
            if how == "link":
                stack.enter_context(transient.link(program, index, XDP_FLAGS_DRV_MODE))
            else:
                flags = XDP_FLAGS_SKB_MODE if how == "xdpgeneric" else XDP_FLAGS_DRV_MODE
                with NetlinkSocket() as sock:
                    sock.request(RTM_SETLINK, set_xdp(index, program, flags))
                mode = "xdpgeneric" if how == "xdpgeneric" else "xdpdrv"
                stack.callback(namespace.run, ns, ["ip", "link", "set", "dev", port, mode, "off"])
        yield


@pytest.mark.parametrize("how", ["link", "xdp", "xdpgeneric"])
def test_another_program_on_the_port(ns, how):
    with attached(ns, "left", how):
        found = bad(doctor(ns, *PORTS))
        assert set(found) == {("other-program", "left")}
        finding = found["other-program", "left"]
        assert finding["severity"] == "error"
        assert "probe" in finding["reason"]
        assert ("generic" in finding["reason"]) == (how == "xdpgeneric")
        if how == "link":
            assert finding["command"].split("nsenter ")[1].split(" ", 1)[1].startswith("bpftool link detach id ")
        mend(ns, finding)
        assert bad(doctor(ns, *PORTS)) == {}


# --- what has no command --------------------------------------------------------------------------


def test_a_firewall_is_named_and_no_command_takes_it_away(ns):
    sh(ns, "nft add table ip filter", "nft 'add chain ip filter forward { type filter hook forward priority 0; }'",
       "nft add rule ip filter forward tcp dport 22 drop")  # fmt: skip
    try:
        (finding,) = bad(doctor(ns, *PORTS)).values()
        assert (finding["id"], finding["severity"], finding["command"]) == ("guard", "warning", "")
        assert "tcp dport 22 drop" in finding["reason"]
        assert 'guard = "warn"' in finding["no_command"]
    finally:
        sh(ns, "nft delete table ip filter")
    assert bad(doctor(ns, *PORTS)) == {}


def test_traffic_control_on_one_port(ns):
    sh(ns, "tc qdisc add dev left root tbf rate 1mbit burst 10k latency 50ms")
    try:
        assert set(bad(doctor(ns, *PORTS))) == {("guard", "left")}
    finally:
        sh(ns, "tc qdisc del dev left root")


def test_a_port_that_is_not_there(ns):
    (finding,) = bad(doctor(ns, "-i", "leff")).values()
    assert (finding["id"], finding["severity"], finding["command"]) == ("device", "error", "")
    assert finding["reason"] == "no such device; there is left"
    assert finding["no_command"]


def test_a_port_of_a_bridge(ns):
    sh(ns, "ip link add va type veth peer name vb", "ip link add br0 type bridge", "ip link set va master br0")
    try:
        assert ("device", "va") not in bad(doctor(ns, "-i", "va")), "a bridge's member can be a port"
        sh(ns, "ip link set br0 type bridge ageing_time 2000")
        found = bad(doctor(ns, "-i", "va"))
        assert found["device", "va"]["reason"] == (
            "it is enslaved to the bridge br0, which owns its frames; its ageing time is below 30 s"
        )
    finally:
        sh(ns, "ip link del va", "ip link del br0")


def test_no_carrier_and_rp_filter(ns):
    sh(ns, "ip link add va type veth peer name vb", "ip link set va up", "sysctl -w net.ipv4.conf.va.rp_filter=1")
    try:
        report = doctor(ns, "-i", "va")
        assert bad(report)["link", "va"]["reason"] == "no carrier"
        (noted,) = [f for f in report["findings"] if f["id"] == "rp-filter"]
        assert (noted["severity"], noted["port"]) == ("info", "va")
    finally:
        sh(ns, "ip link del va")


# --- the configuration ----------------------------------------------------------------------------


def test_ports_of_a_configuration(ns, tmp_path):
    file = tmp_path / "xdprouter.toml"
    file.write_text('guard = "off"\n[[port]]\nname = "left"\nmode = "generic"\n')
    report = doctor(ns, "-c", str(file))
    assert {f["port"] for f in report["findings"]} == {None, "left"}
    notes = {f["id"]: f["reason"] for f in report["findings"]}
    assert notes["native-xdp"] == "in generic mode as configured, which is slow"
    assert notes["guard"].startswith('guard = "off"')


def test_more_cache_than_memory(ns, tmp_path):
    file = tmp_path / "xdprouter.toml"
    file.write_text(f'cache_entries = {1 << 40}\n[[port]]\nname = "left"\n')
    found = bad(doctor(ns, "-c", str(file)))
    assert found["memory", None]["severity"] == "error"
    assert "set cache_entries = " in found["memory", None]["no_command"]


def test_no_port_at_all_is_said(ns, tmp_path):
    file = tmp_path / "xdprouter.toml"
    file.write_text("")
    assert "ports" in {f["id"] for f in doctor(ns, "-c", str(file))["findings"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--netns", "there-is-none"], "no network namespace 'there-is-none'"),
        (["-i", "a/b"], "cannot be the name of a network device"),
        (["-c", "/nowhere/x.toml"], "cannot read configuration /nowhere/x.toml"),
    ],
)
def test_what_cannot_be_asked(arguments, words):
    done = xdprouter("doctor", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert words in line


def test_text_for_people(ns):
    sh(ns, "sysctl -w net.ipv4.conf.left.forwarding=0")
    try:
        done = xdprouter("doctor", "--netns", ns, *PORTS)
    finally:
        sh(ns, "sysctl -w net.ipv4.conf.left.forwarding=1")
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert f"mend: nsenter --net=/run/netns/{ns} sysctl -w net/ipv4/conf/left/forwarding=1" in done.stdout
    assert {"kernel", "software", "network", "daemon", "port left", "port right"} <= set(lines)
    assert lines[-1].startswith("it works, with warnings  (0 error, 1 warning, ")


# --- nothing is changed ---------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _state(ns: str) -> dict[str, str]:
    """Everything of a namespace that a command could change, and what would stay of it on the machine."""
    commands = ["ip -d -j link", "ip -j addr", "ip -j route show table all", "ip -6 -j route show table all", "ip -j rule",
                "ip -j neigh", "nft list ruleset", "tc qdisc", "ethtool -k left", "ethtool -k right", "ethtool -k va",
                "ethtool -k vb", "ethtool -l va", "sysctl -a --pattern ^net"]  # fmt: skip
    out = {}
    for command in commands:
        done = namespace.run(ns, command.split())
        assert done.returncode == 0, done.stderr
        # Neighbours and IPv6 addresses age.
        out[command] = "\n".join(line for line in done.stdout.splitlines() if "seed" not in line)
    lab = ns.rsplit("-", 1)[0]
    modules = Path("/proc/modules")
    out["modules"] = " ".join(sorted(line.split()[0] for line in lines(modules))) if modules.exists() else ""
    out["mounts"] = "".join(line for line in lines(Path("/proc/self/mountinfo")) if lab in line)
    out["state"] = str(sorted(p for p in instance.STATE_DIRECTORY.glob("*") if lab in p.name))
    return out


def test_nothing_is_changed(ns):
    """Neither a port that is up, nor one that is down and therefore tried."""
    sh(ns, "ip link add va type veth peer name vb", "sysctl -w net.ipv4.conf.left.forwarding=0")
    try:
        before = _state(ns)
        report = doctor(ns, *PORTS, "-i", "va")
        assert ("ipv4-forwarding", "left") in bad(report)
        after = _state(ns)
        assert {key: after[key] for key in after if after[key] != before[key]} == {}
    finally:
        sh(ns, "ip link del va", "sysctl -w net.ipv4.conf.left.forwarding=1")


def test_ports_that_are_up_are_not_even_touched(ns):
    """The kernel announces nothing about them: no attach, no flag that goes and comes back."""
    with namespace.entered(ns), NetlinkSocket() as sock:
        sock.join(RTNLGRP_LINK)
        doctor(ns, *PORTS)
        assert sock.receive() is None
        sh(ns, "ip link set left alias touched")
        assert sock.receive() is not None
        sh(ns, "ip link set left alias ''")


# --- beside a daemon ------------------------------------------------------------------------------


def test_beside_a_daemon(two_hosts, r1):
    """The ports are the daemon's, their program is its own, and its state is in the report."""
    name = two_hosts.ns("r1")
    report = doctor(name)
    assert bad(report) == {}
    by_id = {(f["id"], f["port"]): f for f in report["findings"]}
    assert by_id["daemon", None]["reason"].startswith("xdprouter ")
    assert by_id["native-xdp", "left"]["reason"] == "xdprouter is attached in native mode"
    assert {"in-sync", "cache", "neighbours"} <= {key for key, _ in by_id}
    program = r1.status()["program_id"]

    # A rule: the findings are the daemon's.
    sh(
        name,
        "nft add table ip filter",
        'nft "add chain ip filter forward { type filter hook forward priority 0; policy drop; }"',
    )
    wait_until(lambda: r1.status()["guard"]["findings"], TRUTH_S, "the guard to find it")
    assert set(bad(doctor(name))) == {("guard", None)}
    sh(name, "nft delete table ip filter")
    wait_until(lambda: not r1.status()["guard"]["findings"], TRUTH_S, "the guard to let go")
    assert bad(doctor(name)) == {}

    # Multipath by neighbours forbids the cache.
    sh(name, "sysctl -w net.ipv4.fib_multipath_use_neigh=1")
    wait_until(lambda: r1.status()["cache"]["reason"], TRUTH_S, "the cache to be withdrawn")
    (finding,) = bad(doctor(name)).values()
    assert finding["id"] == "cache" and "fib_multipath_use_neigh" in finding["reason"]
    sh(name, "sysctl -w net.ipv4.fib_multipath_use_neigh=0")
    wait_until(lambda: r1.status()["cache"]["enabled"], TRUTH_S, "the cache to be back")

    # A port that is not there: the daemon waits for it.
    sh(name, "ip link set right down", "ip link set right name gone")
    wait_until(lambda: not r1.status()["in_sync"], TRUTH_S, "the daemon to miss it")
    assert set(bad(doctor(name))) == {("in-sync", None), ("device", "right")}
    sh(name, "ip link set gone name right", "ip link set right up")
    wait_until(lambda: r1.status()["in_sync"], TRUTH_S, "the daemon to have it again")
    wait_until(lambda: not bad(doctor(name)), TRUTH_S, "the port to be well")
    assert r1.status()["program_id"] == program


def test_a_port_that_the_driver_refuses(bare_lab, ns):
    """The kernel's words come from the daemon, which takes the port by itself once the cause is mended."""
    sh(ns, f"ip link add va {QUEUES} type veth peer name vb {QUEUES}", "ethtool -L va rx 1", "ethtool -L vb tx 2",
       "ethtool -K vb gro on", "ip link set va up", "ip link set vb up")  # fmt: skip
    try:
        instance.start(ns, ["left", "right", "va"], bare_lab.directory("r1"))
        found = bad(doctor(ns))
        assert set(found) == {("in-sync", None), ("native-xdp", "va"), ("queues", "va")}
        assert "XDP expects number of rx queues not less than peer tx queues" in found["native-xdp", "va"]["reason"]
        assert found["native-xdp", "va"]["command"] == f"xdprouter attach --netns {ns} va --mode generic"
        mend(ns, found["queues", "va"])
        wait_until(lambda: not bad(doctor(ns)), 20, "the port to be taken")
    finally:
        sh(ns, "ip link del va")


def test_ports_that_an_ended_daemon_left(two_hosts, r1):
    name = two_hosts.ns("r1")
    os.kill(r1.status()["pid"], 9)
    wait_until(lambda: bad(doctor(name, *PORTS)), TRUTH_S, "the daemon to be gone")
    (finding,) = bad(doctor(name, *PORTS)).values()
    assert finding["id"] == "daemon" and finding["reason"].startswith("none, and 2 port(s) go on forwarding alone")


def test_a_daemon_that_does_not_answer(two_hosts, r1):
    pid = r1.status()["pid"]
    os.kill(pid, 19)
    try:
        found = bad(doctor(two_hosts.ns("r1"), *PORTS))
        assert set(found) == {("daemon", None)}
        assert "did not answer" in found["daemon", None]["reason"]
    finally:
        os.kill(pid, 18)


def test_a_router_with_frr(lab_of):
    lab = lab_of("frr_ospf_bgp")
    name = lab.ns("r2")
    report = doctor(name)
    assert bad(report) == {}
    assert {f["port"] for f in report["findings"]} > {"west_a", "west_b", "east_a", "east_b"}
    lab.link_down("r2", "east_a")
    found = bad(doctor(name))
    assert set(found) == {("link", "east_a")}
    mend(name, found["link", "east_a"])
    wait_until(lambda: not bad(doctor(name)), TRUTH_S, "the link to be back")


# --- what this kernel may lack --------------------------------------------------------------------


def _require(feature: str) -> None:
    if not kernel.probe([feature])[feature]:
        pytest.skip(f"the kernel has no {kernel.FEATURES[feature].meaning}")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_vlan_tags_that_xdp_would_not_see(bare_lab, ns, where):
    _require("vlan")
    port, sender = ("left", bare_lab.ns("h1")) if where == "elsewhere" else ("va", ns)
    if where == "here":
        sh(
            ns,
            "ip link add va type veth peer name vb",
            "ethtool -K vb gro on",
            "ip link set va up",
            "ip link set vb up",
        )
    sh(sender, f"ethtool -K {'eth0' if where == 'elsewhere' else 'vb'} txvlan on")
    try:
        sh(ns, f"ip link add link {port} name {port}.10 type vlan id 10")
        found = bad(doctor(ns, "-i", port))
        assert set(found) == {("rxvlan", port)}
        assert f"above it: {port}.10" in found["rxvlan", port]["reason"]
        mend(ns, found["rxvlan", port])
        assert bad(doctor(ns, "-i", port)) == {}
    finally:
        sh(ns, f"ip link del {port}.10", *(["ip link del va"] if where == "here" else []))
