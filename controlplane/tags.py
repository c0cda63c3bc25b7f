# SPDX-License-Identifier: GPL-2.0-only
"""VLAN tags in one number, as in bpf/tags.h: the outer one in the lower half, the inner one in the upper."""

import struct
from collections.abc import Iterable

from controlplane.link import VLAN_8021AD, VLAN_8021Q, Link, Vlan

TAG_VID, TAG_8021AD = 0x0FFF, 0x1000
TAG_LEN = 4
MAX_TAGS = 2
_PROTOCOLS = {"802.1Q": 0, "802.1ad": TAG_8021AD}


def pushed(outer: int, link: Link) -> int:
    """The tags of a VLAN interface on one that has `outer`; 0 if bpf/tags.h cannot say them."""
    vlan = link.details
    if not isinstance(vlan, Vlan) or not 0 < vlan.vid <= TAG_VID or outer >> 16:
        return 0
    if vlan.protocol not in (VLAN_8021Q, VLAN_8021AD):
        return 0
    tag = vlan.vid | (TAG_8021AD if vlan.protocol == VLAN_8021AD else 0)
    return outer | tag << 16 if outer else tag


def words(tags: int) -> str:
    """`100`, `200.10`, `802.1ad 200.10`: from the outer to the inner; empty for none."""
    return ".".join(f"{'802.1ad ' if tag & TAG_8021AD else ''}{tag & TAG_VID}" for tag in _each(tags))


def text(tags: int) -> list[str]:
    """`802.1ad 200`, `802.1Q 10`: one by one, the outer one first."""
    return [f"{'802.1ad' if tag & TAG_8021AD else '802.1Q'} {tag & TAG_VID}" for tag in _each(tags)]


def octets(tags: int) -> bytes:
    """As they stand in a frame, in front of its EtherType; PCP and DEI are 0."""
    return b"".join(
        struct.pack("!HH", VLAN_8021AD if tag & TAG_8021AD else VLAN_8021Q, tag & TAG_VID) for tag in _each(tags)
    )


def number(tags: Iterable[tuple[str, int]]) -> int:
    """Tags, as (protocol, VLAN id) from the outer to the inner, as in bpf/tags.h; -1 if that cannot say them."""
    out = 0
    found = list(tags)
    if len(found) > MAX_TAGS or any(not 0 < vid <= TAG_VID for _, vid in found):
        return -1
    for place, (protocol, vid) in enumerate(found):
        out |= (vid | _PROTOCOLS[protocol]) << 16 * place
    return out


def _each(tags: int) -> list[int]:
    """The outer one first."""
    return [tag for tag in (tags & 0xFFFF, tags >> 16) if tag]
