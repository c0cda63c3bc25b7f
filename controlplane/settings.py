# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's sysctls and policy rules say about forwarding, beyond what `bpf_fib_lookup` heeds.

Read anew when something is announced and once a second, since most sysctls change without a word.
"""

import fcntl
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.netlink import HEADER, NetlinkSocket, attributes, messages

_SYSCTL = Path("/proc/sys/net")
_SIOCGIFADDR = 0x8915
_RTM_NEWRULE, _RTM_GETRULE = 32, 34
_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, res, res, action, flags
_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN = 13, 14
_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 22, 23, 24

HASH_LAYER_3, HASH_LAYER_4, HASH_INNER = 0, 1, 2
"""fib_multipath_hash_policy: addresses, 5-tuple, inner addresses (and 3: fields of one's own choice)"""
STRICT, LOOSE = 1, 2
"""rp_filter"""


@dataclass(frozen=True, slots=True)
class PortSettings:
    """The defaults are the most careful values, for a device that has just gone."""

    reverse_path: int = STRICT
    """rp_filter in effect; loose becomes strict without an IPv4 address, as in __fib_validate_source()"""
    send_redirects: bool = True
    ipv6_mtu: int = 0
    """net.ipv6.conf.DEV.mtu; 0 without IPv6"""


@dataclass(frozen=True)
class Settings:
    ipv6_forwarding: bool = False
    """net.ipv6.conf.all.forwarding, without which ip6_forward() drops whatever the device's own says"""
    hash_policy4: int = HASH_INNER
    hash_policy6: int = HASH_INNER
    rules6_by_protocol: bool = True
    """an IPv6 rule matches protocol or ports"""
    rules6_suppress: bool = True
    """an IPv6 rule has suppress_prefixlength or suppress_ifgroup, which bpf_fib_lookup ignores for IPv6"""
    ports: Mapping[str, PortSettings] = field(default_factory=dict)

    def of(self, name: str) -> PortSettings:
        return self.ports.get(name, PortSettings())


def read(names: Iterable[str]) -> Settings:
    """Of the caller's network namespace, for devices of these names."""
    all4 = {key: _integer(f"ipv4/conf/all/{key}", 1) for key in ("rp_filter", "send_redirects")}
    rules6 = _rule_attributes(socket.AF_INET6)
    return Settings(
        ipv6_forwarding=bool(_integer("ipv6/conf/all/forwarding", 0)),
        hash_policy4=_integer("ipv4/fib_multipath_hash_policy", HASH_LAYER_3),
        hash_policy6=_integer("ipv6/fib_multipath_hash_policy", HASH_LAYER_3),
        rules6_by_protocol=bool(rules6 & {_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE}),
        rules6_suppress=bool(rules6 & {_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN}),
        ports={name: _port(name, all4) for name in names},
    )


def _port(name: str, all4: Mapping[str, int]) -> PortSettings:
    # IN_DEV_RPFILTER() is the greater of the two, IN_DEV_TX_REDIRECTS() either of them.
    reverse_path = max(all4["rp_filter"], _integer(f"ipv4/conf/{name}/rp_filter", STRICT))
    # The sysctl takes any number; __fib_validate_source() asks for 1, and else only for anything but 0.
    if reverse_path not in (0, STRICT):
        reverse_path = LOOSE if _has_ipv4_address(name) else STRICT
    return PortSettings(
        reverse_path=reverse_path,
        send_redirects=bool(all4["send_redirects"] or _integer(f"ipv4/conf/{name}/send_redirects", 1)),
        ipv6_mtu=_integer(f"ipv6/conf/{name}/mtu", 0),
    )


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


def _rule_attributes(family: int) -> set[int]:
    """FRA_* types that occur in the family's policy rules."""
    request = _FIB_RULE_HDR.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    out = set()
    with NetlinkSocket() as sock:
        for data in sock.dump(_RTM_GETRULE, request):
            for offset, kind, _, length in messages(data):
                if kind == _RTM_NEWRULE:
                    body = data[offset + HEADER.size + _FIB_RULE_HDR.size : offset + length]
                    # The kernel says "suppress nothing" as -1 in every rule.
                    out |= {kind for kind, value in attributes(body) if value != b"\xff\xff\xff\xff"}
    return out
