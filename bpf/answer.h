/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An answer of the FIB, and how it is known to be valid still: by a stamp, the sum of all generations that concern
 * it, as they were before the question was asked (struct coherence). So an answer that is older than a change
 * never matches.
 *
 * A deletion is announced before it happens, and so is an IPv6 route that makes a node of its own in the tree
 * (fib6_add() marks the node afterwards). For some ticks after an announcement nothing is remembered; then, for as
 * long as the FIB may be unsettled, an answer lives for a tick only.
 */
#pragma once
#include "adjacency.h"
#include "maps.h"
#include "packet.h"

#define BLACKHOLE_NUMBER 0x2000 /* no adjacency has it */
#define NUMBER_MASK 0x3fff
#define IN_DEMAND 0x8000        /* recalled since the set last looked for room */
/* In jiffies */
#define SHORT_LIFE 1          /* the next tick ends it */
#define LONGEST_LIFE (16 * HZ) /* more than any answer's, so that one of days ago is not taken for a new one */
#define LONGEST_LEASE (HZ / 4)
#define UNSETTLED_TIME (HZ / 8)
#define FRESH_TIME (HZ / 100 + 1) /* of which so long nothing is remembered */

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define IPV4 0
#define IPV6 1

/* How a destination's way out was found. Twelve bytes. */
struct answer {
	u32 stamp;
	u32 expires;
	u16 number; /* of an adjacency, or BLACKHOLE_NUMBER; and IN_DEMAND */
	u16 mtu;
};

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
	u32 family;     /* IPV4 or IPV6 */
	u32 wide;
	u32 now;
	u32 generation; /* without that of the next hop */
	u64 neighbours;
};

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

static __always_inline u32 mix(u32 hash, u32 word)
{
	return (hash ^ word) * 0x9e3779b1U;
}

/* Prefixes of 12 bits and more lie in one block. */
static __always_inline struct block *block4(__be32 destination)
{
	return &blocks4()[htonl(destination) >> 20 & (BLOCKS - 1)];
}

/* Prefixes of 24 bits and more. */
static __always_inline struct block *block6(__be32 first_word)
{
	return &blocks6()[mix(0, htonl(first_word) >> 8) >> 20 & (BLOCKS - 1)];
}

static __always_inline u32 neighbour_generation(u32 number)
{
	return READ_ONCE(neighbour_generations()[number / ADJACENCY_WAYS & (ADJACENCY_SETS - 1)]);
}

/* False as well when nothing may be recalled at all: without a living daemon, or with settings it has not seen. */
static __always_inline bool may_recall(struct question *q, const struct packet *p)
{
	struct coherence *c = coherence();

	q->entry = NULL;
	if (FEATURE_EXPLAIN && explained_plainly())
		return false;
	q->now = coarse_time();
	if (!is_ahead(READ_ONCE(c->lease), q->now, LONGEST_LEASE) || READ_ONCE(c->changes) != READ_ONCE(c->seen))
		return false;
	if (is_ipv4(p)) {
		q->family = IPV4;
		q->block = block4(p->ipv4->daddr);
	} else {
		q->family = IPV6;
		q->block = block6(p->ipv6->daddr.s6_addr32[0]);
	}
	q->coherence = c;
	q->wide = c->wide;
	q->neighbours = READ_ONCE(c->neighbours);
	q->generation = READ_ONCE(c->generation[q->family]) + READ_ONCE(c->own) + READ_ONCE(q->block->generation);
	explain_step(EXPLAINED_LEASED);
	return true;
}

/* The way out that an answer tells; false if it is valid no longer. */
static __always_inline bool follow(const struct question *q, struct answer *answer, struct way_out *way)
{
	u32 number = answer->number & NUMBER_MASK, stamp = q->generation;
	struct adjacency *adjacency;

	explain_step(EXPLAINED_FOUND);
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
	if (!FEATURE_EXPLAIN && !(answer->number & IN_DEMAND))
		answer->number |= IN_DEMAND;
	return true;
}

/*
 * After the FIB was asked; false if that must not be remembered. A neighbour's change between question and answer
 * leaves it open which of the two MACs the answer has.
 */
static __always_inline bool write_answer(const struct question *q, u32 number, const struct way_out *way,
					 struct answer *answer)
{
	u32 stamp = q->generation, unsettled, of_family;

	if (way->adjacency)
		stamp += neighbour_generation(number) + way->adjacency->version;
	if (READ_ONCE(q->coherence->neighbours) != q->neighbours)
		return false;
	unsettled = unsettled_for(READ_ONCE(q->block->unsettled), q->now);
	of_family = unsettled_for(READ_ONCE(q->coherence->unsettled[q->family & 1]), q->now);
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
