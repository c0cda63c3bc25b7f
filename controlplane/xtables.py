# SPDX-License-Identifier: GPL-2.0-only
"""Legacy iptables and ip6tables, the ones without nftables behind them. Their tables have no events.

A table is read only when the kernel lists it: asking for one that is not there would create it. Layouts:
include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h and netfilter/x_tables.h.
"""

import ctypes as ct
import errno
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controlplane.conntrack import tracking_extension
from controlplane.errors import NetlinkError
from controlplane.finding import Finding, and_more

_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_*, IP6T_SO_*
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo: name, hooks, entry and underflow of each, number, size
_ENTRIES_AT = 40  # in struct ipt_get_entries: name, size, and padding to eight bytes
_EXTENSION = struct.Struct("=H29sB")  # struct xt_entry_match and xt_entry_target: size, name, revision
_FORWARD_HOOKS = {0: "PREROUTING", 2: "FORWARD", 4: "POSTROUTING"}  # NF_INET_*
_ACCEPT = -2
"""-NF_ACCEPT - 1: how a standard target says ACCEPT"""
_ATTEMPTS = 5
_SAVE_TIMEOUT_S = 5
_LONGEST_TEXT = 160
_NET = Path("/proc/thread-self/net")
"""Not /proc/net, which shows the namespace of the process's first thread."""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    number: int
    level: int
    names: Path
    entry_size: int
    """sizeof(struct ipt_entry): what comes before the matches"""
    offsets_at: int
    """Where target_offset and next_offset are in it"""


FAMILIES = (
    Family("iptables", socket.AF_INET, socket.IPPROTO_IP, _NET / "ip_tables_names", 112, 88),
    Family("ip6tables", socket.AF_INET6, socket.IPPROTO_IPV6, _NET / "ip6_tables_names", 168, 140),
)


@dataclass(frozen=True, slots=True)
class Info:
    """struct ipt_getinfo."""

    hooks: int
    hook_entry: tuple[int, ...]
    underflow: tuple[int, ...]
    number: int
    size: int

    def has_rules(self) -> bool:
        """Whether a hook of forwarded packets has more than its policy."""
        return any(self.hooks >> hook & 1 and self.hook_entry[hook] != self.underflow[hook] for hook in _FORWARD_HOOKS)


class Xtables:
    """Remembers tables that have rules for forwarded packets, as long as their shape stays the same: their
    thousands of entries are not read twice a second to say the same again."""

    def __init__(self):
        self._known: dict[tuple[str, str], tuple[Info, list[Finding]]] = {}

    def examine(self) -> list[Finding]:
        """Findings in the caller's network namespace. Raises OSError or NetlinkError when the kernel does not tell."""
        out, known = [], self._known
        self._known = {}
        for family in FAMILIES:
            for table in table_names(family):
                state = self._state(family, table, known.get((family.name, table)))
                if state:
                    self._known[family.name, table] = state
                    out += state[1]
        return out

    def _state(
        self, family: Family, table: str, before: tuple[Info, list[Finding]] | None
    ) -> tuple[Info, list[Finding]] | None:
        """None if the table has gone."""
        for attempt in range(_ATTEMPTS):
            info = read_info(family, table)
            if info is None:
                return None
            if before and before[0] == info and info.has_rules():
                return before
            try:
                return info, judge(family, table, info, read_entries(family, table, info))
            except OSError as error:
                # EAGAIN: the table's size has changed since `info` was read
                if error.errno != errno.EAGAIN or attempt == _ATTEMPTS - 1:
                    raise
        return None


def table_names(family: Family) -> list[str]:
    try:
        return family.names.read_text().split()
    except FileNotFoundError:  # the kernel has no such tables, or the module is not loaded
        return []


def read_info(family: Family, table: str) -> Info | None:
    """None if the table has gone."""
    data = ct.create_string_buffer(table.encode(), _INFO.size)
    try:
        _getsockopt(family, _GET_INFO, data)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return parse_info(data.raw)


def parse_info(data: bytes) -> Info:
    _, hooks, *numbers = _INFO.unpack(data)
    return Info(hooks, tuple(numbers[:5]), tuple(numbers[5:10]), numbers[10], numbers[11])


def read_entries(family: Family, table: str, info: Info) -> bytes:
    data = ct.create_string_buffer(_ENTRIES_AT + info.size)
    struct.pack_into("=32sI", data, 0, table.encode(), info.size)
    _getsockopt(family, _GET_ENTRIES, data)
    return data.raw[_ENTRIES_AT:]


def judge(family: Family, table: str, info: Info, entries: bytes) -> list[Finding]:
    """What a table means for forwarded packets. Raises NetlinkError if the entries make no sense."""
    out = []
    for hook, chain in _FORWARD_HOOKS.items():
        if not info.hooks >> hook & 1:
            continue
        rules = sum(1 for _ in walk(family, entries, info.hook_entry[hook], info.underflow[hook]))
        drops = verdict(family, entries, info.underflow[hook]) != _ACCEPT
        if rules or drops:
            what = [first_rule(family, table, chain, rules)] if rules else []
            what += ["policy DROP"] if drops else []
            out.append(Finding(None, f"{family.name}: table {table} chain {chain}: {', '.join(what)}"))
    used = next(
        (f"{kind} {name}" for kind, name in extensions(family, entries) if tracking_extension(kind, name)), None
    )
    if used:
        out.append(Finding(None, f"conntrack: tracks forwarded packets ({family.name}: table {table} uses {used})"))
    return out


def walk(family: Family, entries: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(offset, offset of the target, offset of the next entry) from `start` up to `end`."""
    while start < end:
        if start + family.entry_size > len(entries):
            raise NetlinkError("an entry lies outside the table")
        target, following = struct.unpack_from("=HH", entries, start + family.offsets_at)
        if target < family.entry_size or following < target + _EXTENSION.size or start + following > len(entries):
            raise NetlinkError("an entry has an impossible length")
        yield start, start + target, start + following
        start += following


def verdict(family: Family, entries: bytes, offset: int) -> int:
    """What a chain's last entry, its policy, does."""
    _, target, _ = next(walk(family, entries, offset, offset + 1))
    if target + _EXTENSION.size + 4 > len(entries):
        raise NetlinkError("a chain's policy is cut short")
    return struct.unpack_from("=i", entries, target + _EXTENSION.size)[0]


def extensions(family: Family, entries: bytes) -> Iterator[tuple[str, str]]:
    """("match" or "target", name) of everything that any entry uses."""
    for offset, target, _ in walk(family, entries, 0, len(entries)):
        at = offset + family.entry_size
        while at < target:
            size, name, _ = _EXTENSION.unpack_from(entries, at)
            if size < _EXTENSION.size:
                raise NetlinkError("a match has an impossible length")
            yield "match", _text(name)
            at += size
        yield "target", _text(_EXTENSION.unpack_from(entries, target)[1])


def first_rule(family: Family, table: str, chain: str, rules: int) -> str:
    """The first rule in the words of iptables-legacy-save where that is installed, else how many there are."""
    counted = f"{rules} rule{'s' * (rules != 1)}"
    program = shutil.which(f"{family.name}-legacy-save", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        return counted
    try:
        done = subprocess.run(
            [program, "-t", table],
            capture_output=True, text=True, errors="replace", timeout=_SAVE_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return counted
    prefix = f"-A {chain} "
    words = next((line.removeprefix(prefix) for line in done.stdout.splitlines() if line.startswith(prefix)), "")
    return words[:_LONGEST_TEXT].strip() + and_more(rules - 1) if words else counted


def _getsockopt(family: Family, option: int, data: ct.Array) -> None:
    """getsockopt that hands a request in, which Python's own cannot."""
    with socket.socket(family.number, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        libc = ct.CDLL(None, use_errno=True)
        size = ct.c_uint32(len(data))
        if libc.getsockopt(sock.fileno(), family.level, option, data, ct.byref(size)) != 0:
            number = ct.get_errno()
            raise OSError(number, os.strerror(number))


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
