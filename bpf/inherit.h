/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Adds to counters what an earlier layout's program had counted, while packets are counted in the same places: a socket
 * filter that user space runs on one record after the other. It adds on the CPU that it runs on, and a packet cannot come
 * between reading and writing.
 */
#pragma once
#include "maps.h"

enum inherited {
	INHERIT_PORT,
	INHERIT_VRF,
	INHERIT_HOP,
	INHERIT_BLACKHOLE4,
	INHERIT_BLACKHOLE6,
};

/* controlplane/heritage.py writes them. */
struct inheritance {
	u32 kind;
	u32 index;              /* slot, or number of the VRF */
	u32 word;               /* which u64 of the value */
	u32 unused;
	u64 value;              /* of that word */
	struct traffic traffic; /* of the others */
	u8 key[24];             /* struct next_hop; struct prefix4 or 6 */
};

static __always_inline void add_word(void *value, u32 size, const struct inheritance *record)
{
	if (record->word < size / sizeof(u64))
		__sync_fetch_and_add((u64 *)value + record->word, record->value);
}

static __always_inline void add_traffic(struct traffic *to, const struct inheritance *record)
{
	__sync_fetch_and_add(&to->packets, record->traffic.packets);
	__sync_fetch_and_add(&to->bytes, record->traffic.bytes);
}

int inherit(struct __sk_buff *skb)
{
	struct inheritance record = {};
	struct port_counters *port;
	struct vrf_counters *vrf;
	struct traffic *found = NULL, traffic;
	struct prefix4 prefix4;
	struct prefix6 prefix6;
	struct next_hop hop;
	u32 index;

	if (bpf_skb_load_bytes(skb, 0, &record, sizeof(record)))
		return 0;
	index = record.index;
	switch (record.kind) {
	case INHERIT_PORT:
		port = counters.lookup(&index);
		if (port)
			add_word(port, sizeof(*port), &record);
		return 1;
	case INHERIT_VRF:
		vrf = vrf_counters.lookup(&index);
		if (vrf)
			add_word(vrf, sizeof(*vrf), &record);
		return 1;
	case INHERIT_HOP:
		__builtin_memcpy(&hop, record.key, sizeof(hop));
		found = next_hops.lookup(&hop);
		if (!found) {
			traffic = record.traffic;
			next_hops.insert(&hop, &traffic);
			return 1;
		}
		break;
	case INHERIT_BLACKHOLE4: /* user space has seen that there is one of this very length */
		__builtin_memcpy(&prefix4, record.key, sizeof(prefix4));
		found = blackholes4.lookup(&prefix4);
		break;
	case INHERIT_BLACKHOLE6:
		__builtin_memcpy(&prefix6, record.key, sizeof(prefix6));
		found = blackholes6.lookup(&prefix6);
		break;
	}
	if (found)
		add_traffic(found, &record);
	return 1;
}
