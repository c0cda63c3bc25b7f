# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own list of who hooks into the way of a packet (nfnetlink subsystem hook, Linux 5.14, where
CONFIG_NETFILTER_NETLINK_HOOK is set). Where it is there it is the whole truth: connection tracking, IPVS, BPF
programs and kernel modules too.

Layout: include/uapi/linux/netfilter/nfnetlink_hook.h.
"""

import errno
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from controlplane.errors import NetlinkError
from controlplane.finding import Finding
from controlplane.netlink import NetlinkSocket, attribute, attributes, objects
from controlplane.ruleset import NETLINK_NETFILTER, NFGENMSG, kernel_without, subsystem_messages

NFNL_SUBSYS_HOOK = 12
_HOOK_GET = NFNL_SUBSYS_HOOK << 8
_HOOKNUM, _DEV, _FUNCTION, _MODULE, _CHAIN_INFO = 1, 3, 4, 5, 6
_INFO_TYPE_NFTABLES = 1
_NFPROTO_IPV4, _NFPROTO_NETDEV, _NFPROTO_BRIDGE, _NFPROTO_IPV6 = 2, 5, 7, 10
_FORWARD_HOOKS = {0: "prerouting", 2: "forward", 4: "postrouting"}
_BRIDGE_HOOKS = {0: "prerouting", 1: "input", 3: "output", 4: "postrouting", 5: "brouting"}
_DEVICES_A_LOOK = 64
_NETDEV_HOOKS = {0: "ingress", 1: "egress"}

_JUDGED_ELSEWHERE = ("nft_do_chain", "ipt_do_table", "ip6t_do_table", "iptable_", "ip6table_")
"""nftables chains and legacy tables: an empty one does nothing."""
_HARMLESS = (
    "nf_nat_",  # NAT works on tracked packets only, and then the tracker's hook is in the list
    "ip_sabotage_in",  # br_netfilter, for bridged packets
    "br_nf_",  # the same: it lets them meet the rules of IP, which count wherever they are
    # Security modules: they act on a secmark (a rule sets it), on labelled IPsec (a policy) and on NetLabel.
    "selinux_", "apparmor_", "smack_",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hook:
    function: str
    module: str
    chain: bool
    """An nftables chain"""


class NetfilterHooks:
    """Knows whether this kernel can tell."""

    def __init__(self):
        self._absent = False
        self._of_devices: dict[str, list[Finding]] = {}

    def examine(
        self, devices: Mapping[str, int], changed: bool = True, bridges: Collection[str] = ()
    ) -> list[Finding] | None:
        """Findings in the caller's network namespace; None when the kernel has no such list. `bridges`: which of the
        devices are.

        Raises NetlinkError or OSError when it has but does not show it.
        """
        if self._absent and not changed:
            return None
        # Devices that were asked about longest ago come first; when nothing has changed, so many of them will do.
        known = {} if changed else {name: self._of_devices[name] for name in self._of_devices if name in devices}
        asked = [name for name in devices if name not in known] + list(known)
        try:
            with NetlinkSocket(NETLINK_NETFILTER) as sock:
                out = [*_examine(sock), *_examine_bridges(sock, bridges)]
                for device in asked[: len(asked) - len(known) + _DEVICES_A_LOOK]:
                    known.pop(device, None)
                    known[device] = list(_examine_device(sock, device))
            self._of_devices = known
            return out + [finding for findings in known.values() for finding in findings]
        except (NetlinkError, OSError) as error:
            self._absent = kernel_without(error)
            if self._absent:
                return None
            raise


def _examine(sock: NetlinkSocket) -> Iterator[Finding]:
    for family, name in ((_NFPROTO_IPV4, "IPv4"), (_NFPROTO_IPV6, "IPv6")):
        for number, place in _FORWARD_HOOKS.items():
            for hook in _hooks(sock, family, number):
                if relevant(hook):
                    yield Finding(None, f"netfilter: {describe(hook)} sees {name} packets at {place}")


def _examine_bridges(sock: NetlinkSocket, bridges: Collection[str]) -> Iterator[Finding]:
    """What sees packets that are routed from or to a bridge: ebtables, say."""
    if not bridges:
        return
    for number, place in _BRIDGE_HOOKS.items():
        for hook in _hooks(sock, _NFPROTO_BRIDGE, number):
            if relevant(hook):
                for bridge in bridges:
                    yield Finding(bridge, f"netfilter: {describe(hook)} sees packets of {bridge} at {place}")


def _examine_device(sock: NetlinkSocket, device: str) -> Iterator[Finding]:
    for number, place in _NETDEV_HOOKS.items():
        for hook in _hooks(sock, _NFPROTO_NETDEV, number, device):
            if relevant(hook):
                yield Finding(device, f"netfilter: {describe(hook)} sees packets at {place} of {device}")


def relevant(hook: Hook) -> bool:
    if hook.chain or hook.function.startswith(_JUDGED_ELSEWHERE):
        return False
    return not hook.function.startswith(_HARMLESS)


def describe(hook: Hook) -> str:
    return f"{hook.function or 'a nameless function'}{f' [{hook.module}]' if hook.module else ''}"


def hook_request(family: int, number: int, device: str = "") -> bytes:
    payload = NFGENMSG.pack(family, 0, 0) + attribute(_HOOKNUM, number.to_bytes(4, "big"))
    return payload + (attribute(_DEV, device.encode() + b"\0") if device else b"")


def parse(data: bytes) -> Iterator[Hook]:
    """The hooks in a buffer."""
    for _, row in objects(data, NFGENMSG, subsystem_messages(NFNL_SUBSYS_HOOK)):
        info = dict(attributes(row.get(_CHAIN_INFO, b"")))
        chain = int.from_bytes(info.get(2, b""), "big") == _INFO_TYPE_NFTABLES  # NFNLA_HOOK_INFO_TYPE
        yield Hook(_text(row.get(_FUNCTION, b"")), _text(row.get(_MODULE, b"")), chain)


def _hooks(sock: NetlinkSocket, family: int, number: int, device: str = "") -> list[Hook]:
    try:
        buffers = sock.dump(_HOOK_GET, hook_request(family, number, device))
    except NetlinkError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENODEV):
            return []  # a hook that this kernel lacks, or a device that has just gone
        raise
    return [hook for data in buffers for hook in parse(data)]


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
