/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The far end: drops everything, and counts what a router has forwarded rightly: with the MACs of the
 * last hop and the TTL one less. Whatever else comes in counts as lost.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define htons(x) __builtin_bswap16(x)

BPF_PERCPU_ARRAY(arrivals, u64, 1);

int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	u32 zero = 0;
	u64 *count;
	u8 ttl;

	if (data + FRAME_LEN > data_end)
		return XDP_DROP;
	if (*(u32 *)eth->h_dest != (u32)NEXT_HOP_MAC || *(u16 *)(eth->h_dest + 4) != (u16)(NEXT_HOP_MAC >> 32) ||
	    *(u32 *)eth->h_source != (u32)EGRESS_MAC || *(u16 *)(eth->h_source + 4) != (u16)(EGRESS_MAC >> 32))
		return XDP_DROP;
	ttl = *(u16 *)(data + 12) == htons(ETH_P_IP) ? ((struct iphdr *)(eth + 1))->ttl
						     : ((struct ipv6hdr *)(eth + 1))->hop_limit;
	count = arrivals.lookup(&zero);
	if (count && ttl == TTL - 1)
		(*count)++;
	return XDP_DROP;
}
