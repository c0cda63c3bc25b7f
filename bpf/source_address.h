/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel asks about an IPv4 source before it forwards: fib_validate_source() in
 * net/ipv4/fib_frontend.c. Whoever does not pass for certain goes to the kernel, which judges and counts.
 */
#pragma once
#include "fib.h"
#include "maps.h"
#include "packet.h"

/* Fibonacci hashing to 16 bits; controlplane/note_maps.py does the same. */
static __always_inline u32 own_source_bit(__be32 address)
{
	return (address * 0x9e3779b1U) >> 16;
}

/* Sources that are the router's own, or a broadcast address: dropped as martian, even with rp_filter 0. */
static __always_inline bool is_own_source(const struct packet *p)
{
	struct prefix4 key = {.length = 32, .address = p->ipv4->saddr};
	u32 bit = own_source_bit(key.address);
	u64 word = own_source_bits()[bit / 64 & (OWN_SOURCE_WORDS - 1)];

	if (!(p->flags & WIDE_OWN_SOURCES) && !(word >> (bit & 63) & 1))
		return false;
	return own_sources.lookup(&key) != NULL;
}

/*
 * rp_filter: the way back to the source, as if it came in where the packet leaves. Strict wants it to leave
 * by the port that the packet came in on; with several next hops, the one that the hash chose counts here.
 */
static __always_inline enum verdict check_reverse_path(struct xdp_md *ctx, const struct packet *p, u32 out_ifindex)
{
	struct bpf_fib_lookup back = {
		.family = AF_INET,
		.l4_protocol = p->protocol,
		.sport = p->dport,
		.dport = p->sport,
		.ifindex = out_ifindex,
		.tos = p->ipv4->tos,
		.ipv4_src = p->ipv4->daddr,
		.ipv4_dst = p->ipv4->saddr,
	};
	int code = bpf_fib_lookup(ctx, &back, sizeof(back), 0);

	explain_reverse_path(back.ifindex, code);
	if (code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH)
		return PASS_REVERSE_PATH;
	if (p->flags & REVERSE_PATH_STRICT && back.ifindex != p->ifindex)
		return PASS_REVERSE_PATH;
	return FORWARD;
}
