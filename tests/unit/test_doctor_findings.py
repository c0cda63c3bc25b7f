# SPDX-License-Identifier: GPL-2.0-only
"""What the doctor says of made-up facts: every finding's severity, text and command."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from xdprouter.doctor.facts import Facts, Family, Feature, Port, Software
from xdprouter.doctor.finding import Finding, Group, Severity
from xdprouter.doctor.render import print_report
from xdprouter.doctor.report import Report, judge

ROOT = Path(__file__).resolve().parent.parent.parent
YES = Feature("devmaps", True, "", "4.14", "yes")
GOOD = Port(
    "eth0", "native", driver="ice", native=True, redirects=True, takes_redirects=True, frags=True, trial=None,
    speed=10000, rx_queues=2, combined_queues=2, max_combined_queues=64,
)  # fmt: skip
VETH = dataclasses.replace(GOOD, kind="veth", driver="veth", peer="peer0", rx_queues=1, combined_queues=0)
HOP = {"address": "10.0.0.2", "device": "eth0", "state": "reachable", "managed": True, "idle_s": 0.1}
CACHE = {"enabled": True, "reason": "", "key": "destination", "lease_ok": True}
STATUS = {
    "version": "1.0", "pid": 7, "instance": "default", "in_sync": True, "out_of_sync_reasons": [], "cache": CACHE, "ports": [],
    "fib": {"ipv4_routes": 1000, "ipv6_routes": 100}, "guard": {"policy": "refuse", "findings": []},
}  # fmt: skip
BOTH = (Family("IPv4", True), Family("IPv6", True))


def facts(**changed) -> Facts:
    """A good machine with one good port, but for this."""
    good = Facts(
        features={"devmap": YES}, families=BOTH, ports=(GOOD,), available_bytes=10**9, cpus=2,
        software=Software(bcc="0.26", llvm="14", run_directory="/run", packages={"rich": "13"}),
    )  # fmt: skip
    return dataclasses.replace(good, **changed)


def notable(given: Facts) -> list[tuple]:
    """(id, port, severity, reason, command) of what is not simply right; a machine without daemon says so."""
    return [
        (f.id, f.port, str(f.severity), f.reason, f.command)
        for f in judge(given).findings
        if f.severity is not Severity.OK and not f.reason.startswith("none runs in")
    ]


def software(**changed) -> Facts:
    return facts(software=dataclasses.replace(facts().software, **changed))


def feature(name: str, **changed) -> Facts:
    return facts(features={name: dataclasses.replace(YES, **changed)})


def port(base: Port = GOOD, **changed) -> Facts:
    return facts(ports=(dataclasses.replace(base, **changed),))


def daemon(**changed) -> Facts:
    return facts(status=STATUS | changed)


def test_a_good_machine():
    assert notable(facts()) == []
    assert judge(facts()).exit_code == 0
    assert notable(daemon()) == []


SAYS = [
    # kernel
    (feature("devmap", answer="no", detail="Invalid argument"),
     ("kernel-devmap", None, "error", "this kernel lacks devmaps (Invalid argument): xdprouter does not run without it", "")),
    (feature("jit", meaning="the JIT", needed=False, without="slow", since="CONFIG_BPF_JIT", answer="no"),
     ("kernel-jit", None, "warning", "this kernel lacks the JIT: slow", "sysctl -w net.core.bpf_jit_enable=1")),
    (feature("bond_xdp", meaning="XDP on bonds", needed=False, without="slow bonds", answer="no"),
     ("kernel-bond-xdp", None, "info", "this kernel lacks XDP on bonds: slow bonds", "")),
    (feature("bond", meaning="bonds", answer="unknown", detail="module bonding"),
     ("kernel-bond", None, "info", "bonds: cannot be told (module bonding)", "")),
    # software
    (software(root=False),
     ("root", None, "error", "not root: the kernel can only be asked by root, so most of this is missing", "sudo xdprouter doctor")),
    (software(bcc="", bcc_error="BCC is not installed for this Python (x)"),
     ("bcc", None, "error", "BCC is not installed for this Python (x)", "apt-get install -y python3-bpfcc")),
    (software(bcc="", bcc_error="it is the other one", wrong_bcc=True, python="/v/bin/python"),
     ("bcc", None, "error", "it is the other one",
      "/v/bin/python -m pip uninstall -y bcc && apt-get install -y python3-bpfcc")),
    (software(llvm="7.0.1"), ("llvm", None, "error", "LLVM 7.0.1 is old: 9 or later is needed", "")),
    (software(llvm=""),
     ("llvm", None, "info", "the version of LLVM cannot be told: it is part of libbcc itself", "")),
    (software(headers=False),
     ("libc-headers", None, "error", "no /usr/include/linux/types.h: nothing can be compiled", "apt-get install -y linux-libc-dev")),
    (software(packages={"rich": "13", "pyzmq": None}, python="/v/bin/python"),
     ("python-packages", None, "error", "Python packages are missing: pyzmq", "/v/bin/python -m pip install pyzmq")),
    (software(bpffs="the kernel has no bpffs"),
     ("bpffs", None, "error", "bpffs cannot be mounted: the kernel has no bpffs", "")),
    (software(run_writable=False),
     ("run-directory", None, "error", "/run/xdprouter/default: /run cannot be written to", "")),
    (software(memlock="64 KiB"),
     ("memlock", None, "error", "this kernel counts BPF maps against the memory lock limit, which is 64 KiB", "")),
    # network
    (facts(families=(Family("IPv4", False, ("eth0",)), BOTH[1])),
     ("ipv4-forwarding", None, "warning", "IPv4 is not forwarded, though ports have IPv4 addresses: eth0",
      "sysctl -w net.ipv4.ip_forward=1")),
    (facts(families=(BOTH[0], Family("IPv6", False))),
     ("ipv6-forwarding", None, "info", "IPv6 is not forwarded, and no port has an address of it",
      "sysctl -w net.ipv6.conf.all.forwarding=1")),
    (facts(families=(Family("IPv4", False),)),
     ("ipv4-forwarding", None, "error", "IPv4 is not forwarded, nor anything else", "sysctl -w net.ipv4.ip_forward=1")),
    (facts(families=(Family("IPv4", True, closed=("eth0",)),)),
     ("ipv4-forwarding", "eth0", "warning", "IPv4 packets that come in here are not forwarded",
      "sysctl -w net/ipv4/conf/eth0/forwarding=1")),
    (facts(guard=((None, "nftables: x"),)),
     ("guard", None, "warning", "packets stay on the slow path: nftables: x", "")),
    (facts(guard=(("eth0", "tc: x"),), guard_policy="warn"),
     ("guard", "eth0", "warning", "packets go past it all the same: tc: x", "")),
    (facts(guard_policy="off"),
     ("guard", None, "info", 'guard = "off": nobody looks for a firewall that packets would go past', "")),
    (facts(cache_entries=1 << 30, cache_bytes=2 * 10**9),
     ("memory", None, "error", "cache_entries = 1073741824 takes 2000 MB on 2 CPUs, and 1000 MB are available", "")),
    (daemon(fib={"ipv4_routes": 10**7, "ipv6_routes": 0}),
     ("memory", None, "warning", "10000000 routes take about 2000 MB in the kernel, and only 1000 MB are left: a second "
      "copy, as while a routing daemon restarts, does not fit", "")),
    # daemon
    (facts(mute="no answer in 10 s"), ("daemon", None, "error", "it does not answer: no answer in 10 s", "")),
    (facts(forwarding_alone=2),
     ("daemon", None, "warning", "none, and 2 port(s) go on forwarding alone: no change of ports or firewall is followed", "")),
    (daemon(in_sync=False, out_of_sync_reasons=["port x is absent: why"]),
     ("in-sync", None, "warning", "out of sync: port x is absent: why", "")),
    (daemon(cache=CACHE | {"enabled": False, "reason": "cache_entries is 0"}),
     ("cache", None, "info", "off: cache_entries is 0", "")),
    (daemon(cache=CACHE | {"enabled": False, "reason": "use_neigh"}),
     ("cache", None, "warning", "withdrawn, so the FIB is asked for each packet: use_neigh", "")),
    (daemon(cache=CACHE | {"lease_ok": False}),
     ("cache", None, "warning", "nothing is recalled: the daemon was late to renew its lease", "")),
    (facts(status=STATUS, next_hops=(HOP | {"state": "failed"},)),
     ("neighbours", None, "warning", "next hop 10.0.0.2 on eth0 carries traffic and is failed", "")),
    (facts(status=STATUS, next_hops=(HOP | {"state": "stale", "managed": False},)),
     ("neighbours", None, "info", "next hop 10.0.0.2 on eth0 is stale, and not kept fresh by xdprouter", "")),
    # ports
    (port(exists=False, near=("eth1",)), ("device", "eth0", "error", "no such device; there is eth1", "")),
    (port(refusal="enslaved to a bridge"), ("device", "eth0", "error", "it is enslaved to a bridge", "")),
    (port(up=False, carrier=False, trial=""),
     ("link", "eth0", "warning", "administratively down", "ip link set dev eth0 up")),
    (port(carrier=False), ("link", "eth0", "warning", "no carrier", "")),
    (port(attached="native", program_id=9, program_name="foreign"),
     ("other-program", "eth0", "error",
      "carries another XDP program: foreign, id 9, native; take it off only if nobody needs it",
      "ip link set dev eth0 xdpdrv off")),
    (port(attached="generic", program_id=9),
     ("other-program", "eth0", "error",
      "carries another XDP program: nameless, id 9, generic; take it off only if nobody needs it",
      "ip link set dev eth0 xdpgeneric off")),
    (port(attached="native", program_id=9, program_name="foreign", link_id=4),
     ("other-program", "eth0", "error",
      "carries another XDP program: foreign, id 9, native; take it off only if nobody needs it",
      "bpftool link detach id 4")),
    (port(native=False, driver="e1000"), ("native-xdp", "eth0", "error", "driver e1000 has no native XDP", "")),
    (port(native=None), ("native-xdp", "eth0", "info", "whether the driver has native XDP is not known", "")),
    (port(redirects=False), ("native-xdp", "eth0", "error", "driver ice has XDP, but cannot redirect", "")),
    (port(mode="generic", native=False),
     ("native-xdp", "eth0", "info", "in generic mode as configured, which is slow", "")),
    (port(mtu=9000, frags=False, driver="igb"),
     ("mtu", "eth0", "error", "MTU 9000: driver igb cannot take frames of several buffers in XDP, and with one the limit is "
      "about 3506", "ip link set dev eth0 mtu 3506")),
    (port(mtu=9000, frags=None, native=True),
     ("mtu", "eth0", "warning", "MTU 9000: driver ice may not be able to take frames of several buffers in XDP, and with one "
      "the limit is about 3506", "ip link set dev eth0 mtu 3506")),
    (port(rx_queues=1, combined_queues=1),
     ("queues", "eth0", "info", "1 of 64 queues in use, on 2 CPUs: some CPUs do nothing", "ethtool -L eth0 combined 2")),
    (port(offloads={"rx-lro": (True, True)}),
     ("lro", "eth0", "warning", "large receive offload (LRO) is on: native XDP and forwarding cannot use what it makes",
      "ethtool -K eth0 lro off")),
    (port(offloads={"rx-gro-hw": (True, True)}),
     ("gro-hw", "eth0", "warning", "hardware GRO is on: native XDP and forwarding cannot use what it makes",
      "ethtool -K eth0 rx-gro-hw off")),
    (port(offloads={"rx-lro": (True, False)}),
     ("lro", "eth0", "warning", "large receive offload (LRO) is on: native XDP and forwarding cannot use what it makes", "")),
    (port(vlans=("eth0.10",), offloads={"rx-vlan-hw-parse": (True, True)}),
     ("rxvlan", "eth0", "warning",
      "the driver takes VLAN tags off before XDP sees the frame (rxvlan); above it: eth0.10", "ethtool -K eth0 rxvlan off")),
    (port(VETH, vlans=("eth0.10",), peer_tags_ahead=True),
     ("rxvlan", "eth0", "warning",
      "its peer hands VLAN tags over beside the frame, where XDP does not see them; above it: eth0.10",
      "ethtool -K peer0 txvlan off")),
    (port(takes_redirects=False),
     ("takes-redirects", "eth0", "warning", "nothing can be redirected to it (no ndo_xdp_xmit)", "")),
    (port(VETH, takes_redirects=False, peer_namespace="/run/netns/h"),
     ("takes-redirects", "eth0", "warning",
      "nothing can be redirected to it: its veth peer peer0 has no NAPI (gro is off, or was when they came up)",
      "nsenter --net=/run/netns/h sh -c 'ethtool -K peer0 gro off; ethtool -K peer0 gro on'")),
    (port(VETH, native=False, takes_redirects=False, peer_tx_queues=2),
     ("queues", "eth0", "error", "1 receive queues, and its veth peer sends by 2: native XDP is refused",
      "ethtool -L peer0 tx 1")),
    (port(reverse_path=2), ("rp-filter", "eth0", "info", "rp_filter is 2: each packet costs a second lookup", "")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), SAYS, ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_each_finding(given, expected):
    assert notable(given) == [expected]


@pytest.mark.parametrize("given", [given for given, _ in SAYS])
def test_what_is_wrong_has_a_command_or_says_why_it_has_none(given):
    for finding in judge(given).findings:
        if finding.severity in (Severity.WARNING, Severity.ERROR):
            assert bool(finding.command) != bool(finding.no_command), finding


def test_a_port_that_is_down_and_refuses_in_the_kernels_words():
    given = port(up=False, carrier=False, trial="Peer MTU is too large to set XDP")
    assert notable(given)[1] == (
        "native-xdp",
        "eth0",
        "error",
        "refuses native XDP: Peer MTU is too large to set XDP",
        "",
    )


def test_what_the_daemon_was_told_by_the_kernel():
    refused = {"name": "eth0", "state": "unsupported", "reason": "eth0 refused the program"}
    given = dataclasses.replace(daemon(ports=[refused]), netns="blue")
    assert notable(given) == [
        ("native-xdp", "eth0", "error", "eth0 refused the program", "xdprouter attach --netns blue eth0 --mode generic")
    ]


def test_a_veth_is_judged_by_its_peers_mtu_where_the_kernel_has_no_frags():
    no_frags = dataclasses.replace(YES, answer="no", needed=False)
    given = facts(features={"xdp_frags": no_frags}, ports=(dataclasses.replace(VETH, peer_mtu=9000),))
    (_, found) = notable(given)
    assert found[:3] == ("mtu", "eth0", "error")
    assert found[3].startswith("MTU 9000 of its veth peer: the kernel cannot take frames of several buffers")
    assert found[4] == "ip link set dev peer0 mtu 3506"


def test_jumbo_is_fine_with_frags():
    assert notable(port(mtu=9000)) == []
    assert notable(port(mtu=3506, frags=False)) == []


def test_a_jit_that_another_namespace_has_to_switch():
    given = feature("jit", meaning="the JIT", needed=False, without="slow", answer="no")
    given = dataclasses.replace(
        given, software=dataclasses.replace(given.software, jit_sysctl_here=False), netns="blue"
    )
    ((*_, command),) = notable(given)
    assert command == "nsenter --net=/proc/1/ns/net sysctl -w net.core.bpf_jit_enable=1"


def test_commands_work_in_the_namespace_that_was_examined():
    given = port(up=False, carrier=False, trial="")
    given = dataclasses.replace(given, netns="blue")
    assert notable(given)[0][4] == "nsenter --net=/run/netns/blue ip link set dev eth0 up"


def test_our_own_program_is_fine():
    assert notable(port(attached="native", program_id=9, ours=True)) == []


def test_no_port_is_said():
    assert notable(facts(ports=()))[0][:3] == ("ports", None, "info")


@pytest.mark.parametrize(("severity", "code"), [("ok", 0), ("info", 0), ("warning", 1), ("error", 2)])
def test_exit_codes(severity, code):
    findings = tuple(Finding("x", Group.KERNEL, Severity(name), "y") for name in ("ok", severity))
    report = Report("default", findings)
    assert (report.exit_code, report.table()["exit_code"], report.table()["severity"]) == (code, code, severity)


def test_the_json_of_a_finding():
    assert Finding("x", Group.PORT, Severity.INFO, "why", "do", "", "eth0").table() == {
        "id": "x", "group": "port", "severity": "info", "subject": "port", "port": "eth0", "reason": "why",
        "command": "do", "no_command": "",
    }  # fmt: skip


def test_the_text_for_people(capsys):
    print_report(judge(port(up=False, carrier=False, trial="")))
    text = capsys.readouterr().out
    assert re.search(r"^warning +link +administratively down *$", text, re.MULTILINE)
    assert re.search(r"^ +mend: ip link set dev eth0 up *$", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith("it works, with warnings  (0 error, 1 warning, 1 info, ")
    # Aligned: every id begins in the same column.
    rows = [line for line in text.splitlines() if re.match(r"(ok|info|warning|error) ", line)]
    assert {re.match(r"\w+ +", row).end() for row in rows} == {9}


def test_the_python_packages_are_those_of_the_project():
    from xdprouter.doctor.system import PACKAGES

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(PACKAGES) == {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
