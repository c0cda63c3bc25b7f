/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VLAN tags in one number: the outer one in the lower half, the inner one in the upper, each a VID and whether
 * it is an 802.1ad tag. 0: none. A tag never has VID 0 here: that would be a priority tag, which the kernel keeps.
 */
#pragma once
#include <linux/if_ether.h>
#include "byteorder.h"

#define TAG_VID 0x0fff
#define TAG_8021AD 0x1000
#define TAG_LEN 4
#define MAX_TAGS 2

/* Behind the MACs, or behind another tag; the EtherType in front of it is the tag's protocol. */
struct vlan_tag {
	__be16 tci;
	__be16 ethertype; /* of what follows */
};

static __always_inline u32 tag_bytes(u32 tags)
{
	return TAG_LEN * (!!tags + !!(tags >> 16));
}

static __always_inline bool is_tag_protocol(__be16 ethertype)
{
	return ethertype == htons(ETH_P_8021Q) || ethertype == htons(ETH_P_8021AD);
}

static __always_inline __be16 tag_protocol(u32 tag)
{
	return tag & TAG_8021AD ? htons(ETH_P_8021AD) : htons(ETH_P_8021Q);
}
