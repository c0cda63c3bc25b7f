/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writes a UDP frame anew (pages are recycled, so all that a router changes must be reset), for the next
 * destination of a sequence drawn beforehand, and hands it to the chosen contender. With no contender in
 * the slot the packet goes up the stack: the kernel's own forwarding.
 */
#include "bench/frame.h"
#include "bench/write.h"

/*
 * Where a CPU is. Written before each run. The times are taken here because the system call around a run
 * takes 20 ms by itself (it patches kernel code and waits for RCU).
 */
struct cursor {
	u64 next;      /* place in the sequence */
	u64 left;      /* frames still to come */
	u64 begun_ns;  /* when the first frame was made, CLOCK_MONOTONIC; 0: not yet */
	u64 ended_ns;  /* the last; 0: not yet */
	u32 mask;      /* the sequence's length, a power of two, less one */
	u32 contender; /* slot of `contenders` */
	u32 frame_len; /* bytes without FCS; mixed sizes: of the longest */
	u32 mix;       /* place in the pattern of sizes */
};
BPF_PERCPU_ARRAY(cursor, struct cursor, 1);

/*
 * Read in order, a cache line at a time, so that the generator's own misses are few: 16 IPv4 addresses, or
 * the upper halves of 8 IPv6 addresses (the rest is constant), as in the packet.
 */
struct line {
	u64 words[8];
};
BPF_F_TABLE("array", u32, struct line, sequence, LINES, BPF_F_MMAPABLE);
BPF_PROG_ARRAY(contenders, MAX_CONTENDERS);

/* The size of the mix whose turn it is. The masks have a bit for each place in the pattern. */
static __always_inline u32 next_size(struct cursor *at)
{
	u32 turn = at->mix, bit = 1U << (turn & 31);

	at->mix = turn + 1 < MIX_TURNS ? turn + 1 : 0;
	return bit & MIX_SMALL_TURNS ? MIX_SMALL : bit & MIX_MEDIUM_TURNS ? MIX_MEDIUM : MIX_LARGE;
}

static __always_inline int generate(struct xdp_md *ctx, bool ipv4, bool mixed, u16 vid)
{
	const u32 tag_len = vid ? TAG_LEN : 0;
	u32 zero = 0, index, number, frame_len;
	struct cursor *at = cursor.lookup(&zero);
	void *data, *data_end;
	struct line *line;

	if (!at)
		return XDP_ABORTED;
	if (!at->begun_ns)
		at->begun_ns = bpf_ktime_get_ns();
	if (--at->left == 0)
		at->ended_ns = bpf_ktime_get_ns();
	frame_len = at->frame_len;
	if (mixed) {
		u32 size = next_size(at) + tag_len;

		if (bpf_xdp_adjust_tail(ctx, (int)size - (int)frame_len))
			return XDP_ABORTED;
		frame_len = size;
	}
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + MIN_FRAME_LEN + tag_len > data_end)
		return XDP_ABORTED;
	index = at->next++ & at->mask;
	number = ipv4 ? index / 16 : index / 8;
	line = sequence.lookup(&number);
	if (!line)
		return XDP_ABORTED;
	if (ipv4)
		write_ipv4(data, vid, ((u32 *)line)[index & 15], frame_len - sizeof(struct ethhdr) - tag_len);
	else
		write_ipv6(data, vid, line->words[index & 7], frame_len - sizeof(struct ethhdr) - tag_len);
	contenders.call(ctx, at->contender);
	return XDP_PASS;
}

int generate4(struct xdp_md *ctx)
{
	return generate(ctx, true, false, 0);
}

int generate6(struct xdp_md *ctx)
{
	return generate(ctx, false, false, 0);
}

int generate4_mixed(struct xdp_md *ctx)
{
	return generate(ctx, true, true, 0);
}

int generate6_mixed(struct xdp_md *ctx)
{
	return generate(ctx, false, true, 0);
}

int generate4_tagged(struct xdp_md *ctx)
{
	return generate(ctx, true, false, INGRESS_VID);
}

int generate4_mixed_tagged(struct xdp_md *ctx)
{
	return generate(ctx, true, true, INGRESS_VID);
}

int generate6_tagged(struct xdp_md *ctx)
{
	return generate(ctx, false, false, INGRESS_VID);
}

int generate6_mixed_tagged(struct xdp_md *ctx)
{
	return generate(ctx, false, true, INGRESS_VID);
}
