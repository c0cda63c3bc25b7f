/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What `xdprouter explain` is told: with FEATURE_EXPLAIN the program notes in a memory of its own how a packet fares,
 * and changes nothing that the running program counts or remembers. Without it, nothing here leaves an instruction.
 */
#pragma once
#include "features.h"
#include "maps.h"
#include "packet.h"

/* How far the packet came. */
enum explained_step {
	EXPLAINED_CACHE = 1 << 0,   /* the cache was asked */
	EXPLAINED_LEASED = 1 << 1,  /* something may be recalled at all */
	EXPLAINED_FOUND = 1 << 2,   /* an answer is remembered, valid or not */
	EXPLAINED_HIT = 1 << 3,     /* it was recalled */
	EXPLAINED_FIB = 1 << 4,     /* the FIB was asked */
	EXPLAINED_WAY = 1 << 5,     /* there is a way out */
	EXPLAINED_REVERSE = 1 << 6, /* the FIB was asked for the way back to the source */
};

/* struct Trace of controlplane/trace.py */
struct explanation {
	/* what is asked */
	u32 cpu;   /* whose cache */
	u32 plain; /* do not ask the cache */
	/* the answer; all zero beforehand */
	u32 steps; /* enum explained_step */
	u32 verdict;
	u32 slot;  /* that the packet is counted for */
	u32 ifindex; /* of the interface it belongs to */
	u32 flags; /* enum interface_flag of that */
	u32 frame_len;
	u32 datagram_len;
	u32 tags;
	u32 version;
	u32 protocol;
	u32 vrf;
	u32 mtu;   /* of the path and the egress */
	u16 sport; /* network order */
	u16 dport;
	s32 fib_code;
	u32 fib_mtu;
	struct next_hop fib_hop;
	s32 reverse_code;
	u32 reverse_ifindex;
	struct adjacency way;
	struct adjacency made; /* of the FIB's answer, in the place of one that all packets share */
};

#if FEATURE_EXPLAIN
MEMORY(struct explanation, explanation)

static __always_inline u32 explained_cpu(void)
{
	return explanation()->cpu;
}

static __always_inline bool explained_plainly(void)
{
	return explanation()->plain;
}

static __always_inline struct adjacency *explained_adjacency(void)
{
	return &explanation()->made;
}

static __always_inline void explain_step(u32 steps)
{
	explanation()->steps |= steps;
}

static __always_inline void explain_fib(const struct bpf_fib_lookup *fib, int code)
{
	struct explanation *e = explanation();

	e->steps |= EXPLAINED_FIB;
	e->fib_code = code;
	e->fib_mtu = fib->mtu_result;
	e->fib_hop.ifindex = fib->ifindex;
	e->fib_hop.family = fib->family;
	e->fib_hop.address[0] = *(const u64 *)&fib->ipv6_dst[0];
	e->fib_hop.address[1] = *(const u64 *)&fib->ipv6_dst[2];
}

static __always_inline void explain_reverse_path(u32 ifindex, int code)
{
	struct explanation *e = explanation();

	e->steps |= EXPLAINED_REVERSE;
	e->reverse_code = code;
	e->reverse_ifindex = ifindex;
}

static __always_inline void explain_way(const struct adjacency *way, u32 mtu)
{
	struct explanation *e = explanation();

	e->steps |= EXPLAINED_WAY;
	e->way = *way;
	e->mtu = mtu;
}

static __always_inline void explain_packet(const struct packet *p, u32 slot, enum verdict verdict)
{
	struct explanation *e = explanation();

	e->verdict = verdict;
	e->slot = slot;
	e->ifindex = p->ifindex;
	e->flags = p->flags;
	e->frame_len = p->frame_len;
	e->datagram_len = p->datagram_len;
	e->tags = p->tags;
	e->version = p->version;
	e->protocol = p->protocol;
	e->vrf = p->vrf;
	e->sport = p->sport;
	e->dport = p->dport;
}
#else
#define explained_cpu() 0
#define explained_plainly() false
#define explained_adjacency() NULL
#define explain_step(steps)
#define explain_fib(fib, code)
#define explain_reverse_path(ifindex, code)
#define explain_way(way, mtu)
#define explain_packet(p, slot, verdict)
#endif
