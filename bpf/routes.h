/* SPDX-License-Identifier: GPL-2.0-only */
/* Routes of which bpf_fib_lookup() does not tell enough; controlplane/notes.py keeps the tries. */
#pragma once
#include "maps.h"
#include "packet.h"

static __always_inline void count(struct traffic *traffic, u32 bytes)
{
	if (FEATURE_EXPLAIN)
		return;
	traffic->packets++;
	traffic->bytes += bytes;
}

static __always_inline struct prefix4 destination4(const struct packet *p)
{
	struct prefix4 key = {.length = 32, .address = p->ipv4->daddr};

	return key;
}

static __always_inline struct prefix6 destination6(const struct packet *p)
{
	struct prefix6 key = {.length = 128};

	__builtin_memcpy(key.address, &p->ipv6->daddr, sizeof(key.address));
	return key;
}

/*
 * The kernel heeds an unlocked route MTU when it forwards: ip_dst_mtu_maybe_forward() in include/net/ip.h for
 * IPv4; for IPv6 it answers with "packet too big" as well.
 */
static __always_inline bool exceeds_route_mtu(const struct packet *p)
{
	u32 *mtu;

	if (p->datagram_len <= p->narrow_mtu)
		return false;
	if (is_ipv4(p)) {
		struct prefix4 key = destination4(p);

		mtu = narrow_routes4.lookup(&key);
	} else {
		struct prefix6 key = destination6(p);

		mtu = narrow_routes6.lookup(&key);
	}
	return mtu && p->datagram_len > *mtu;
}

/* The CPUs share these counters, hence the atomic additions. */
static __always_inline void count_blackhole(const struct packet *p)
{
	struct traffic *swallowed;

	if (is_ipv4(p)) {
		struct prefix4 key = destination4(p);

		swallowed = blackholes4.lookup(&key);
	} else {
		struct prefix6 key = destination6(p);

		swallowed = blackholes6.lookup(&key);
	}
	if (swallowed && !FEATURE_EXPLAIN) {
		__sync_fetch_and_add(&swallowed->packets, 1);
		__sync_fetch_and_add(&swallowed->bytes, p->frame_len);
	}
}
