# SPDX-License-Identifier: GPL-2.0-only
"""What this kernel can do, found out by trying it and never by its version: distributions take features back to old
kernels, and leave others out of new ones.

Whatever needs a device is tried in a network namespace without a name. A kernel module that is not loaded is left
unloaded: a "yes" then says that it is there. Needs root, but neither BCC nor libbpf.
"""

import enum
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from controlplane import bytecode, module, neighbour, transient
from controlplane.errors import ControlPlaneError, NetlinkError
from controlplane.libbpf import (
    BPF_F_MMAPABLE,
    BPF_F_XDP_HAS_FRAGS,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_DEVMAP,
    BPF_PROG_TYPE_RAW_TRACEPOINT,
    BPF_PROG_TYPE_SOCKET_FILTER,
    XDP_FLAGS_DRV_MODE,
    XDP_FLAGS_SKB_MODE,
)
from controlplane.namespace import in_throwaway_namespace
from controlplane.netdev import NetdevSocket
from controlplane.netfilter_hooks import NetfilterHooks
from controlplane.netlink import NLM_F_CREATE, NetlinkSocket, attribute

_MAP_TYPE_LPM_TRIE, _F_NO_PREALLOC = 11, 1
_RTM_NEWLINK, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND, _NLM_F_EXCL = 16, 3, 18, 1, 0x200
_IFINFOMSG = struct.Struct("=BBHiII")
FIB_LOOKUP_MARK, FIB_LOOKUP_VLAN = 1 << 5, 1 << 6
_BTF = Path("/sys/kernel/btf/vmlinux")
_KPTR_RESTRICT = Path("/proc/sys/kernel/kptr_restrict")


class Answer(enum.StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """could not be told, and `Probe.detail` says why"""


@dataclass(frozen=True, slots=True)
class Probe:
    """True only if the answer is a yes."""

    answer: Answer
    detail: str = ""
    """the kernel's words, or what else there is to say"""

    def __bool__(self) -> bool:
        return self.answer is Answer.YES


@dataclass(frozen=True, slots=True)
class Feature:
    meaning: str
    needed: bool
    """without it xdprouter does not run"""
    without: str
    """what is lost without it"""
    since: str
    """the first kernel, or the configuration option, that has it"""
    try_it: Callable[[], str | Probe | None]
    """raises OSError or NetlinkError if the kernel refuses; text is a detail of a yes"""


def probe(names: Iterable[str] | None = None) -> dict[str, Probe]:
    """Name in FEATURES -> answer, of all of them or of these. Never raises for what a kernel may refuse;
    KeyError for a name that is not in FEATURES. Asked once in a process."""
    wanted = {name: FEATURES[name] for name in (FEATURES if names is None else names)}
    if missing := {name: feature for name, feature in wanted.items() if name not in _answers}:
        try:
            _answers.update(in_throwaway_namespace(lambda: {name: _ask(feature) for name, feature in missing.items()}))
        except ControlPlaneError as error:
            _answers.update(dict.fromkeys(missing, Probe(Answer.UNKNOWN, str(error))))
    return {name: _answers[name] for name in wanted}


_answers: dict[str, Probe] = {}
"""A running kernel does not change"""


def _ask(feature: Feature) -> Probe:
    try:
        found = feature.try_it()
    except (OSError, ControlPlaneError) as error:
        number = getattr(error, "errno", 0) or 0
        words = getattr(error, "strerror", None) or str(error)
        cannot_tell = number in (errno.EPERM, errno.EACCES, errno.ENOMEM, errno.EMFILE) or not number
        return Probe(Answer.UNKNOWN if cannot_tell else Answer.NO, words)
    return found if isinstance(found, Probe) else Probe(Answer.YES, found or "")


# --- bpf(2) ---------------------------------------------------------------------------------------


def _try_map(kind: int, key: int, value: int, flags: int = 0) -> None:
    with transient.table(kind, key, value, flags):
        pass


def can_make_map() -> bool:
    """Whether a small map can be made at this moment."""
    try:
        _try_map(BPF_MAP_TYPE_ARRAY, 4, 8)
    except OSError:
        return False
    return True


def _try_xdp(flags: int = 0) -> None:
    with transient.xdp_pass(flags):
        pass


def _try_jit() -> Probe:
    """What was compiled has a length. The kernel hides it from everybody with kernel.kptr_restrict = 2."""
    with transient.xdp_pass() as program:
        if transient.jited_bytes(program):
            return Probe(Answer.YES)
    try:
        hidden = _KPTR_RESTRICT.read_text().strip() == "2"
    except OSError:
        hidden = True
    return Probe(Answer.UNKNOWN, "kernel.kptr_restrict hides it") if hidden else Probe(Answer.NO)


def _try_btf() -> None:
    _BTF.stat()


def _fib_code(flags: int) -> int:
    with transient.xdp(bytecode.asks_fib(flags)) as program:
        return transient.run(program, 64)


def _try_fib(flags: int) -> None:
    code = _fib_code(flags)
    if code < 0:
        raise OSError(-code, os.strerror(-code))


def _try_link(detach: bool) -> None:
    with transient.xdp_pass() as program, transient.link(program, bytecode.LOOPBACK, XDP_FLAGS_SKB_MODE) as held:
        if detach:
            transient.detach(held)


def _try_socket_filter() -> None:
    with transient.program(BPF_PROG_TYPE_SOCKET_FILTER, bytecode.returns(0)) as program, NetlinkSocket() as sock:
        sock.attach_filter(program)


def _try_tracepoint() -> None:
    with transient.program(BPF_PROG_TYPE_RAW_TRACEPOINT, bytecode.returns(0)) as program:
        with transient.raw_tracepoint(program, "xdp_redirect_err"):
            pass


# --- netlink --------------------------------------------------------------------------------------


def _waiting(name: str) -> str:
    return f"module {name}, loaded when it is first used" if module.waits(name) else ""


def _make(kind: str, name: str = "") -> None:
    payload = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + (attribute(_IFLA_IFNAME, name.encode() + b"\0") if name else b"")
    payload += attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, kind.encode() + b"\0"))
    with NetlinkSocket() as sock:
        sock.request(_RTM_NEWLINK, payload, NLM_F_CREATE | _NLM_F_EXCL)


def _try_kind(kind: str, needs: str) -> str:
    if waits := _waiting(needs):
        return waits
    try:
        _make(kind)
    except NetlinkError as error:
        if error.errno == errno.EOPNOTSUPP:  # "Unknown device type"; any other error is of a kind that is known
            raise
    return ""


def _try_native(kind: str, needs: str) -> Probe | None:
    if waits := _waiting(needs):
        return Probe(Answer.UNKNOWN, waits)
    _make(kind, f"probe-{kind}")
    ifindex = socket.if_nametoindex(f"probe-{kind}")
    with transient.xdp_pass() as program, transient.link(program, ifindex, XDP_FLAGS_DRV_MODE):
        return None


def _try_managed_neighbours() -> Probe:
    with NetlinkSocket() as sock:
        return Probe(Answer.YES if neighbour.can_manage(sock) else Answer.NO)


def _try_xdp_features() -> Probe:
    netdev = NetdevSocket()
    netdev.socket.close()
    return Probe(Answer.YES if netdev.available else Answer.NO)


def _try_netfilter_hooks() -> Probe:
    if waits := _waiting("nfnetlink_hook"):
        return Probe(Answer.YES, waits)
    return Probe(Answer.YES if NetfilterHooks().examine({}) is not None else Answer.NO)


FEATURES: dict[str, Feature] = {
    "xdp": Feature("XDP programs", True, "", "CONFIG_BPF_SYSCALL", _try_xdp),
    "jit": Feature("the compiler of BPF to machine code (JIT)", False, "the fast path is slow: programs are interpreted",
                   "CONFIG_BPF_JIT", _try_jit),
    "btf": Feature("the kernel's types (BTF)", False, "bpftool cannot show maps and kernel types",
                   "CONFIG_DEBUG_INFO_BTF", _try_btf),
    "fib_lookup": Feature("bpf_fib_lookup", True, "", "4.18", lambda: _try_fib(0)),
    "fib_lookup_mark": Feature("bpf_fib_lookup with a firewall mark", False,
                               "packets that a fwmark rule may concern take the slow path",
                               "6.10", lambda: _try_fib(FIB_LOOKUP_MARK)),
    "fib_lookup_vlan": Feature("bpf_fib_lookup that resolves VLAN devices", False,
                               "VLAN devices are resolved by a map of xdprouter's own", "7.x",
                               lambda: _try_fib(FIB_LOOKUP_VLAN)),
    "devmap": Feature("redirects by devmap", True, "", "4.14", lambda: _try_map(BPF_MAP_TYPE_DEVMAP, 4, 4)),
    "lpm_trie": Feature("longest-prefix tries", True, "", "4.11",
                        lambda: _try_map(_MAP_TYPE_LPM_TRIE, 8, 8, _F_NO_PREALLOC)),
    "mmapable_array": Feature("arrays shared with the daemon by mmap", True, "", "5.5",
                              lambda: _try_map(BPF_MAP_TYPE_ARRAY, 4, 8, BPF_F_MMAPABLE)),
    "xdp_frags": Feature("XDP on frames of several buffers", True, "", "5.18", lambda: _try_xdp(BPF_F_XDP_HAS_FRAGS)),
    "xdp_link": Feature("XDP by bpf_link", True, "", "5.9", lambda: _try_link(detach=False)),
    "link_detach": Feature("detaching a bpf_link at once", True, "", "5.9", lambda: _try_link(detach=True)),
    "xdp_native": Feature("native XDP, tried on a veth", False, "nothing: it is a test on a device of its own",
                          "4.19", lambda: _try_native("veth", "veth")),
    "socket_filter": Feature("BPF socket filters on netlink", True, "", "3.19", _try_socket_filter),
    "redirect_tracepoint": Feature("raw tracepoint xdp_redirect_err", True, "", "4.17", _try_tracepoint),
    "managed_neighbours": Feature("neighbours kept fresh by the kernel", False,
                                  "next hops are kept fresh only while the daemon runs", "5.16",
                                  _try_managed_neighbours),
    "xdp_features": Feature("XDP features of devices told by netlink", False,
                            "that nothing can be redirected to a port shows only as lost frames", "6.3",
                            _try_xdp_features),
    "netfilter_hooks": Feature("the kernel's list of netfilter hooks", False,
                               "a kernel module that filters by itself is not seen by the guard",
                               "CONFIG_NETFILTER_NETLINK_HOOK", _try_netfilter_hooks),
    "vlan": Feature("VLAN devices", False, "there can be no VLAN devices", "CONFIG_VLAN_8021Q",
                    lambda: _try_kind("vlan", "8021q")),
    "vrf": Feature("VRF devices", False, "there can be no VRFs", "CONFIG_NET_VRF", lambda: _try_kind("vrf", "vrf")),
    "bond": Feature("bonding devices", False, "there can be no bonds", "CONFIG_BONDING",
                    lambda: _try_kind("bond", "bonding")),
    "bond_xdp": Feature("native XDP on a bond", False, "bonds take the slow path", "5.15",
                        lambda: _try_native("bond", "bonding")),
}  # fmt: skip
