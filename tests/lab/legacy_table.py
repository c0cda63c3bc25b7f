# SPDX-License-Identifier: GPL-2.0-only
"""Writes legacy iptables tables without the iptables programs: struct ipt_replace and its entries, as
include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h lay them out."""

import ctypes as ct
import os
import socket
import struct
from dataclasses import dataclass

SET_REPLACE = 64
ACCEPT, DROP = -2, -1
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": HOOKS,
    "raw": ("PREROUTING", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}


@dataclass(frozen=True)
class Rule:
    chain: str
    match: bytes = b""
    """struct xt_entry_match with its data, if any"""
    verdict: int = DROP


def match(name: str, data: bytes, revision: int = 0) -> bytes:
    """struct xt_entry_match, padded to eight bytes."""
    data += bytes(-len(data) % 8)
    return struct.pack("=H29sB", 32 + len(data), name.encode(), revision) + data


def state_match() -> bytes:
    """`-m state --state ESTABLISHED`: struct xt_state_info."""
    return match("state", struct.pack("=I", 1 << 1))


def replace_table(
    family: int, table: str, rules: tuple[Rule, ...] = (), policies: dict[str, int] | None = None
) -> None:
    """Put a table of exactly these rules into the thread's network namespace."""
    blob, valid, entry, underflow, number = entries(family, table, rules, policies or {})
    old = ct.create_string_buffer(1 << 20)  # where the kernel puts the old counters
    header = struct.pack(
        "=32sIII5I5II4xQ", table.encode(), valid, number, len(blob), *entry, *underflow,
        old_number(family, table), ct.addressof(old),
    )  # fmt: skip
    header = header[:88] + struct.pack("=Q", ct.addressof(old))
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
        libc = ct.CDLL(None, use_errno=True)
        data = header + blob
        if libc.setsockopt(sock.fileno(), level, SET_REPLACE, data, len(data)) != 0:
            raise OSError(ct.get_errno(), os.strerror(ct.get_errno()))


def old_number(family: int, table: str) -> int:
    """How many entries the table has now; asking makes the kernel create it."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
        libc = ct.CDLL(None, use_errno=True)
        data, size = ct.create_string_buffer(table.encode(), 84), ct.c_uint32(84)
        if libc.getsockopt(sock.fileno(), level, 64, data, ct.byref(size)) != 0:
            raise OSError(ct.get_errno(), os.strerror(ct.get_errno()))
        return struct.unpack_from("=I", data, 76)[0]


def entries(family: int, table: str, rules: tuple[Rule, ...], policies: dict[str, int]):
    """(entries, valid hooks, hook entries, underflows, number of entries)"""
    blob, valid, number = b"", 0, 0
    entry, underflow = [0] * 5, [0] * 5
    for hook, chain in enumerate(HOOKS):
        if chain not in TABLES[table]:
            continue
        valid |= 1 << hook
        entry[hook] = len(blob)
        for rule in rules:
            if rule.chain == chain:
                blob += _entry(family, rule.match, _standard(rule.verdict))
                number += 1
        underflow[hook] = len(blob)
        blob += _entry(family, b"", _standard(policies.get(chain, ACCEPT)))
        number += 1
    error = struct.pack("=H29sB", 64, b"ERROR", 0) + b"ERROR".ljust(32, b"\0")
    return blob + _entry(family, b"", error), valid, entry, underflow, number + 1


def _standard(verdict: int) -> bytes:
    return struct.pack("=H29sBi4x", 40, b"", 0, verdict)


def _entry(family: int, matches: bytes, target: bytes) -> bytes:
    address, size = (84, 112) if family == socket.AF_INET else (136, 168)
    target_offset = size + len(matches)
    head = bytes(address + 4) + struct.pack("=HHI", target_offset, target_offset + len(target), 0)
    return head.ljust(size, b"\0") + matches + target
