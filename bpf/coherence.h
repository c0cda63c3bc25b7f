/* SPDX-License-Identifier: GPL-2.0-only */
/* How a change makes cached answers void. Called by socket filters, inside the kernel, on any CPU. */
#pragma once
#include "answer.h"
#include "maps.h"

/* The window first: an answer that is remembered under the new generation sees it. */
static __always_inline void void_family(struct coherence *c, u32 family)
{
	c->unsettled[family] = coarse_time() + UNSETTLED_TIME;
	__sync_fetch_and_add(&c->generation[family], 1);
	__sync_fetch_and_add(&c->invalidations, 1);
}

static __always_inline void void_everything(struct coherence *c)
{
	void_family(c, IPV4);
	void_family(c, IPV6);
}

static __always_inline void void_block(struct coherence *c, struct block *block)
{
	block->unsettled = coarse_time() + UNSETTLED_TIME;
	__sync_fetch_and_add(&block->generation, 1);
	__sync_fetch_and_add(&c->invalidations, 1);
}

/* What an answer depends on may have changed: nothing is recalled until the daemon has looked. */
static __always_inline void note_change(struct coherence *c)
{
	__sync_fetch_and_add(&c->changes, 1);
	void_everything(c);
}

/* The counter first: who asks the FIB meanwhile sees that it has moved, and remembers nothing. */
static __always_inline void void_neighbour(struct coherence *c, const struct next_hop *hop)
{
	__sync_fetch_and_add(&c->neighbours, 1);
	__sync_fetch_and_add(&neighbour_generations()[adjacency_set(hop)], 1);
	__sync_fetch_and_add(&c->invalidations, 1);
}
