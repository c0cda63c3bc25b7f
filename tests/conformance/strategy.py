# SPDX-License-Identifier: GPL-2.0-only
"""Packets out of choices: mostly valid, and broken in every way that a header can be.

One builder serves two drivers: a plain random source, for very many packets, and hypothesis. The simplest choices give a
valid 64-byte UDP datagram that is forwarded from in0 to out0.
"""

import struct

from hypothesis import strategies

from tests.conformance.choices import Choices
from tests.conformance.configurations import ROUTES, destination
from tests.conformance.outcome import packed
from tests.conformance.topology import MTU, NUMBERS, address, mac

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FRAME_LIMIT = 1514
MIN_FRAME_LEN = 60
VLAN_LEN = 4

INGRESS = ("in0", "in0", "in0", "in0", "in0", "in0", "in1", "out0", "small0", "side0")
PORTS = (1024, 2048, 80, 53, 4444, 2001, 2047, 1, 0, 65535, 500, 179, 33434)
LENGTHS = (22, 0, 1, 3, 4, 7, 8, 12, 20, 26, 40, 100, 300, 548, 1172, 1232, 1240, 1252, 1352, 1372, 1380, 1452, 1472)
HOPS = (64, 255, 2, 1, 0, 3, 128)
PROTOCOLS = (17, 17, 6, 6, 1, 58, 132, 33, 136, 50, 51, 47, 4, 41, 2, 89, 253, 59, 255, 0)
"""Of L4, in either family; what does not belong there, too."""
TOS = (0, 0, 0, 0x10, 0x08, 0x04, 0xB8, 0x03, 0x1C, 0xFF)


def _pools(family: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(sources, destinations), packed; the plain ones more than once."""
    hosts = [address("in0", family, 9)] * 6 + [address("in0", family, h) for h in (2, 3, 77, 254)]
    others = [address(port, family, 9) for port in NUMBERS if port != "in0"]
    routed = [destination(kind, family) for kind in ("out", "ecmp", "blackhole", "less", "small", "side")]
    own = [address(port, family) for port in NUMBERS]
    if family == 4:
        odd = [
            "0.0.0.0",
            "0.0.0.1",
            "10.0.0.255",
            "10.0.0.0",
            "10.0.2.255",
            "10.0.2.0",
            "127.0.0.1",
            "127.255.0.9",
            "224.0.0.1",
            "224.0.0.9",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "100.64.0.1",
            "192.0.2.1",
            "10.99.0.1",
            "10.98.0.0",
            "10.98.0.1",
            "10.98.1.1",
            "10.0.0.77",
            "10.0.60.1",
            "172.16.0.1",
        ]
        many = [f"10.0.0.{host}" for host in range(10, 26)]
    else:
        odd = [
            "::",
            "::1",
            "::10.0.0.9",
            "::ffff:10.0.0.9",
            "fe80::1",
            "fe80::9",
            "ff02::1",
            "ff02::5",
            "ff05::2",
            "ff0e::1",
            "ff01::1",
            "fc00::9",
            "2002:a00:9::1",
            "64:ff9b::a00:9",
            "fec0::1",
            "2001:db8::",
            "2001:db8:0:2::",
            "2001:db8:99::1",
            "2001:db8:0:60::1",
            "ff02::1:ff00:1",
            "3fff::1",
        ]
        many = [f"2001:db8::{host:x}" for host in range(0x10, 0x20)]
    targets = [destination("out", family)] * 4 + [destination(kind, family) for kind in ROUTES] * 2
    targets += [destination("less", family, 7), "10.11.200.9" if family == 4 else "2001:db8:11:9000::9"]
    targets += [destination("rfc8950", 4)] * 2 if family == 4 else []
    sources = [*hosts, *many, *others, *routed, *own, *odd]
    return tuple(map(packed, sources)), tuple(map(packed, [*targets, *others, *own, *odd, address("in0", family, 9)]))


POOLS = {4: _pools(4), 6: _pools(6)}
_GROUP_MACS = tuple(bytes.fromhex(text) for text in ("ffffffffffff", "01005e000001", "333300000001", "0180c200000e"))
_MAC = {port: bytes.fromhex(mac(port).replace(":", "")) for port in NUMBERS}
_HOST_MAC = {port: bytes.fromhex(mac(port, 9).replace(":", "")) for port in NUMBERS}
_OTHER_MAC = bytes.fromhex("02000000eeee")


def build(choices: Choices) -> tuple[str, bytes]:
    """(port that it goes in at, frame)"""
    port = choices.pick(INGRESS)
    family = choices.pick((4, 6))
    datagram = _ipv4(choices) if family == 4 else _ipv6(choices)
    frame = _ethernet(choices, port, 0x0800 if family == 4 else 0x86DD) + datagram
    if choices.chance(12):
        frame = _broken(choices, frame)
    limit = FRAME_LIMIT - 1500 + MTU.get(port, 1500)
    return port, frame[:limit] if len(frame) >= 14 else frame.ljust(14, b"\0")


@strategies.composite
def packets(draw) -> tuple[str, bytes]:
    """As a hypothesis strategy."""
    return build(Choices(lambda number: draw(strategies.integers(0, number - 1))))


def _ethernet(choices: Choices, port: str, ethertype: int) -> bytes:
    target, source, tags = _MAC[port], _HOST_MAC[port], b""
    if choices.chance(12):
        target = choices.pick((_OTHER_MAC, *_GROUP_MACS, _MAC["out0"], bytes(6)))
    if choices.chance(40):
        source = choices.pick((_OTHER_MAC, _MAC[port], bytes(6), *_GROUP_MACS))
    if choices.chance(40):
        for tpid in choices.pick(((0x8100,), (0x88A8,), (0x88A8, 0x8100))):
            tags += struct.pack("!HH", tpid, choices.pick((0, 10, 4095, 0xE000, 1)))
    if choices.chance(60):
        ethertype = choices.pick((0x0800, 0x86DD, 0x0806, 0x8847, 0x88CC, 0x0026, 0x9000))
    return target + source + tags + ethertype.to_bytes(2)


def _addresses(choices: Choices, family: int) -> tuple[bytes, bytes]:
    sources, targets = POOLS[family]
    # Mostly a plain pair: two odd addresses at once hide each other.
    source = choices.pick(sources) if choices.chance(3) else sources[0]
    target = choices.pick(targets)
    return source, target


def _ipv4(choices: Choices) -> bytes:
    source, target = _addresses(choices, 4)
    protocol = choices.pick(PROTOCOLS)
    payload = _payload(choices, protocol, source, target)
    options = choices.pick((b"\x01\x01\x01\x00", b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0\0", b"\x83\x07\x04\x0a\x00\x02\x02\0",
                            b"\x44\x0c\x0d\x00" + bytes(8), b"\xff\xff\xff\xff")) if choices.chance(25) else b""  # fmt: skip
    fragment = 0x4000 if choices.chance(3) else 0
    if choices.chance(12):
        fragment = choices.pick((0x2000, 0x2001, 0x00B9, 0x0001, 0x8000, 0x6000, 0x1FFF, 0x3FFF))
    version, words = 4, 5 + len(options) // 4
    length = 4 * words + len(payload)
    if choices.chance(40):
        version = choices.pick((6, 0, 5, 15))
    if choices.chance(40):
        words = choices.pick((4, 0, 6, 15))
    if choices.chance(25):
        length = max(0, length + choices.pick((-1, 1, -20, 40, -length, 19 - length, 8, -8))) & 0xFFFF
    identification = choices.below(65536)
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | words, choices.pick(TOS), length, identification, fragment,
                         _hops(choices), protocol, 0, source, target) + options  # fmt: skip
    check = _ones_complement(header[: 4 * words] if words > 4 else header)
    if choices.chance(25):
        check = choices.pick((0, 0xFFFF, check ^ 1, (check + 0x100) & 0xFFFF))
    return header[:10] + check.to_bytes(2) + header[12:] + payload


def _ipv6(choices: Choices) -> bytes:
    source, target = _addresses(choices, 6)
    protocol = choices.pick(PROTOCOLS)
    payload = _payload(choices, protocol, source, target)
    first = protocol
    if choices.chance(8):
        for _ in range(1 + choices.below(3)):
            kind = choices.pick((44, 0, 43, 60, 51, 135, 139, 140))
            payload, first = _extension(choices, kind, first) + payload, kind
    length = len(payload)
    if choices.chance(25):
        length = max(0, length + choices.pick((-1, 1, 40, -40, -length, 8, -8, 0xFFFF - length))) & 0xFFFF
    version = choices.pick((4, 0, 7, 15)) if choices.chance(40) else 6
    label = choices.pick((0, 0, 1, 0xFFFFF, 0x12345))
    word = version << 28 | choices.pick(TOS) << 20 | label
    return struct.pack("!IHBB16s16s", word, length, first, _hops(choices), source, target) + payload


def _extension(choices: Choices, kind: int, following: int) -> bytes:
    if kind == 44:
        offset = choices.pick((0, 1, 0, 8, 0x18, 0xFFF9))
        return struct.pack("!BBHI", following, 0, offset, choices.below(65536))
    if kind == 43:
        return (
            bytes([following, 2, choices.pick((0, 2, 3, 4, 253)), choices.pick((0, 1))])
            + bytes(4)
            + packed("2001:db8:10::7")
        )
    option = choices.pick(
        (b"\x01\x04\0\0\0\0", b"\xc2\x04\0\1\0\0", b"\x05\x02\0\0\0\0", b"\xfe\x04abcd", b"\x3e\x04abcd")
    )
    return bytes([following, 0]) + option


def _hops(choices: Choices) -> int:
    return choices.pick(HOPS) if choices.chance(6) else 64


def _payload(choices: Choices, protocol: int, source: bytes, target: bytes) -> bytes:
    length = choices.pick(LENGTHS)
    if choices.chance(3):
        length = choices.below(1460)
    body = choices.octets(length)
    sport, dport = choices.pick(PORTS), choices.pick(PORTS)
    if choices.chance(3):
        sport = choices.below(65536)
    wrong = choices.pick((1, 0xFFFF)) if choices.chance(12) else 0
    if protocol in (UDP, 136):
        size = len(body) + 8
        if choices.chance(25):
            size = choices.pick((0, 7, 8, size + 1, 0xFFFF))
        return _summed(struct.pack("!HHHH", sport, dport, size & 0xFFFF, 0) + body, 6, protocol, source, target, wrong)
    if protocol == TCP:
        flags = choices.pick((0x18, 0x02, 0x12, 0x11, 0x04, 0x10, 0x00, 0xFF))
        header = struct.pack("!HHIIBBHHH", sport, dport, choices.below(65536), 7, 0x50, flags, 1000, 0, 0)
        return _summed(header + body, 16, protocol, source, target, wrong)
    if protocol in (132, 33):
        return struct.pack("!HH", sport, dport) + bytes(8) + body
    if protocol == ICMP:
        kind, code = choices.pick(((8, 0), (0, 0), (3, 1), (3, 3), (3, 4), (11, 0), (5, 1), (12, 0), (13, 0), (40, 0)))
        message = bytes([kind, code, 0, 0]) + struct.pack("!HH", 1, choices.pick((1, 1300, 576)))
        message += _quoted4(choices, source, sport, dport) if kind in (3, 5, 11, 12) else body
        return _summed(message, 2, None, source, target, wrong)
    if protocol == ICMPV6:
        kind, code = choices.pick(
            ((128, 0), (129, 0), (1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (137, 0), (133, 0), (200, 0))
        )
        message = bytes([kind, code, 0, 0]) + struct.pack("!HH", 0, choices.pick((1, 1300, 1280)))
        message += _quoted6(choices, source, sport, dport) if kind < 128 else body
        return _summed(message, 2, protocol, source, target, wrong)
    if protocol == 50:
        return struct.pack("!II", choices.pick((0x1000, 0x04000800, 0x115C0001)), 1) + body
    return body


def _quoted4(choices: Choices, source: bytes, sport: int, dport: int) -> bytes:
    """The packet that an ICMP error is about: from where the error comes back to."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 60, 1, 0, 60, UDP, 0, choices.pick(POOLS[4][1]), source)
    return header[:10] + _ones_complement(header).to_bytes(2) + header[12:] + struct.pack("!HHHH", dport, sport, 40, 0)


def _quoted6(choices: Choices, source: bytes, sport: int, dport: int) -> bytes:
    target = choices.pick(POOLS[6][1])
    return struct.pack("!IHBB16s16sHHHH", 6 << 28, 40, UDP, 60, target, source, dport, sport, 40, 0) + bytes(32)


def _broken(choices: Choices, frame: bytes) -> bytes:
    way = choices.below(5)
    if way == 0:  # a trailer, or padding
        return frame + bytes(choices.pick((1, 4, 18, 46)))
    if way == 1:
        return frame.ljust(MIN_FRAME_LEN, choices.pick((b"\0", b"\xaa")))
    if way == 2:
        return frame[: 14 + choices.below(max(1, len(frame) - 14))]
    place = min(len(frame) - 1, 12 + choices.below(80))
    if way == 3:
        return frame[:place] + bytes([frame[place] ^ 1 << choices.below(8)]) + frame[place + 1 :]
    return frame[:place] + bytes([choices.below(256)]) + frame[place + 1 :]


def _summed(message: bytes, at: int, protocol: int | None, source: bytes, target: bytes, wrong: int) -> bytes:
    """With its checksum at `at`, over a pseudo header unless `protocol` is None; off by `wrong`."""
    pseudo = b"" if protocol is None else source + target + struct.pack("!HH", protocol, len(message) & 0xFFFF)
    check = _ones_complement(pseudo + message) or 0xFFFF
    return message[:at] + ((check + wrong) & 0xFFFF).to_bytes(2) + message[at + 2 :]


def _ones_complement(data: bytes) -> int:
    # A number is congruent, modulo 0xffff, to the sum of its 16-bit digits.
    total = int.from_bytes(data + bytes(len(data) % 2)) % 0xFFFF
    return 0xFFFF - total
