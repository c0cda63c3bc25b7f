# SPDX-License-Identifier: GPL-2.0-only
"""What came out of a router, as bytes that two routers can be compared by, and in words.

Left out of the comparison, since two plain kernels differ in it too:

- the identification of IPv4 packets that the router itself made, with what it does to the header checksum
- the time of day in ICMP timestamp replies
- the padding of frames up to Ethernet's minimum of 60 bytes
- the order of frames
- errors about hosts of a connected network that nobody answers for: they come seconds later
- unless a case asks for them: IPv4 errors about routes (3/0, 3/1, 3/13) and redirects of both families. The kernel limits
  them for each source or next hop by machine-wide settings, so that whether one comes depends on the time
- what the router says on its own time: questions for neighbours (ARP, neighbour solicitation), group membership
  (IGMP, MLD), LACP, reassembly that timed out. The configuration about unresolved neighbours compares which were
  looked for
"""

import socket
from collections import Counter

from tests.conformance.wire import Frames

MIN_FRAME_LEN = 60
ETHERNET, IPV4, IPV6 = 14, 20, 40
TIMESTAMP_REPLY = b"\x0e"
LACP = b"\x88\x09"
"""The EtherType of what a bond says on its own time"""
MLD_TYPES = {130, 131, 132, 143}

Outcome = Counter
"""(port, comparable frame) -> how many."""


def outcome(frames: Frames, own: frozenset[bytes], silent_hosts: bool = False) -> Outcome:
    """`own` are the router's addresses, packed; `silent_hosts` keeps errors about hosts that do not answer."""
    found = Counter()
    for port, frame in frames:
        frame = _unpadded(frame)
        if not _is_spontaneous(frame, silent_hosts):
            found[port, _without_identification(frame, own)] += 1
    return found


def questions(frames: Frames) -> set[tuple[str, bytes]]:
    """Which neighbours were looked for. How often is a matter of time; and a probe to one already known, by unicast,
    is a matter of who keeps it fresh."""
    return {(port, _unpadded(frame)) for port, frame in frames if _is_question(frame) and frame[0] & 1}


def without_limited(result: Outcome, own: frozenset[bytes]) -> Outcome:
    """Without the errors and redirects that the kernel limits, whatever the namespace's settings."""
    return Counter({key: number for key, number in result.items() if not _is_limited(key[1], own)})


def in_words(result: Outcome, own: frozenset[bytes]) -> str:
    """`forwarded to out0`, `icmp 11/0 to in0`, ...; what comes out of nowhere is `nothing`."""
    words = Counter()
    for (port, frame), number in result.items():
        words[f"{_word(frame, own)} to {port}"] += number
    return ", ".join(f"{word} x{number}" if number > 1 else word for word, number in sorted(words.items())) or "nothing"


def _unpadded(frame: bytes) -> bytes:
    if len(frame) > MIN_FRAME_LEN:
        return frame
    if frame[12:14] == b"\x08\x00":
        return frame[: ETHERNET + max(int.from_bytes(frame[16:18]), IPV4)]
    if frame[12:14] == b"\x86\xdd":
        return frame[: ETHERNET + IPV6 + int.from_bytes(frame[18:20])]
    return frame


def _without_identification(frame: bytes, own: frozenset[bytes]) -> bytes:
    """With a checksum of 0 if it was right, and as it is if it was wrong. The same for the time of day in ICMP."""
    if frame[12:14] != b"\x08\x00" or frame[26:30] not in own:
        return frame
    l4 = ETHERNET + 4 * (frame[14] & 15)
    if not _sum_is_right(frame[14:l4]):
        return frame
    frame = frame[:18] + bytes(2) + frame[20:24] + bytes(2) + frame[26:]
    if frame[23] == 1 and frame[l4 : l4 + 1] == TIMESTAMP_REPLY and _sum_is_right(frame[l4:]):
        frame = frame[: l4 + 2] + bytes(2) + frame[l4 + 4 : l4 + 12] + bytes(8) + frame[l4 + 20 :]
    return frame


def _sum_is_right(header: bytes) -> bool:
    header += bytes(len(header) % 2)
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header), 2))
    return total % 0xFFFF == 0


def _is_question(frame: bytes) -> bool:
    if frame[12:14] == b"\x08\x06":
        return frame[20:22] == b"\x00\x01"
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[21] == 255 and frame[54:55] == b"\x87"


def _is_spontaneous(frame: bytes, silent_hosts: bool) -> bool:
    kind = frame[12:14]
    if kind == LACP:
        return True
    if kind not in (b"\x08\x00", b"\x86\xdd", b"\x08\x06"):
        return False
    if _is_question(frame):
        return True
    if kind != b"\x08\x06" and _is_about_a_silent_host(frame):
        return not silent_hosts
    if kind == b"\x08\x00":
        l4 = ETHERNET + 4 * (frame[14] & 15)
        return (frame[23] == 2 and frame[22] == 1) or (frame[23] == 1 and frame[l4 : l4 + 2] == b"\x0b\x01")
    if kind == b"\x86\xdd":
        if frame[20] == 0 and frame[21] == 1 and frame[62:63] and frame[62] in MLD_TYPES:
            return True
        return frame[20] == 58 and frame[54:56] == b"\x03\x01"
    return False


def _is_about_a_silent_host(frame: bytes) -> bool:
    """Of the connected networks, 10.0.0.0/16 and 2001:db8::/48."""
    if frame[12:14] == b"\x08\x00":
        l4 = ETHERNET + 4 * (frame[14] & 15)
        return frame[23] == 1 and frame[l4 : l4 + 2] == b"\x03\x01" and frame[l4 + 24 : l4 + 26] == b"\x0a\x00"
    on_link = (b"\x20\x01\x0d\xb8\x00\x00", b"\xfe\x80\x00\x00\x00\x00")
    return frame[20] == 58 and frame[54:56] == b"\x01\x03" and frame[86:92] in on_link


def _is_limited(frame: bytes, own: frozenset[bytes]) -> bool:
    if frame[12:14] == b"\x08\x00" and frame[26:30] in own and frame[23] == 1:
        l4 = ETHERNET + 4 * (frame[14] & 15)
        return frame[l4] == 5 or frame[l4 : l4 + 2] in (b"\x03\x00", b"\x03\x01", b"\x03\x0d")
    return frame[12:14] == b"\x86\xdd" and frame[22:38] in own and frame[20] == 58 and frame[54:55] == b"\x89"


def _word(frame: bytes, own: frozenset[bytes]) -> str:
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return "arp request" if frame[20:22] == b"\x00\x01" else "arp reply"
    if kind == b"\x08\x00" and frame[26:30] in own:
        l4 = frame[ETHERNET + 4 * (frame[14] & 15) :]
        return _l4_word("icmp", 1, frame[23], l4)
    if kind == b"\x86\xdd" and frame[22:38] in own:
        return _l4_word("icmpv6", 58, frame[20], frame[54:])
    if kind in (b"\x08\x00", b"\x86\xdd"):
        is_fragment = kind == b"\x08\x00" and int.from_bytes(frame[20:22]) & 0x3FFF
        return "fragment forwarded" if is_fragment else "forwarded"
    return "frame"


def _l4_word(icmp_name: str, icmp: int, protocol: int, l4: bytes) -> str:
    if protocol == icmp:
        return f"{icmp_name} {l4[0]}/{l4[1]}"
    return "tcp reset" if protocol == 6 else f"own packet of protocol {protocol}"


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def dump(frame: bytes) -> str:
    """A frame as hexadecimal text, to be pasted into bytes.fromhex()."""
    return frame.hex()
