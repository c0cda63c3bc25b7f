# SPDX-License-Identifier: GPL-2.0-only
"""A program is tried before it is put into the links: what the one that runs there answers to some frames, the new one must
answer too, on the real maps and ports. The frames are counted like others.

Where the two may differ: what is passed to the kernel is never wrong, and the old program may go by what an earlier daemon
knew, so an ordinary frame may be passed by the one and redirected by the other. But a new one that redirects none of those
that the old one redirects, though all ports are as they should be, is not taken. Never may the new one drop, abort or
transmit what the old one did not, change what it passes, forward what no router forwards, or write other bytes.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

ABORTED, DROP, PASS, TX, REDIRECT = range(5)
_NAMES = ("aborted", "drop", "pass", "transmit", "redirect")
FAR_MAC = bytes.fromhex("020000000099")
_UDP_BYTES = 26
_MOST_HOPS = 4

Run = Callable[[bytes, int], tuple[int, bytes]]
"""(frame, ifindex) -> (XDP action, frame after)"""


@dataclass(frozen=True, slots=True)
class Frame:
    what: str
    data: bytes
    may_go: bool
    """a router forwards it if it can"""


def frames(mac: bytes, source: str, destinations: Iterable[tuple[int, bytes]]) -> list[Frame]:
    """For one port. `mac`: its own; `source`: an IPv4 address to come from; `destinations`: (family, address) of next hops."""
    here = socket.inet_aton(source)
    somewhere = socket.inet_aton("192.0.0.8")  # the dummy address of RFC 7600, to which nobody has a route of its own
    out = [
        Frame("ARP", _ethernet(b"\xff" * 6, 0x0806) + bytes(46), False),
        Frame("TTL 1", _ipv4(mac, here, somewhere, ttl=1), False),
        Frame("bad checksum", _ipv4(mac, here, somewhere, spoil=1), False),
        Frame("another's MAC", _ipv4(FAR_MAC, here, somewhere), False),
        Frame("no such route", _ipv4(mac, here, somewhere), True),
    ]
    for family, address in list(destinations)[:_MOST_HOPS]:
        if family == socket.AF_INET:
            out.append(Frame(f"to {socket.inet_ntop(family, address)}", _ipv4(mac, here, address), True))
        else:
            there = address[:15] + bytes([address[15] ^ 0x55])
            out.append(Frame(f"to {socket.inet_ntop(family, address)}", _ipv6(mac, there, address), True))
    return out


def compare(tried: Mapping[int, list[Frame]], old: Mapping[int, Run], new: Run, settled: bool) -> str:
    """Why the new program must not be taken; empty if it may. `tried`: ifindex -> frames; `old`: ifindex -> the program in
    that link; `settled`: all ports are active."""
    redirected, kept = 0, 0
    for ifindex, sent in tried.items():
        for frame in sent:
            before, after = old[ifindex](frame.data, ifindex), new(frame.data, ifindex)
            redirected += before[0] == REDIRECT
            kept += before[0] == after[0] == REDIRECT
            if before == after or before[0] == ABORTED:
                continue
            ordinary = frame.may_go and {before[0], after[0]} == {PASS, REDIRECT}
            if ordinary and (after[0] == REDIRECT or after[1] == frame.data):
                continue
            where = f"test packet ({frame.what}) on device {ifindex}"
            if before[0] != after[0]:
                return f"{where}: the running program answers {_name(before[0])}, the new one {_name(after[0])}"
            return f"{where}: the two answer {_name(after[0])} with different bytes"
    if settled and redirected and not kept:
        return f"the new program passes all of {redirected} test packets that the running one redirects"
    return ""


def _name(action: int) -> str:
    return _NAMES[action] if action < len(_NAMES) else str(action)


def _ethernet(destination: bytes, kind: int) -> bytes:
    return destination + FAR_MAC + struct.pack("!H", kind)


def _ipv4(mac: bytes, source: bytes, destination: bytes, ttl: int = 64, spoil: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + _UDP_BYTES, 0, 0, ttl, 17, 0, source, destination)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack("!H", (checksum + spoil) & 0xFFFF) + head[12:]
    return _ethernet(mac, 0x0800) + head + _udp()


def _ipv6(mac: bytes, source: bytes, destination: bytes) -> bytes:
    head = struct.pack("!IHBB16s16s", 6 << 28, _UDP_BYTES, 17, 64, source, destination)
    return _ethernet(mac, 0x86DD) + head + _udp()


def _udp() -> bytes:
    return struct.pack("!HHHH", 1024, 9, _UDP_BYTES, 0) + bytes(_UDP_BYTES - 8)
