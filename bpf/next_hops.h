/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which next hops carry traffic, for the control plane to keep fresh: the lookup takes a STALE neighbour for
 * ever and refreshes none.
 *
 * Each CPU counts in a small table of its own that has one place for each hash of a next hop. Who is pushed out
 * of it is written through to the map they all share. So a packet costs an index and a comparison; looking up
 * a hash map for each cost a sixth of the whole program. There is no time in it: the control plane sees that a
 * count has grown.
 */
#pragma once
#include "maps.h"

/* Knuth's multiplicative hash. */
static __always_inline u32 recent_place(const struct next_hop *hop)
{
	u64 folded = hop->address[0] ^ hop->address[1] ^ hop->ifindex;

	return (u32)(folded ^ folded >> 32) * 0x9e3779b1U >> (32 - RECENT_NEXT_HOPS_BITS);
}

static __always_inline bool same_next_hop(const struct next_hop *a, const struct next_hop *b)
{
	return a->address[0] == b->address[0] && a->address[1] == b->address[1] && a->ifindex == b->ifindex &&
	       a->family == b->family;
}

/* Into a full map the counts do not go; they are lost, and nothing else. */
static __always_inline void write_through(const struct recent_next_hop *recent)
{
	struct next_hop hop = recent->hop;
	struct traffic traffic = recent->traffic, *total;

	if (!hop.ifindex)
		return; /* the place was empty */
	total = next_hops.lookup(&hop);
	if (!total) {
		next_hops.insert(&hop, &traffic);
		return;
	}
	__sync_fetch_and_add(&total->packets, traffic.packets);
	__sync_fetch_and_add(&total->bytes, traffic.bytes);
}

/*
 * The address is as the lookup left it: the gateway, else the destination; with RFC 8950 the family is AF_INET6.
 * Behind an IPv4 address comes what was zero before the lookup. `fib` must be aligned to eight bytes.
 */
static __always_inline void account_next_hop(const struct bpf_fib_lookup *fib, u32 bytes)
{
	struct next_hop hop = {
		.ifindex = fib->ifindex,
		.family = fib->family,
		.address = { *(const u64 *)&fib->ipv6_dst[0], *(const u64 *)&fib->ipv6_dst[2] },
	};
	struct recent_next_hops *table;
	struct recent_next_hop *recent;
	u32 zero = 0;

	table = recent_next_hops.lookup(&zero);
	if (!table)
		return;
	recent = &table->places[recent_place(&hop)];
	if (!same_next_hop(&recent->hop, &hop)) {
		write_through(recent);
		recent->hop = hop;
		recent->traffic.packets = 0;
		recent->traffic.bytes = 0;
	}
	recent->traffic.packets++;
	recent->traffic.bytes += bytes;
}
