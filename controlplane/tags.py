# SPDX-License-Identifier: GPL-2.0-only
"""VLAN tags in one number, as in bpf/tags.h: the outer one in the lower half, the inner one in the upper."""

from controlplane.link import VLAN_8021AD, VLAN_8021Q, Link, Vlan

TAG_VID, TAG_8021AD = 0x0FFF, 0x1000
TAG_LEN = 4
MAX_TAGS = 2


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
    parts = [tag for tag in (tags & 0xFFFF, tags >> 16) if tag]
    return ".".join(f"{'802.1ad ' if tag & TAG_8021AD else ''}{tag & TAG_VID}" for tag in parts)


def text(tags: int) -> list[str]:
    """`802.1ad 200`, `802.1Q 10`: one by one, the outer one first."""
    parts = [tag for tag in (tags & 0xFFFF, tags >> 16) if tag]
    return [f"{'802.1ad' if tag & TAG_8021AD else '802.1Q'} {tag & TAG_VID}" for tag in parts]
