# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's sysctls and policy rules say about forwarding, beyond what `bpf_fib_lookup` heeds.

Read anew when something is announced and twice a second, since most sysctls change without a word.
"""

import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.devconf import DeviceConf, DeviceConfs
from controlplane.errors import NetlinkError
from controlplane.netlink import NetlinkSocket, objects

_SYSCTL = Path("/proc/sys/net")
_SIOCGIFADDR = 0x8915
_RTM_NEWRULE, _RTM_GETRULE = 32, 34
_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, res, res, action, flags
_RTM_NEWNEXTHOP, _RTM_GETNEXTHOP, _NHA_GROUP = 104, 106, 2
_NHMSG = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN = 13, 14
_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 22, 23, 24

HASH_LAYER_3, HASH_LAYER_4, HASH_INNER = 0, 1, 2
"""fib_multipath_hash_policy: addresses, 5-tuple, inner addresses (and 3: fields of one's own choice)"""
STRICT, LOOSE = 1, 2
"""rp_filter"""

SELECTORS = ("source", "tos", "ingress", "protocol", "ports", "label")
_SELECTORS_OF = {
    "source": ("source",), "tos": ("tos",), 3: ("ingress",), 19: ("ingress",), _FRA_IP_PROTO: ("protocol",),
    _FRA_SPORT_RANGE: ("ports", "protocol"), _FRA_DPORT_RANGE: ("ports", "protocol"),
}  # fmt: skip
"""FRA_* of include/uapi/linux/fib_rules.h -> what it looks at: interface name, l3mdev, protocol, ports"""
_SELECT_NOTHING = {1, 2, 4, 6, 10, 11, 13, 14, 15, 16, 17, 18, 20, 21}
"""Destination, source (the header has its length), action, mark, suppressors, table, output device, user, origin"""


@dataclass(frozen=True, slots=True)
class PortSettings:
    """The defaults are the most careful values, for a device that has just gone."""

    reverse_path: int = STRICT
    """rp_filter in effect; loose becomes strict without an IPv4 address, as in __fib_validate_source()"""
    send_redirects: bool = True
    ipv6_mtu: int = 0
    """net.ipv6.conf.DEV.mtu; 0 without IPv6"""
    forwarding: bool = False
    """of both families"""


@dataclass(frozen=True)
class Settings:
    ipv6_forwarding: bool = False
    """net.ipv6.conf.all.forwarding, without which ip6_forward() drops whatever the device's own says"""
    hash_policy4: int = HASH_INNER
    hash_policy6: int = HASH_INNER
    hash_seed: int = 0
    """net.ipv4.fib_multipath_hash_seed, of both families; 0 on kernels without (6.11)"""
    rules6_by_protocol: bool = True
    """an IPv6 rule matches protocol or ports"""
    rule_selectors: frozenset[str] = frozenset(SELECTORS)
    """what of a packet the rules of either family look at, besides its destination"""
    nexthop_groups: bool = True
    use_neighbours: bool = True
    """net.ipv4.fib_multipath_use_neigh: which next hop is chosen depends on who answers"""
    rules6_suppress: bool = True
    """an IPv6 rule has suppress_prefixlength or suppress_ifgroup, which bpf_fib_lookup ignores for IPv6"""
    ports: Mapping[str, PortSettings] = field(default_factory=dict)
    """of every interface, by name"""

    def of(self, name: str) -> PortSettings:
        return self.ports.get(name, PortSettings())


class Reader:
    """Reads again and again; one for each network namespace."""

    def __init__(self):
        self._devices = DeviceConfs()

    def read(self, names: Iterable[str]) -> Settings:
        """Of the caller's network namespace, for devices of these names."""
        try:
            devices = self._devices.read()
        except NetlinkError:
            devices = {}
        return read(names, devices)


def read(names: Iterable[str], devices: Mapping[str, DeviceConf]) -> Settings:
    """For devices of these names; `devices`: what the kernel says of each."""
    all4 = {key: _integer(f"ipv4/conf/all/{key}", 1) for key in ("rp_filter", "send_redirects")}
    rules4, rules6 = (_rule_attributes(family) for family in (socket.AF_INET, socket.AF_INET6))
    return Settings(
        ipv6_forwarding=bool(_integer("ipv6/conf/all/forwarding", 0)),
        hash_policy4=_integer("ipv4/fib_multipath_hash_policy", HASH_LAYER_3),
        hash_policy6=_integer("ipv6/fib_multipath_hash_policy", HASH_LAYER_3),
        hash_seed=_integer("ipv4/fib_multipath_hash_seed", 0),
        rules6_by_protocol=bool(rules6 & {_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE}),
        rule_selectors=frozenset(selector for kind in rules4 | rules6 for selector in _selectors(kind)),
        nexthop_groups=_has_nexthop_groups(),
        use_neighbours=bool(_integer("ipv4/fib_multipath_use_neigh", 0)),
        rules6_suppress=bool(rules6 & {_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN}),
        ports={name: _port(name, all4, devices.get(name, _NOTHING_SAID)) for name in names},
    )


def _port(name: str, all4: Mapping[str, int], own: DeviceConf) -> PortSettings:
    # IN_DEV_RPFILTER() is the greater of the two, IN_DEV_TX_REDIRECTS() either of them.
    reverse_path = max(all4["rp_filter"], STRICT if own.rp_filter is None else own.rp_filter)
    # The sysctl takes any number; __fib_validate_source() asks for 1, and else only for anything but 0.
    if reverse_path not in (0, STRICT):
        reverse_path = LOOSE if _has_ipv4_address(name) else STRICT
    return PortSettings(
        reverse_path=reverse_path,
        send_redirects=bool(all4["send_redirects"] or own.send_redirects is None or own.send_redirects),
        ipv6_mtu=own.mtu6 or 0,
        forwarding=bool(own.forwarding4 and own.forwarding6),
    )


_NOTHING_SAID = DeviceConf()


def _integer(name: str, default: int) -> int:
    try:
        return int((_SYSCTL / name).read_text())
    except (OSError, ValueError):
        return default


def _has_ipv4_address(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()))
        except OSError:
            return False
    return True


def _rule_attributes(family: int) -> set[int | str]:
    """What occurs in the family's policy rules: FRA_* types, and `source` and `tos` of the header."""
    request = _FIB_RULE_HDR.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    out: set[int | str] = set()
    for (_, _, source, tos, *_), row in _dump(_RTM_GETRULE, request, _FIB_RULE_HDR, _RTM_NEWRULE):
        out |= {name for name, value in (("source", source), ("tos", tos)) if value}
        # The kernel says "suppress nothing" as -1 in every rule.
        out |= {kind for kind, value in row.items() if value != b"\xff\xff\xff\xff"}
    return out


def _selectors(kind: int | str) -> tuple[str, ...]:
    """What kind of rule looks at what; everything, if this program does not know it."""
    return () if kind in _SELECT_NOTHING else _SELECTORS_OF.get(kind, SELECTORS)


def _has_nexthop_groups() -> bool:
    """False on kernels without nexthop objects (5.3)."""
    try:
        nexthops = _dump(_RTM_GETNEXTHOP, _NHMSG.pack(0, 0, 0, 0, 0), _NHMSG, _RTM_NEWNEXTHOP)
        return any(_NHA_GROUP in row for _, row in nexthops)
    except NetlinkError:
        return False


def _dump(request: int, payload: bytes, header: struct.Struct, wanted: int) -> Iterator[tuple[tuple, dict[int, bytes]]]:
    """(fields of the header, attributes) of each message of a dump."""
    with NetlinkSocket() as sock:
        for data in sock.dump(request, payload):
            yield from objects(data, header, {wanted})
