/* SPDX-License-Identifier: GPL-2.0-only */
/* The Ethernet header and its tags. As in parse.h: FORWARD, or the verdict that ends the packet's way here. */
#pragma once
#include <linux/if_ether.h>
#include "byteorder.h"
#include "features.h"
#include "packet.h"
#include "tags.h"
#include "verdict.h"

/* __builtin_memcmp() would become a call to a function that does not exist in BPF. */
static __always_inline bool same_mac(const u8 *a, const u8 *b)
{
	return *(const u32 *)a == *(const u32 *)b && *(const u16 *)(a + 4) == *(const u16 *)(b + 4);
}

/* One tag of up to MAX_TAGS. */
static __always_inline enum verdict parse_tag(struct packet *p, u32 shift)
{
	struct vlan_tag *tag = p->data + p->l2_len;
	u32 vid;

	if ((void *)(tag + 1) > p->data_end)
		return PASS_MALFORMED;
	vid = ntohs(tag->tci) & TAG_VID;
	if (!vid)
		return PASS_VLAN_TAG;
	if (p->ethertype == htons(ETH_P_8021AD))
		vid |= TAG_8021AD;
	p->tags |= vid << shift;
	p->ethertype = tag->ethertype;
	p->l2_len += TAG_LEN;
	return FORWARD;
}

static __always_inline enum verdict parse_ethernet(struct packet *p)
{
	struct ethhdr *eth = p->data;
	enum verdict verdict;

	if ((void *)(eth + 1) > p->data_end)
		return PASS_MALFORMED;
	p->ethertype = eth->h_proto;
	p->l2_len = sizeof(*eth);
	if (!is_tag_protocol(p->ethertype))
		return FORWARD;
	if (!FEATURE_VLAN)
		return PASS_VLAN_TAG;
	verdict = parse_tag(p, 0);
	if (verdict == FORWARD && is_tag_protocol(p->ethertype))
		verdict = parse_tag(p, 16);
	if (verdict == FORWARD && is_tag_protocol(p->ethertype))
		verdict = PASS_VLAN_TAG;
	return verdict;
}

/* Whether the frame is for the interface's own MAC, and for IP. */
static __always_inline enum verdict check_ethernet(struct packet *p, const u8 own_mac[6])
{
	const struct ethhdr *eth = p->data;
	u32 version;

	/* Constants that the compiler does not see through, so that the verifier knows on each path which it is. */
	if (p->ethertype == htons(ETH_P_IP))
		asm volatile("%0 = 4" : "=r"(version));
	else if (p->ethertype == htons(ETH_P_IPV6))
		asm volatile("%0 = 6" : "=r"(version));
	else
		return PASS_NOT_IP;
	p->version = version;
	if (eth->h_dest[0] & 1)
		return PASS_MULTICAST;
	/* Promiscuous mode brings frames for others; the kernel drops them as PACKET_OTHERHOST. */
	if (!same_mac(eth->h_dest, own_mac))
		return PASS_NOT_OURS;
	return FORWARD;
}
