/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ways out that carry traffic: found again by next hop after a lookup, and by number from the cache.
 * Their counters tell the control plane which next hops to keep fresh, since the lookup takes a STALE
 * neighbour for ever and refreshes none.
 *
 * Each CPU has a table of its own with a few ways for each hash of a next hop. What is pushed out of it is
 * written through to the map that all share.
 */
#pragma once
#include "explain.h"
#include "features.h"
#include "maps.h"

#define ADJACENCIES (ADJACENCY_SETS * ADJACENCY_WAYS)

/* How frames leave by an interface: by which port, with what. */
struct egress {
	u32 slot;
	u32 flags; /* enum interface_flag, of the port */
	u32 tags;
	u32 mtu;
};

/* Knuth's multiplicative hash, whose upper bits depend on all octets. Behind an IPv4 address are zeros. */
static __always_inline u32 adjacency_set(const struct next_hop *hop)
{
	u64 folded = hop->address[0] ^ hop->address[1] ^ hop->ifindex;

	return (u64)((u32)(folded ^ folded >> 32) * 0x9e3779b1U) * ADJACENCY_SETS >> 32;
}

static __always_inline bool same_next_hop(const struct next_hop *a, const struct next_hop *b)
{
	return a->address[0] == b->address[0] && a->address[1] == b->address[1] && a->ifindex == b->ifindex &&
	       a->family == b->family;
}

static __always_inline u32 this_cpu(void)
{
	return (FEATURE_EXPLAIN ? explained_cpu() : bpf_get_smp_processor_id()) & (CPUS - 1);
}

/* By its number on this CPU. */
static __always_inline struct adjacency *adjacency_of(u32 number)
{
	return &adjacencies()[this_cpu() * ADJACENCIES + masked(number, ADJACENCIES)];
}

/* Into a full map the counts do not go; they are lost, and nothing else. */
static __always_inline void write_through(const struct adjacency *old)
{
	struct next_hop hop = old->hop;
	struct traffic traffic = old->traffic, *total;

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

/* On two-byte boundaries: three halves each. */
static __always_inline bool copy_mac_if_other(u8 *to, const u8 *from)
{
	u16 *a = (u16 *)to;
	const u16 *b = (const u16 *)from;

	if (a[0] == b[0] && a[1] == b[1] && a[2] == b[2])
		return false;
	a[0] = b[0];
	a[1] = b[1];
	a[2] = b[2];
	return true;
}

/*
 * The adjacency of a lookup's answer, made if it is new, brought up to date if not; its number in `number`.
 * The address is as the lookup left it: the gateway, else the destination; with RFC 8950 the family is
 * AF_INET6. `fib` must be aligned to eight bytes.
 */
static __always_inline struct adjacency *adjacency_for(const struct bpf_fib_lookup *fib,
						       const struct egress *egress, u32 *number)
{
	struct next_hop hop = {
		.ifindex = fib->ifindex,
		.family = fib->family,
		.address = { *(const u64 *)&fib->ipv6_dst[0], *(const u64 *)&fib->ipv6_dst[2] },
	};
	u32 first = adjacency_set(&hop) * ADJACENCY_WAYS, victim = 0;
	struct adjacency *found;
	bool changed;

	if (FEATURE_EXPLAIN) {
		found = explained_adjacency();
		goto empty;
	}
#pragma unroll
	for (u32 way = 0; way < ADJACENCY_WAYS; way++) {
		found = adjacency_of(first + way);
		if (same_next_hop(&found->hop, &hop)) {
			victim = way;
			goto known;
		}
		if (!found->hop.ifindex) {
			victim = way;
			goto new;
		}
	}
	victim = bpf_get_prandom_u32() & (ADJACENCY_WAYS - 1);
	found = adjacency_of(first + victim);
new:
	write_through(found);
	found->version++; /* before anything of it changes */
empty:
	found->hop = hop;
	found->traffic.packets = 0;
	found->traffic.bytes = 0;
known:
	changed = copy_mac_if_other(found->dmac, fib->dmac);
	changed |= copy_mac_if_other(found->smac, fib->smac);
	if (changed || found->slot != egress->slot || found->flags != egress->flags ||
	    (FEATURE_VLAN && found->tags != egress->tags)) {
		found->slot = egress->slot;
		found->flags = egress->flags;
		found->tags = egress->tags;
		found->version++;
	}
	*number = first + victim;
	return found;
}
