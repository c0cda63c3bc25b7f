/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The answers of the FIB, remembered for each destination. Each CPU has a table of its own, sets of one
 * cache line. What a hit needs is in the line: which adjacency, which MTU, and the stamp by which the answer
 * is known to be valid still: the sum of all generations that concern it, as they were before the
 * question was asked (struct coherence). So an answer that is older than a change never matches.
 *
 * A deletion is announced before it happens. While the FIB is unsettled, that is for a while after an
 * announcement, an answer lives for a tick only.
 */
#pragma once
#include "adjacency.h"
#include "maps.h"
#include "parse.h"

#define BLACKHOLE_NUMBER 0xffff
#define SHORT_LIFE 1       /* the coarse clock's next tick ends it */
#define UNSETTLED_TIME 128

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
	u16 number; /* of an adjacency, or BLACKHOLE_NUMBER */
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
BPF_F_TABLE("array", u32, union set4, cache4, CPUS * CACHE_SETS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, union set6, cache6, CPUS * CACHE_SETS, BPF_F_MMAPABLE);
#endif

/* A question on its way through the FIB, and where its answer is to be remembered. */
struct question {
	struct answer *place; /* NULL: do not remember */
	struct coherence *coherence;
	struct block *block;
	u32 now;
	u32 generation; /* without that of the next hop */
	u64 neighbours;
	u32 family;     /* index into struct coherence: 0 IPv4, 1 IPv6 */
};
