/* SPDX-License-Identifier: GPL-2.0-only */
/* Routes of which bpf_fib_lookup() does not tell enough; controlplane/notes.py keeps the tries. */
#pragma once
#include "maps.h"
#include "parse.h"

static __always_inline void count(struct traffic *traffic, u32 bytes)
{
	traffic->packets++;
	traffic->bytes += bytes;
}

/* The kernel heeds an unlocked route MTU when it forwards: ip_dst_mtu_maybe_forward() in include/net/ip.h. */
static __always_inline bool exceeds_route_mtu(const struct packet *p, u32 narrow_mtu)
{
	struct prefix4 key = {.length = 32};
	u32 *mtu;

	if (p->datagram_len <= narrow_mtu)
		return false;
	key.address = p->ipv4->daddr;
	mtu = narrow_routes.lookup(&key);
	return mtu && p->datagram_len > *mtu;
}

/* The CPUs share these counters, hence the atomic additions. */
static __always_inline void count_blackhole(const struct packet *p)
{
	struct traffic *swallowed;

	if (p->ethertype == htons(ETH_P_IP)) {
		struct prefix4 key = {.length = 32, .address = p->ipv4->daddr};

		swallowed = blackholes4.lookup(&key);
	} else {
		struct prefix6 key = {.length = 128};

		__builtin_memcpy(key.address, &p->ipv6->daddr, sizeof(key.address));
		swallowed = blackholes6.lookup(&key);
	}
	if (swallowed) {
		__sync_fetch_and_add(&swallowed->packets, 1);
		__sync_fetch_and_add(&swallowed->bytes, p->frame_len);
	}
}
