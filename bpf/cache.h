/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The answers of the FIB, remembered for each destination. Each CPU has a table of its own, sets of one
 * cache line. What a hit needs is in the line: which adjacency, which MTU, and the stamp by which the answer
 * is known to be valid still: the sum of all generations that concern it, as they were before the
 * question was asked (struct coherence). So an answer that is older than a change never matches.
 *
 * A deletion is announced before it happens, and so is an IPv6 route that makes a node of its own in the tree
 * (fib6_add() marks the node afterwards). For some ticks after an announcement nothing is remembered; then, for as
 * long as the FIB may be unsettled, an answer lives for a tick only.
 */
#pragma once
#include "adjacency.h"
#include "maps.h"
#include "parse.h"

#define BLACKHOLE_NUMBER 0x2000 /* no adjacency has it */
#define NUMBER_MASK 0x3fff
#define IN_DEMAND 0x8000        /* recalled since the set last looked for room */
/* In jiffies */
#define SHORT_LIFE 1          /* the next tick ends it */
#define LONGEST_LIFE (16 * HZ) /* more than any answer's, so that one of days ago is not taken for a new one */
#define LONGEST_LEASE (HZ / 4)
#define UNSETTLED_TIME (HZ / 8)
#define FRESH_TIME (HZ / 100 + 1) /* of which so long nothing is remembered */

/* Everything that the kernel's answer can depend on, in network order; masked by struct coherence. */
struct key4 {
	u32 destination;
	u32 source;
	u32 ports;
	u32 rest;
};
struct key6 {
	u32 destination[4];
	u32 source[4];
	u32 ports;
	u32 rest;
	u32 label;
};

/* How a destination's way out was found. Sixteen bytes. */
struct answer {
	u32 stamp;
	u32 expires;
	u16 number; /* of an adjacency, or BLACKHOLE_NUMBER; and IN_DEMAND */
	u16 mtu;
};

struct narrow4 {
	u32 destination;
	struct answer answer;
};
struct wide4 {
	struct key4 key;
	struct answer answer;
	u32 unused;
};
struct narrow6 {
	u32 destination[4];
	struct answer answer;
	u32 unused;
};
struct wide6 {
	struct key6 key;
	struct answer answer;
	u32 unused[2];
};

union set4 {
	struct narrow4 narrow[4];
	struct wide4 wide[2];
};
union set6 {
	struct narrow6 narrow[2];
	struct wide6 wide[1];
};

#if CACHE_SETS
MEMORY(union set4, cache4)
MEMORY(union set6, cache6)
#endif

/* Where a packet goes: found in the cache, or by the FIB. */
struct way_out {
	struct adjacency *adjacency; /* NULL: into a blackhole */
	u32 mtu;                     /* of the path, no larger than the egress's */
};

/* What was asked of the cache in vain, and so where the FIB's answer is to be remembered. */
struct question {
	void *entry;    /* NULL: nowhere */
	struct coherence *coherence;
	struct block *block;
	u32 wide;
	u32 now;
	u32 generation; /* without that of the next hop */
	u64 neighbours;
};

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define IPV4 0
#define IPV6 1

/* In jiffies: no call, just a load. */
static __always_inline u32 coarse_time(void)
{
	return bpf_jiffies64();
}

/* The clock goes round in 32 bits, and is about to when the machine boots: what is further ahead is long past. */
static __always_inline bool is_ahead(u32 time, u32 now, u32 at_most)
{
	return time - now - 1 < at_most;
}

/* How much is left of the time in which the FIB may not be yet what was announced. */
static __always_inline u32 unsettled_for(u32 until, u32 now)
{
	return is_ahead(until, now, UNSETTLED_TIME) ? until - now : 0;
}

static __always_inline u32 neighbour_generation(u32 number)
{
	return READ_ONCE(neighbour_generations()[number / ADJACENCY_WAYS & (ADJACENCY_SETS - 1)]);
}

/* False as well when nothing may be recalled at all: without a living daemon, or with settings it has not seen. */
static __always_inline bool may_recall(struct question *q, u32 family, struct block *block)
{
	struct coherence *c = coherence();

	q->entry = NULL;
	q->now = coarse_time();
	if (!is_ahead(READ_ONCE(c->lease), q->now, LONGEST_LEASE) || READ_ONCE(c->changes) != READ_ONCE(c->seen))
		return false;
	q->coherence = c;
	q->block = block;
	q->wide = c->wide;
	q->neighbours = READ_ONCE(c->neighbours);
	q->generation = READ_ONCE(c->generation[family]) + READ_ONCE(c->own) + READ_ONCE(block->generation);
	return true;
}

static __always_inline bool recall(const struct question *q, struct answer *answer, struct way_out *way)
{
	u32 number = answer->number & NUMBER_MASK, stamp = q->generation;
	struct adjacency *adjacency;

	if (!is_ahead(answer->expires, q->now, LONGEST_LIFE))
		return false;
	way->mtu = answer->mtu;
	way->adjacency = NULL;
	if (number != BLACKHOLE_NUMBER) {
		adjacency = adjacency_of(number);
		way->adjacency = adjacency;
		stamp += neighbour_generation(number) + adjacency->version;
	}
	if (answer->stamp != stamp)
		return false;
	if (!(answer->number & IN_DEMAND))
		answer->number |= IN_DEMAND;
	return true;
}

/*
 * After the FIB was asked. A neighbour's change between question and answer leaves it open which of the
 * two MACs the answer has: nothing is remembered then.
 */
static __always_inline bool write_answer(const struct question *q, struct answer *answer, u32 family, u32 number,
					 const struct way_out *way)
{
	u32 stamp = q->generation, unsettled, of_family;

	if (way->adjacency)
		stamp += neighbour_generation(number) + way->adjacency->version;
	if (READ_ONCE(q->coherence->neighbours) != q->neighbours)
		return false;
	unsettled = unsettled_for(READ_ONCE(q->block->unsettled), q->now);
	of_family = unsettled_for(READ_ONCE(q->coherence->unsettled[family]), q->now);
	if (of_family > unsettled)
		unsettled = of_family;
	if (unsettled > UNSETTLED_TIME - FRESH_TIME)
		return false;
	answer->stamp = stamp;
	answer->expires = q->now + (unsettled ? SHORT_LIFE : q->coherence->life);
	answer->number = number;
	answer->mtu = way->mtu;
	return true;
}

static __always_inline u32 ports_of(const struct packet *p)
{
	return (u32)p->sport << 16 | p->dport;
}

static __always_inline u32 mix(u32 hash, u32 word)
{
	return (hash ^ word) * 0x9e3779b1U;
}

/* Prefixes of 24 bits and more lie in one block. */
static __always_inline u32 block6_of(__be32 first_word)
{
	return mix(0, htonl(first_word) >> 8) >> 20 & (BLOCKS - 1);
}

/* 1 or 0, without a branch. */
static __always_inline u32 is_zero(u32 x)
{
	return ((u64)x - 1) >> 63;
}

#if CACHE_SETS
/* The upper bits of a product: only they depend on all bits of the last word, so on an address's last octet. */
static __always_inline u32 cache_index(u32 hash)
{
	return this_cpu() * CACHE_SETS + masked((u64)hash * CACHE_SETS >> 32, CACHE_SETS);
}

/*
 * Which entry makes room: one that has not been recalled since the last time, so that a destination seen once
 * does not push out those in demand. If all have been, any; and they have to show it again.
 */
static __always_inline bool makes_room(struct answer *answer)
{
	if (!(answer->number & IN_DEMAND))
		return true;
	answer->number &= ~IN_DEMAND;
	return false;
}

static __always_inline struct narrow4 *room4(union set4 *set)
{
	u32 first = bpf_get_prandom_u32();

#pragma unroll
	for (int i = 0; i < 3; i++) {
		if (makes_room(&set->narrow[(first + i) & 3].answer))
			return &set->narrow[(first + i) & 3];
	}
	return &set->narrow[(first + 3) & 3];
}

static __always_inline struct wide4 *room4_wide(union set4 *set)
{
	u32 first = bpf_get_prandom_u32();

	return &set->wide[(makes_room(&set->wide[first & 1].answer) ? first : first + 1) & 1];
}

static __always_inline struct narrow6 *room6(union set6 *set)
{
	u32 first = bpf_get_prandom_u32();

	return &set->narrow[(makes_room(&set->narrow[first & 1].answer) ? first : first + 1) & 1];
}

static __always_inline struct block *block4(const struct packet *p)
{
	return &blocks4()[htonl(p->ipv4->daddr) >> 20 & (BLOCKS - 1)];
}

static __always_inline void key4(struct key4 *key, const struct coherence *c, const struct packet *p, u32 slot)
{
	key->destination = p->ipv4->daddr;
	key->source = p->ipv4->saddr & c->mask_source;
	key->ports = ports_of(p) & c->mask_ports;
	key->rest = (slot << 16 | p->protocol << 8 | p->ipv4->tos) & c->mask_rest;
}

static __always_inline bool same_key4(const struct key4 *a, const struct key4 *b)
{
	return a->destination == b->destination && a->source == b->source && a->ports == b->ports &&
	       a->rest == b->rest;
}

static __always_inline bool recall4(struct question *q, const struct packet *p, u32 slot, struct way_out *way)
{
	struct key4 key;
	union set4 *set;
	u32 hash;

	if (!may_recall(q, IPV4, block4(p)))
		return false;
	if (!q->wide) {
		u32 destination = p->ipv4->daddr, way_number;
		struct narrow4 *narrow;

		set = &cache4()[cache_index(mix(0, destination))];
		/* Which of the four it is cannot be predicted, so no branch asks. */
		way_number = is_zero(set->narrow[1].destination ^ destination) |
			     is_zero(set->narrow[2].destination ^ destination) << 1 |
			     is_zero(set->narrow[3].destination ^ destination) * 3;
		narrow = &set->narrow[masked(way_number, 4)];
		if (narrow->destination == destination) {
			q->entry = narrow;
			return recall(q, &narrow->answer, way);
		}
		q->entry = room4(set);
		return false;
	}
	key4(&key, q->coherence, p, slot);
	hash = mix(mix(mix(mix(0, key.destination), key.source), key.ports), key.rest);
	set = &cache4()[cache_index(hash)];
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (same_key4(&set->wide[i].key, &key)) {
			q->entry = &set->wide[i];
			return recall(q, &set->wide[i].answer, way);
		}
	}
	q->entry = room4_wide(set);
	return false;
}

static __always_inline void remember4(const struct question *q, const struct packet *p, u32 slot, u32 number,
				      const struct way_out *way)
{
	if (!q->entry)
		return;
	if (!q->wide) {
		struct narrow4 *entry = q->entry;

		if (write_answer(q, &entry->answer, IPV4, number, way))
			entry->destination = p->ipv4->daddr;
	} else {
		struct wide4 *entry = q->entry;

		if (write_answer(q, &entry->answer, IPV4, number, way))
			key4(&entry->key, q->coherence, p, slot);
	}
}

static __always_inline struct block *block6(const struct packet *p)
{
	return &blocks6()[block6_of(p->ipv6->daddr.s6_addr32[0])];
}

static __always_inline void key6(struct key6 *key, const struct coherence *c, const struct packet *p, u32 slot)
{
	__be32 first = *(__be32 *)p->ipv6; /* version, traffic class, flow label */

#pragma unroll
	for (int i = 0; i < 4; i++) {
		key->destination[i] = p->ipv6->daddr.s6_addr32[i];
		key->source[i] = p->ipv6->saddr.s6_addr32[i] & c->mask_source;
	}
	key->ports = ports_of(p) & c->mask_ports;
	key->rest = (slot << 16 | p->protocol << 8 | (htonl(first) >> 20 & 0xff)) & c->mask_rest;
	key->label = first & htonl(0xfffff) & c->mask_label;
}

static __always_inline bool same_key6(const struct key6 *a, const struct key6 *b)
{
	const u32 *x = (const u32 *)a, *y = (const u32 *)b;
	u32 difference = 0;

#pragma unroll
	for (int i = 0; i < sizeof(*a) / 4; i++)
		difference |= x[i] ^ y[i];
	return !difference;
}

static __always_inline bool same_address6(const u32 *a, const u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline bool recall6(struct question *q, const struct packet *p, u32 slot, struct way_out *way)
{
	const u32 *destination = p->ipv6->daddr.s6_addr32;
	u32 hash = 0;
	struct key6 key;
	union set6 *set;

	if (!may_recall(q, IPV6, block6(p)))
		return false;
	if (!q->wide) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			hash = mix(hash, destination[i]);
		set = &cache6()[cache_index(hash)];
#pragma unroll
		for (int i = 0; i < 2; i++) {
			if (same_address6(set->narrow[i].destination, destination)) {
				q->entry = &set->narrow[i];
				return recall(q, &set->narrow[i].answer, way);
			}
		}
		q->entry = room6(set);
		return false;
	}
	key6(&key, q->coherence, p, slot);
#pragma unroll
	for (int i = 0; i < sizeof(key) / 4; i++)
		hash = mix(hash, ((u32 *)&key)[i]);
	set = &cache6()[cache_index(hash)];
	q->entry = &set->wide[0];
	return same_key6(&set->wide[0].key, &key) && recall(q, &set->wide[0].answer, way);
}

static __always_inline void remember6(const struct question *q, const struct packet *p, u32 slot, u32 number,
				      const struct way_out *way)
{
	if (!q->entry)
		return;
	if (!q->wide) {
		struct narrow6 *entry = q->entry;

		if (write_answer(q, &entry->answer, IPV6, number, way))
			__builtin_memcpy(entry->destination, &p->ipv6->daddr, sizeof(entry->destination));
	} else {
		struct wide6 *entry = q->entry;

		if (write_answer(q, &entry->answer, IPV6, number, way))
			key6(&entry->key, q->coherence, p, slot);
	}
}
#else
static __always_inline bool recall4(struct question *q, const struct packet *p, u32 slot, struct way_out *way)
{
	return false;
}
static __always_inline bool recall6(struct question *q, const struct packet *p, u32 slot, struct way_out *way)
{
	return false;
}
static __always_inline void remember4(const struct question *q, const struct packet *p, u32 slot, u32 number,
				      const struct way_out *way)
{
}
static __always_inline void remember6(const struct question *q, const struct packet *p, u32 slot, u32 number,
				      const struct way_out *way)
{
}
#endif
