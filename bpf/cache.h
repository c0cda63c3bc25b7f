/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The answers of the FIB, remembered for each destination, or for as much of a packet as the answer can depend
 * on now (the masks of struct coherence). Each CPU has a table of its own for each family, sets of one cache line.
 * All that a hit needs is in that line: which adjacency, which MTU, and until when that is valid (answer.h).
 */
#pragma once
#include "answer.h"
#include "maps.h"
#include "packet.h"

#if CACHE_SETS
/* Everything that the kernel's answer can depend on, in network order; masked by struct coherence. */
struct key4 {
	u32 destination;
	u32 source;
	u32 ports;
	u32 rest;
	u32 ingress;
};
struct key6 {
	u32 destination[4];
	u32 source[4];
	u32 ports;
	u32 rest;
	u32 label;
	u32 ingress;
};

struct narrow4 {
	u32 destination;
	struct answer answer;
};
struct wide4 {
	struct key4 key;
	struct answer answer;
};
struct narrow6 {
	u32 destination[4];
	struct answer answer;
	u32 unused;
};
struct wide6 {
	struct key6 key;
	struct answer answer;
	u32 unused;
};

union set4 {
	struct narrow4 narrow[4];
	struct wide4 wide[2];
};
union set6 {
	struct narrow6 narrow[2];
	struct wide6 wide[1];
};

MEMORY(union set4, cache4)
MEMORY(union set6, cache6)

/* The upper bits of a product: only they depend on all bits of the last word, so on an address's last octet. */
static __always_inline u32 cache_index(u32 hash)
{
	return this_cpu() * CACHE_SETS + masked((u64)hash * CACHE_SETS >> 32, CACHE_SETS);
}

static __always_inline u32 hash_of(const u32 *words, u32 count)
{
	u32 hash = 0;

#pragma unroll
	for (int i = 0; i < count; i++)
		hash = mix(hash, words[i]);
	return hash;
}

/*
 * Which entry makes room: one that has not been recalled since the last time, so that a destination seen once
 * does not push out those in demand. If all have been, any; and they have to show it again.
 */
static __always_inline bool makes_room(struct answer *answer)
{
	if (FEATURE_EXPLAIN || !(answer->number & IN_DEMAND))
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

static __always_inline u32 ports_of(const struct packet *p)
{
	return (u32)p->sport << 16 | p->dport;
}

static __always_inline void make_key4(struct key4 *key, const struct coherence *c, const struct packet *p)
{
	key->destination = p->ipv4->daddr;
	key->source = p->ipv4->saddr & c->mask_source;
	key->ports = ports_of(p) & c->mask_ports;
	key->rest = (p->protocol << 8 | p->ipv4->tos) & c->mask_rest;
	key->ingress = p->ifindex & c->mask_ingress;
}

static __always_inline void make_key6(struct key6 *key, const struct coherence *c, const struct packet *p)
{
	__be32 first = *(__be32 *)p->ipv6; /* version, traffic class, flow label */

#pragma unroll
	for (int i = 0; i < 4; i++) {
		key->destination[i] = p->ipv6->daddr.s6_addr32[i];
		key->source[i] = p->ipv6->saddr.s6_addr32[i] & c->mask_source;
	}
	key->ports = ports_of(p) & c->mask_ports;
	key->rest = (p->protocol << 8 | (htonl(first) >> 20 & 0xff)) & c->mask_rest;
	key->ingress = p->ifindex & c->mask_ingress;
	key->label = first & htonl(0xfffff) & c->mask_label;
}

static __always_inline bool same_words(const u32 *a, const u32 *b, u32 count)
{
	u32 difference = 0;

#pragma unroll
	for (int i = 0; i < count; i++)
		difference |= a[i] ^ b[i];
	return !difference;
}

/* 1 or 0, without a branch. */
static __always_inline u32 is_zero(u32 x)
{
	return ((u64)x - 1) >> 63;
}

static __always_inline bool recall4(struct question *q, const struct packet *p, struct way_out *way)
{
	u32 destination = p->ipv4->daddr, place;
	struct narrow4 *narrow;
	struct key4 key;
	union set4 *set;

	if (!q->wide) {
		set = &cache4()[cache_index(mix(0, destination))];
		/* Which of the four it is cannot be predicted, so no branch asks. */
		place = is_zero(set->narrow[1].destination ^ destination) |
			is_zero(set->narrow[2].destination ^ destination) << 1 |
			is_zero(set->narrow[3].destination ^ destination) * 3;
		narrow = &set->narrow[masked(place, 4)];
		if (narrow->destination == destination) {
			q->entry = narrow;
			return follow(q, &narrow->answer, way);
		}
		q->entry = room4(set);
		return false;
	}
	make_key4(&key, q->coherence, p);
	set = &cache4()[cache_index(hash_of((u32 *)&key, sizeof(key) / 4))];
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (same_words((u32 *)&set->wide[i].key, (u32 *)&key, sizeof(key) / 4)) {
			q->entry = &set->wide[i];
			return follow(q, &set->wide[i].answer, way);
		}
	}
	q->entry = room4_wide(set);
	return false;
}

static __always_inline bool recall6(struct question *q, const struct packet *p, struct way_out *way)
{
	struct key6 key;
	union set6 *set;

	if (!q->wide) {
		set = &cache6()[cache_index(hash_of(p->ipv6->daddr.s6_addr32, 4))];
#pragma unroll
		for (int i = 0; i < 2; i++) {
			if (same_words(set->narrow[i].destination, p->ipv6->daddr.s6_addr32, 4)) {
				q->entry = &set->narrow[i];
				return follow(q, &set->narrow[i].answer, way);
			}
		}
		q->entry = room6(set);
		return false;
	}
	make_key6(&key, q->coherence, p);
	set = &cache6()[cache_index(hash_of((u32 *)&key, sizeof(key) / 4))];
	q->entry = &set->wide[0];
	return same_words((u32 *)&set->wide[0].key, (u32 *)&key, sizeof(key) / 4) &&
	       follow(q, &set->wide[0].answer, way);
}

/* Whether the way out is known; if not, the question is prepared for remember(). */
static __always_inline bool recall(struct question *q, const struct packet *p, struct way_out *way)
{
	if (!may_recall(q, p))
		return false;
	return is_ipv4(p) ? recall4(q, p, way) : recall6(q, p, way);
}

static __always_inline void remember(const struct question *q, const struct packet *p, u32 number,
				     const struct way_out *way)
{
	struct answer answer;

	if (FEATURE_EXPLAIN || !q->entry || !write_answer(q, number, way, &answer))
		return;
	if (is_ipv4(p)) {
		struct narrow4 *narrow = q->entry;
		struct wide4 *wide = q->entry;

		if (q->wide) {
			make_key4(&wide->key, q->coherence, p);
			wide->answer = answer;
		} else {
			narrow->destination = p->ipv4->daddr;
			narrow->answer = answer;
		}
	} else {
		struct narrow6 *narrow = q->entry;
		struct wide6 *wide = q->entry;

		if (q->wide) {
			make_key6(&wide->key, q->coherence, p);
			wide->answer = answer;
		} else {
			__builtin_memcpy(narrow->destination, &p->ipv6->daddr, sizeof(narrow->destination));
			narrow->answer = answer;
		}
	}
}
#else
static __always_inline bool recall(struct question *q, const struct packet *p, struct way_out *way)
{
	return false;
}
static __always_inline void remember(const struct question *q, const struct packet *p, u32 number,
				     const struct way_out *way)
{
}
#endif
