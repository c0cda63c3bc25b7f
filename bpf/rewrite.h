/* SPDX-License-Identifier: GPL-2.0-only */
/* The only code that writes to a packet; called when nothing can go wrong any more. */
#pragma once
#include "maps.h"
#include "parse.h"

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

static __always_inline void rewrite(struct packet *p, const struct adjacency *out)
{
	struct ethhdr *eth = p->data;

	if (is_ipv4(p))
		decrement_ttl(p->ipv4);
	else
		p->ipv6->hop_limit--;
	copy_mac(eth->h_dest, out->dmac);
	copy_mac(eth->h_source, out->smac);
}
