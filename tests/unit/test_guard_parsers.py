# SPDX-License-Identifier: GPL-2.0-only
"""The guard's parsers on bytes: what this machine's kernel cannot show, and what no kernel should send."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import bpf_query, conntrack, guard, ipvs, netfilter_hooks, ruleset, traffic_control, xfrm, xtables
from controlplane.errors import NetlinkError
from controlplane.finding import Finding, and_more
from controlplane.netfilter_hooks import Hook
from controlplane.netlink import HEADER, attribute


def message(kind: int, payload: bytes) -> bytes:
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, 0, 1, 0) + payload + bytes(-length % 4)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def be32(value: int) -> bytes:
    return value.to_bytes(4, "big")


# --- the kernel's list of hooks ---------------------------------------------------------------------


def hook(function: str, module: str = "", chain_type: int | None = None, family: int = 2) -> bytes:
    """NFNL_MSG_HOOK_GET's answer as nfnl_hook_dump_one() of net/netfilter/nfnetlink_hook.c builds it."""
    info = b""
    if chain_type is not None:
        inner = attribute(1, text("fw")) + attribute(2, b"\x01") + attribute(3, text("c"))
        info = attribute(0x8000 | 6, attribute(0x8000 | 1, inner) + attribute(2, be32(chain_type)))
    payload = bytes([family, 0, 0, 0]) + (attribute(5, text(module)) if module else b"")
    payload += attribute(4, text(function)) + info + attribute(1, be32(2)) + attribute(2, be32(0))
    return message(12 << 8, payload)


def test_hooks_come_back():
    data = (
        hook("ipv4_conntrack_in", "nf_conntrack") + hook("nft_do_chain_inet", "nf_tables", 1) + hook("x", chain_type=2)
    )
    assert list(netfilter_hooks.parse(data)) == [
        Hook("ipv4_conntrack_in", "nf_conntrack", False),
        Hook("nft_do_chain_inet", "nf_tables", True),
        Hook("x", "", False),
    ]


@pytest.mark.parametrize(
    ("function", "relevant"),
    [
        ("ipv4_conntrack_in", True),
        ("nf_confirm", True),
        ("ipv4_conntrack_defrag", True),
        ("ip_vs_forward_icmp", True),
        ("nf_hook_run_bpf", True),
        ("a_module_of_somebody", True),
        ("", True),
        ("nft_do_chain_ipv4", False),
        ("ipt_do_table", False),
        ("nf_nat_ipv4_out", False),
        ("apparmor_ip_postroute", False),
        ("selinux_ip_forward", False),
        ("ip_sabotage_in", False),
    ],
)
def test_which_hooks_count(function, relevant):
    assert netfilter_hooks.relevant(Hook(function, "", False)) is relevant


class HookSocket:
    """Answers dumps of hooks as a kernel that has the list; `hooks` by (family, number, device)."""

    def __init__(self, hooks: dict[tuple[int, int, str], bytes], refusal: int = 0):
        self.hooks, self.refusal = hooks, refusal

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        assert kind == 12 << 8
        if self.refusal:
            raise NetlinkError("refused", self.refusal)
        row = dict(ruleset.attributes(payload[4:]))
        device = row.get(3, b"").rstrip(b"\0").decode()
        return [self.hooks.get((payload[0], int.from_bytes(row[1], "big"), device), b"")]


def hooks_of(monkeypatch, sock: HookSocket):
    monkeypatch.setattr(netfilter_hooks, "NetlinkSocket", lambda protocol: sock)
    return netfilter_hooks.NetfilterHooks().examine({"eth0": 2, "eth1": 3})


def test_findings_of_the_hooks(monkeypatch):
    hooks = {
        (2, 0, ""): hook("ipv4_conntrack_in", "nf_conntrack") + hook("nft_do_chain_inet", "nf_tables", 1),
        (10, 2, ""): hook("nf_hook_run_bpf", chain_type=2),
        (5, 1, "eth1"): hook("mystery", "vendor"),
    }
    assert hooks_of(monkeypatch, HookSocket(hooks)) == [
        Finding(None, "netfilter: ipv4_conntrack_in [nf_conntrack] sees IPv4 packets at prerouting"),
        Finding(None, "netfilter: nf_hook_run_bpf sees IPv6 packets at forward"),
        Finding("eth1", "netfilter: mystery [vendor] sees packets at egress of eth1"),
    ]


def test_a_kernel_without_the_list_is_told_from_an_empty_list(monkeypatch):
    assert hooks_of(monkeypatch, HookSocket({}, errno.EINVAL)) is None
    assert hooks_of(monkeypatch, HookSocket({}, errno.EOPNOTSUPP)) == []
    with pytest.raises(NetlinkError):
        hooks_of(monkeypatch, HookSocket({}, errno.EPERM))


# --- nftables ---------------------------------------------------------------------------------------


def chain_row(hook_number: int, *devices: bytes, policy: int | None = None) -> dict[int, bytes]:
    hook_ = attribute(1, be32(hook_number)) + attribute(2, be32(0))
    if devices:
        hook_ += attribute(0x8000 | 4, b"".join(devices))
    row = {1: text("fw"), 3: text("c"), 4: hook_}
    return row if policy is None else row | {5: be32(policy)}


def test_names_of_devices():
    row = chain_row(
        0, attribute(1, text("eth0")), attribute(1, b"wan"), attribute(2, text("lan")), attribute(1, b"ppp*")
    )
    assert ruleset.base_chain(5, row).devices == ("eth0", "wan*", "lan*", "ppp*")


@pytest.mark.parametrize("family, number, counts", [
    (1, 0, True), (1, 1, False), (1, 2, True), (1, 3, False), (1, 4, True), (1, 5, True),
    (2, 2, True), (2, 5, False), (10, 4, True), (10, 1, False), (3, 2, False), (7, 2, False), (5, 0, True), (5, 1, True),
    (5, 9, True), (99, 2, False),
])  # fmt: skip
def test_which_chains_are_on_the_way(family, number, counts):
    assert (ruleset.base_chain(family, chain_row(number)) is not None) is counts


def test_a_chain_that_is_no_base_chain():
    assert ruleset.base_chain(1, {1: text("fw"), 3: text("c")}) is None


def expression(name: str, data: bytes = b"") -> bytes:
    return attribute(1, text(name)) + (attribute(0x8000 | 2, data) if data else b"")


@pytest.mark.parametrize(
    ("value", "tracks"),
    [
        (expression("payload"), False),
        (expression("ct"), True),
        (expression("flow_offload"), True),
        (expression("from_the_future"), True),
        (expression("match", attribute(1, text("tcp"))), False),
        (expression("match", attribute(1, text("conntrack"))), True),
        (expression("target", attribute(1, text("LOG"))), False),
        (expression("target", attribute(1, text("MASQUERADE"))), True),
        (expression("dynset", attribute(0x8000 | 7, expression("limit"))), False),
        (expression("dynset", attribute(0x8000 | 7, expression("connlimit"))), True),
        (expression("dynset", attribute(0x8000 | 10, attribute(1, expression("counter")) + attribute(1, expression("connlimit")))), True),
    ],
)  # fmt: skip
def test_which_expressions_track(value, tracks):
    assert any(conntrack.tracking_expression(name) for name in ruleset.expression_names(value)) is tracks


def test_a_flowtable_is_where_its_devices_are():
    row = {1: text("fw"), 2: text("ft"), 3: attribute(1, be32(0)) + attribute(3, attribute(1, text("eth1")))}
    assert ruleset.flowtable(1, row).devices == ("eth1",)


def test_only_a_missing_subsystem_counts_as_absent():
    assert ruleset.kernel_without(NetlinkError("x", errno.EINVAL))
    assert ruleset.kernel_without(OSError(errno.EPROTONOSUPPORT, "x"))
    assert not ruleset.kernel_without(NetlinkError("x", errno.EPERM))
    assert not ruleset.kernel_without(OSError(errno.EPERM, "x"))


# --- legacy iptables --------------------------------------------------------------------------------

IPV4 = xtables.FAMILIES[0]


@given(st.binary(max_size=400), st.integers(0, 400))
def test_entries_of_garbage_are_an_error_or_end(data, start):
    try:
        list(xtables.walk(IPV4, data, start, len(data)))
        list(xtables.extensions(IPV4, data))
    except (NetlinkError, struct.error):
        pass


def test_a_policy_that_is_cut_short():
    entry = bytes(88) + struct.pack("=HHI", 112, 144, 0) + bytes(16) + bytes(32)
    with pytest.raises(NetlinkError):
        xtables.verdict(IPV4, entry, 0)


# --- tc ---------------------------------------------------------------------------------------------


def qdisc(ifindex: int, kind: str, options: bytes = b"") -> bytes:
    head = struct.pack("=BBHiIII", 0, 0, 0, ifindex, 0x80010000, 0xFFFFFFFF, 2)
    return message(36, head + attribute(1, text(kind)) + attribute(2, options))


def test_qdiscs_of_other_devices_are_left_out():
    found = traffic_control.qdiscs_of(qdisc(1, "tbf") + qdisc(2, "fq_codel") + qdisc(3, "tbf"), {2: "a", 3: "b"})
    assert [(one.ifindex, one.kind, one.shapes) for one in found] == [(2, "fq_codel", False), (3, "tbf", True)]


@pytest.mark.parametrize("kind", ["noqueue", "mq", "pfifo_fast", "fq", "fq_codel", "clsact", "ingress"])
def test_defaults_do_not_shape(kind):
    assert not traffic_control.shapes(kind, b"")


@pytest.mark.parametrize(
    "kind", ["tbf", "htb", "hfsc", "cake", "prio", "sfq", "netem", "mqprio", "taprio", "new_one", ""]
)
def test_everything_else_counts(kind):
    assert traffic_control.shapes(kind, b"")


def test_fq_with_a_rate_shapes():
    assert not traffic_control.shapes("fq", attribute(7, struct.pack("=I", 0xFFFFFFFF)))
    assert traffic_control.shapes("fq", attribute(7, struct.pack("=I", 125000)))


# --- xfrm -------------------------------------------------------------------------------------------


def policy(direction: int, source: str = "10.0.0.0", more: bytes = b"") -> bytes:
    """struct xfrm_userpolicy_info member by member; the index is no direction, the family lies behind the ports."""
    pad = bytes(12)
    selector = socket.inet_aton("192.0.2.0") + pad + socket.inet_aton(source) + pad
    selector += struct.pack("=HHHHHBBB3xiI", 1, 1, 1, 1, socket.AF_INET, 24, 8, 0, 0, 0)
    info = selector + bytes(64) + bytes(32) + struct.pack("=IIBBBB4x", 7, 9, direction, 0, 0, 0)
    assert (len(selector), len(info)) == (56, 168)
    return message(19, info + more)


def test_policies_by_direction():
    data = policy(0) + policy(1) + policy(2, "10.1.0.0") + policy(2, "10.2.0.0") + policy(3)
    assert xfrm.judge([data]) == [
        Finding(None, "xfrm: policy dir out 10.0.0.0/8 -> 192.0.2.0/24"),
        Finding(None, "xfrm: policy dir fwd 10.1.0.0/8 -> 192.0.2.0/24 (and 1 more policy)"),
    ]


def test_policies_of_an_xfrm_interface_are_left_out():
    assert xfrm.judge([policy(2, more=attribute(31, struct.pack("=I", 5)))]) == []
    assert len(xfrm.judge([policy(2, more=attribute(31, struct.pack("=I", 0)))])) == 1


def test_default_policies():
    assert xfrm.default_findings(b"\1\2\2") == []
    assert [found.text for found in xfrm.default_findings(b"\2\1\1")] == [
        "xfrm: default policy dir fwd block",
        "xfrm: default policy dir out block",
    ]


# --- IPVS, BPF links, the rest ----------------------------------------------------------------------

IP_VS = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80001:0050 rr
  -> 0A000001:0050      Masq    1      0          0
FWM  00000001 wlc
""".splitlines()


def test_ipvs():
    assert ipvs.judge(IP_VS[:3]) == []
    assert ipvs.judge(IP_VS) == [Finding(None, "ipvs: service TCP C0A80001:0050 (and 1 more service)")]


def links(monkeypatch, table: dict[int, tuple[int, int, int]]) -> list[int]:
    """Let bpf(2) know these links, id -> (type, family, hook). Returns the ids that were opened, as they come."""
    opened = []

    def bpf(command: int, request: bytearray) -> int:
        (number,) = struct.unpack_from("=I", request)
        if command == 31:  # BPF_LINK_GET_NEXT_ID
            later = [one for one in sorted(table) if one > number]
            if not later:
                raise OSError(errno.ENOENT, "none")
            struct.pack_into("=I", request, 4, later[0])
            return 0
        if command == 30:  # BPF_LINK_GET_FD_BY_ID
            opened.append(number)
            return 1000 + number
        assert command == 15  # BPF_OBJ_GET_INFO_BY_FD
        kind, family, hook_number = table[number - 1000]
        info = struct.pack("=6I", kind, number - 1000, 1, 0, family, hook_number)
        bpf_query.ct.memmove(struct.unpack_from("=Q", request, 8)[0], info, len(info))
        return 0

    monkeypatch.setattr(bpf_query, "bpf", bpf)
    monkeypatch.setattr(bpf_query.os, "close", lambda fd: None)
    return opened


def test_netfilter_links_are_found_and_each_is_asked_once(monkeypatch):
    table = {3: (6, 2, 2), 5: (10, 2, 2), 9: (10, 10, 1)}
    opened = links(monkeypatch, table)
    known = bpf_query.NetfilterLinks()
    assert known.hooks() == [(2, 2), (10, 1)]
    assert known.hooks() == [(2, 2), (10, 1)]
    assert opened == [3, 5, 9]
    del table[5]
    assert known.hooks() == [(10, 1)]


@pytest.mark.parametrize(("number", "answer"), [(errno.ENODEV, 0), (errno.EINVAL, 0), (errno.EPERM, None)])
def test_tcx_on_old_kernels_and_gone_devices(monkeypatch, number, answer):
    def refuse(*_):
        raise OSError(number, "refused")

    monkeypatch.setattr(bpf_query, "bpf", refuse)
    if answer is None:
        with pytest.raises(PermissionError):
            bpf_query.attached_programs(1, bpf_query.TCX_INGRESS)
    else:
        assert bpf_query.attached_programs(1, bpf_query.TCX_INGRESS) == answer


@pytest.mark.parametrize(("number", "words"), [(0, ""), (1, " (and 1 more rule)"), (12, " (and 12 more rules)")])
def test_and_more(number, words):
    assert and_more(number) == words


def test_examine_never_raises(monkeypatch):
    """Whatever breaks, and wherever: each part says so."""

    def broken(*_, **__):
        raise RuntimeError

    for module, name in (
        (ruleset, "NetlinkSocket"), (xfrm, "NetlinkSocket"), (traffic_control, "NetlinkSocket"),
        (netfilter_hooks, "NetlinkSocket"), (xtables, "table_names"), (ipvs, "judge"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, broken)
    monkeypatch.setattr("controlplane.netfilter.NetlinkSocket", broken)
    monkeypatch.setattr(ipvs, "_SERVICES", ipvs.Path("/proc/self/status"))
    assert [found.text for found in guard.examine({"eth0": 2})] == [
        f"{what} cannot be read: RuntimeError; counted as a firewall"
        for what in ("nftables rules", "iptables rules", "netfilter hooks", "IPVS services", "tc", "xfrm policies")
    ]
