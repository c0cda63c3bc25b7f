# SPDX-License-Identifier: GPL-2.0-only
"""The nftables ruleset of a network namespace, read from netlink as far as the guard wants to know it.

Layouts: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from controlplane.conntrack import TRACKING_OBJECTS, tracking_expression
from controlplane.errors import NetlinkError
from controlplane.netlink import HEADER, NetlinkSocket, attributes, objects

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10
NFGENMSG = struct.Struct("=BBH")  # family, version, resource id
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_FORWARD_HOOKS = {0, 2, 4}  # NF_INET_PRE_ROUTING, FORWARD, POST_ROUTING
_INET_INGRESS = 5
_BRIDGE_HOOKS = {0, 1, 3, 4, 5}
"""NF_BR_PRE_ROUTING, LOCAL_IN, LOCAL_OUT, POST_ROUTING, BROUTING: what a packet meets that is routed from or to a bridge"""
_FAMILY_INET, _FAMILY_NETDEV, _FAMILY_BRIDGE = 1, 5, 7
_IP_FAMILIES = {1, 2, 10}
_NETDEV_HOOKS = {0: "ingress", 1: "egress"}
_NFT_TABLE_DORMANT = 1
_NF_DROP = 0

_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETGEN, _GETOBJ, _GETFLOWTABLE = 1, 4, 7, 10, 16, 19, 23
_READ_FOR_THE_RECORD = 200
"""Rules that are searched for a tracker when the answer changes nothing."""


@dataclass(frozen=True, slots=True)
class BaseChain:
    family: int
    table: str
    name: str
    hook: int
    drops: bool
    """Policy drop: it has an effect without any rule"""
    devices: tuple[str, ...] = ()
    """Of an ingress or egress hook; a name that ends with `*` stands for all that begin so"""

    @property
    def of_devices(self) -> bool:
        """Hooked into single devices, not into the way of all packets"""
        return self.family == _FAMILY_NETDEV or self.hook == _INET_INGRESS

    @property
    def of_bridges(self) -> bool:
        return self.family == _FAMILY_BRIDGE

    @property
    def place(self) -> str:
        """Of a chain of devices: ingress or egress"""
        return _NETDEV_HOOKS.get(self.hook, "ingress") if self.family == _FAMILY_NETDEV else "ingress"

    @property
    def label(self) -> str:
        return f"chain {FAMILIES.get(self.family, self.family)} {self.table} {self.name}"


@dataclass(slots=True)
class Rules:
    """The rules of one chain."""

    first_handle: int
    number: int = 1


@dataclass
class Ruleset:
    """What is in the tables of one network namespace, as far as the guard wants to know."""

    dormant: set[tuple[int, str]] = field(default_factory=set)
    chains: list[BaseChain] = field(default_factory=list)
    rules: dict[tuple[int, str, str], Rules] = field(default_factory=dict)
    flowtables: list[BaseChain] = field(default_factory=list)
    tracker: str = ""
    """The first thing found that switches connection tracking on, wherever it is"""

    def counts(self, chain: BaseChain) -> bool:
        """Whether a chain can do anything to a packet."""
        has_rules = (chain.family, chain.table, chain.name) in self.rules
        return (chain.family, chain.table) not in self.dormant and (has_rules or chain.drops)


def subsystem_messages(subsystem: int) -> range:
    """The message types of one subsystem of nfnetlink."""
    return range(subsystem << 8, subsystem + 1 << 8)


def kernel_without(error: Exception) -> bool:
    """Whether an error means that this kernel has no such netlink protocol or nfnetlink subsystem (the answer
    then is EINVAL: nfnetlink_rcv_msg in net/netfilter/nfnetlink.c)."""
    if isinstance(error, NetlinkError):
        return error.errno == errno.EINVAL
    return isinstance(error, OSError) and error.errno == errno.EPROTONOSUPPORT


def generation(sock: NetlinkSocket) -> int:
    """The number that each committed change of the ruleset raises."""
    kind = NFNL_SUBSYS_NFTABLES << 8 | _GETGEN
    answer = sock.request(kind, NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))[0]
    (value,) = struct.unpack(">I", dict(attributes(answer[HEADER.size + NFGENMSG.size :]))[1])
    return value


def read(sock: NetlinkSocket) -> Ruleset:
    """The whole ruleset, in one dump for each kind of object."""
    out = Ruleset()
    tables = list(_dump(sock, _GETTABLE))
    if not tables:
        return out
    for family, table in tables:
        if _number(table.get(2)) & _NFT_TABLE_DORMANT:
            out.dormant.add((family, _text(table[1])))
    for family, chain in _dump(sock, _GETCHAIN):
        if parsed := base_chain(family, chain):
            out.chains.append(parsed)
    _read_rules(sock, out)
    for family, row in _dump(sock, _GETSET):
        # NFTA_SET_EXPR, and NFTA_SET_EXPRESSIONS as a list of them: `ct count` in a dynamic set
        names = [expression_name(row[17])] if 17 in row else []
        names += [expression_name(value) for _, value in attributes(row.get(18, b""))]
        _note_tracker(out, names, f"set {FAMILIES.get(family, family)} {_text(row[1])} {_text(row[2])}")
    for family, row in _dump(sock, _GETOBJ):
        if (kind := TRACKING_OBJECTS.get(_number(row.get(3)))) and not out.tracker:
            where = f"{FAMILIES.get(family, family)} {_text(row[1])} {_text(row[2])}"
            out.tracker = f"nftables: {kind} {where}"
    out.flowtables = [parsed for family, row in _dump(sock, _GETFLOWTABLE) if (parsed := flowtable(family, row))]
    return out


def _read_rules(sock: NetlinkSocket, out: Ruleset) -> None:
    unread = []
    for family, row in _dump(sock, _GETRULE):
        key = (family, _text(row[1]), _text(row[2]))
        if known := out.rules.get(key):
            known.number += 1
        else:
            out.rules[key] = Rules(int.from_bytes(row[3], "big"))
        unread.append((key, row.get(4, b"")))
    if any(not chain.of_devices and not chain.of_bridges and out.counts(chain) for chain in out.chains):
        del unread[_READ_FOR_THE_RECORD:]  # every port is guarded anyway, so who tracks is a remark
    for (family, table, chain), expressions in unread:
        names = [name for _, value in attributes(expressions) for name in expression_names(value)]
        _note_tracker(out, names, f"chain {FAMILIES.get(family, family)} {table} {chain}")
        if out.tracker:
            return


def _note_tracker(out: Ruleset, names: list[str], where: str) -> None:
    used = next((name for name in names if tracking_expression(name)), "")
    if used and not out.tracker:
        out.tracker = f"nftables: {where} uses {used}"


def expression_names(expression: bytes) -> Iterator[str]:
    """The name of an expression and of those inside it; a match or target of iptables-nft as `match NAME`."""
    fields = dict(attributes(expression))
    name = _text(fields.get(1, b""))
    data = dict(attributes(fields.get(2, b""))) if name in ("match", "target", "dynset") else {}
    if name == "dynset":  # NFTA_DYNSET_EXPR, NFTA_DYNSET_EXPRESSIONS
        yield from expression_names(data[7]) if 7 in data else ()
        for _, inner in attributes(data.get(10, b"")):
            yield from expression_names(inner)
    elif name in ("match", "target"):
        yield f"{name} {_text(data.get(1, b''))}"
    else:
        yield name


def expression_name(expression: bytes) -> str:
    return _text(dict(attributes(expression)).get(1, b""))


def base_chain(family: int, row: dict[int, bytes]) -> BaseChain | None:
    """A chain that forwarded packets come through; None for every other one."""
    if 4 not in row:  # NFTA_CHAIN_HOOK: only base chains have it
        return None
    hook = dict(attributes(row[4]))
    number = _number(hook.get(1))
    if family != _FAMILY_NETDEV and number not in _known_hooks(family):
        return None
    drops = 5 in row and _number(row[5]) == _NF_DROP
    return BaseChain(family, _text(row[1]), _text(row[3]), number, drops, hook_devices(hook))


def flowtable(family: int, row: dict[int, bytes]) -> BaseChain | None:
    """A flowtable as the ingress chain that it amounts to."""
    # NFTA_FLOWTABLE_HOOK holds NFTA_FLOWTABLE_HOOK_DEVS as its third, laid out as NFTA_HOOK_DEVS.
    hook = dict(attributes(row.get(3, b"")))
    return BaseChain(_FAMILY_NETDEV, _text(row[1]), _text(row[2]), 0, False, _device_list(hook.get(3, b"")))


def hook_devices(hook: dict[int, bytes]) -> tuple[str, ...]:
    """NFTA_HOOK_DEV and NFTA_HOOK_DEVS."""
    one = (_text(hook[3]),) if 3 in hook else ()
    return one or _device_list(hook.get(4, b""))


def _device_list(value: bytes) -> tuple[str, ...]:
    """NFTA_DEVICE_NAME is a whole name; anything else (a prefix, later kernels) begins one."""
    out = []
    for kind, name in attributes(value):
        whole = kind == 1 and name.endswith(b"\0")
        out.append(_text(name) if whole else _text(name).removesuffix("*") + "*")
    return tuple(out)


def _known_hooks(family: int) -> set[int]:
    if family == _FAMILY_INET:
        return {*_FORWARD_HOOKS, _INET_INGRESS}
    if family == _FAMILY_BRIDGE:
        return _BRIDGE_HOOKS
    return _FORWARD_HOOKS if family in _IP_FAMILIES else set()


def _dump(sock: NetlinkSocket, command: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """(family, attributes) of each object of one kind, of every family."""
    for data in sock.dump(NFNL_SUBSYS_NFTABLES << 8 | command, NFGENMSG.pack(socket.AF_UNSPEC, 0, 0)):
        for (family, _, _), row in objects(data, NFGENMSG, subsystem_messages(NFNL_SUBSYS_NFTABLES)):
            yield family, row


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")
