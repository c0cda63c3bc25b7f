/* SPDX-License-Identifier: GPL-2.0-only */
/* The only code that writes to a packet; called when nothing but a missing room for tags can go wrong any more. */
#pragma once
#include "maps.h"
#include "packet.h"
#include "tags.h"

/* RFC 1141: TTL is the high byte of its 16-bit word, so one less adds 0x0100 to the sum. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	u32 check = ip->check;

	check += htons(0x0100);
	ip->check = (u16)(check + (check >= 0xffff));
	ip->ttl--;
}

/* By halves: the compiler would go byte by byte in a packet, and dmac lies on a two-byte boundary. */
static __always_inline void copy_mac(u8 *to, const u8 *from)
{
	for (int i = 0; i < 3; i++)
		((u16 *)to)[i] = ((const u16 *)from)[i];
}

/* By so much a frame grows when it gets these tags instead of its own. */
static __always_inline int growth(const struct packet *p, const struct adjacency *out)
{
	return FEATURE_VLAN ? (int)(sizeof(struct ethhdr) + tag_bytes(out->tags)) - (int)header_len(p) : 0;
}

/* Makes room at the head for the new tags, or takes it away, and finds the packet again. False: as it was. */
static __always_inline bool make_room(struct packet *p, int growth)
{
	if (bpf_xdp_adjust_head(p->ctx, -growth))
		return false;
	p->data = (void *)(long)p->ctx->data;
	p->data_end = (void *)(long)p->ctx->data_end;
	return true;
}

/* Whole tags: PCP and DEI are 0, as vlan_dev_hard_header() has them without an egress-qos-map. */
static __always_inline void write_tags(struct ethhdr *eth, u32 tags, __be16 ethertype)
{
	struct vlan_tag *tag = (void *)(eth + 1);

	if (!tags) {
		eth->h_proto = ethertype;
		return;
	}
	eth->h_proto = tag_protocol(tags);
	tag->tci = htons(tags & TAG_VID);
	tags >>= 16;
	if (tags) {
		tag->ethertype = tag_protocol(tags);
		tag++;
		tag->tci = htons(tags & TAG_VID);
	}
	tag->ethertype = ethertype;
}

/* False, and the packet untouched, when there is no room at its head. */
static __always_inline bool rewrite(struct packet *p, const struct adjacency *out)
{
	u32 l2_len = sizeof(struct ethhdr) + (FEATURE_VLAN ? tag_bytes(out->tags) : 0);
	int more = growth(p, out);
	struct ethhdr *eth;
	void *header;

	if (FEATURE_VLAN && more && !make_room(p, more))
		return false;
	eth = p->data;
	header = is_ipv4(p) ? (void *)p->ipv4 : (void *)p->ipv6;
	if (FEATURE_VLAN) {
		header = p->data + l2_len;
		/* For the verifier: parse.h has seen all of it. */
		if (header + (is_ipv4(p) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) > p->data_end) {
			make_room(p, -more);
			return false;
		}
		write_tags(eth, out->tags, p->ethertype);
	}
	if (is_ipv4(p))
		decrement_ttl(header);
	else
		((struct ipv6hdr *)header)->hop_limit--;
	copy_mac(eth->h_dest, out->dmac);
	copy_mac(eth->h_source, out->smac);
	return true;
}
