/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames that bear the time they were made at, and far ends that note the latest of those times for each way they
 * come by. So it is told whether a frame that was made after a change still went the old way, however long
 * it lay in a queue.
 */
#include "bench/frame.h"
#include "bench/write.h"

#define htonl(x) __builtin_bswap32(x)
#define STAMP_OFFSET 64 /* behind the headers of both families */
#define STAMPED_LEN (STAMP_OFFSET + sizeof(u64))
#define ONE_WRITER BPF_F_MMAPABLE

/* Destinations are consecutive, so are source ports; both go round. */
struct aim {
	u64 made;
	u64 destination6; /* upper half, as in the packet */
	u32 destination4; /* the first, in host order */
	u32 destinations; /* a power of two, less one */
	u32 source_ports; /* likewise */
	u32 devmap_id;    /* of the program under test */
};
BPF_F_TABLE("array", u32, struct aim, aim, 1, ONE_WRITER);
BPF_PROG_ARRAY(under_test, 1);

/* By the last byte of the MAC that a frame is sent to, or by slot of the egress. Only CPU 0 writes. */
struct way {
	u64 frames;
	u64 last_made_ns; /* CLOCK_MONOTONIC */
	u64 last_arrived_ns;
};
BPF_F_TABLE("array", u32, struct way, ways, WAYS, ONE_WRITER);
BPF_F_TABLE("array", u32, struct way, refused, WAYS, ONE_WRITER);

static __always_inline int generate(struct xdp_md *ctx, bool ipv4)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct udphdr *udp = data + sizeof(struct ethhdr) + (ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	u32 zero = 0, frame_len = data_end - data, number;
	struct aim *at = aim.lookup(&zero);

	if (!at || data + STAMPED_LEN > data_end)
		return XDP_ABORTED;
	number = at->made++;
	if (ipv4) {
		write_ipv4(data, 0, htonl(at->destination4 + (number & at->destinations)), frame_len - sizeof(struct ethhdr));
	} else {
		struct ipv6hdr *ip6 = data + sizeof(struct ethhdr);

		write_ipv6(data, 0, at->destination6, frame_len - sizeof(struct ethhdr));
		ip6->daddr.s6_addr32[3] = htonl(1 + (number & at->destinations));
	}
	udp->source = htons((u16)(1024 + (number & at->source_ports)));
	*(u64 *)(data + STAMP_OFFSET) = bpf_ktime_get_ns();
	under_test.call(ctx, 0);
	return XDP_ABORTED;
}

int generate4(struct xdp_md *ctx)
{
	return generate(ctx, true);
}

int generate6(struct xdp_md *ctx)
{
	return generate(ctx, false);
}

int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct way *way;
	u64 made;
	u32 key;

	if (data + STAMPED_LEN > data_end)
		return XDP_DROP;
	key = *((u8 *)data + ETH_ALEN - 1) & (WAYS - 1);
	made = *(u64 *)(data + STAMP_OFFSET);
	way = ways.lookup(&key);
	if (way) {
		if (made > way->last_made_ns)
			way->last_made_ns = made;
		way->last_arrived_ns = bpf_ktime_get_ns();
		way->frames++;
	}
	return XDP_DROP;
}

/* Tracepoint xdp_redirect_err: frames sent to a port that takes none, as one that is down. */
int redirect_failed(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, slot = ctx->args[6] & (WAYS - 1);
	struct aim *at = aim.lookup(&zero);
	struct way *way = refused.lookup(&slot);

	if (at && way && at->devmap_id == (u32)ctx->args[5]) {
		way->last_made_ns = way->last_arrived_ns = bpf_ktime_get_ns();
		way->frames++;
	}
	return 0;
}
