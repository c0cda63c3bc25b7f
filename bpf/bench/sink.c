/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The far ends: drops everything, and counts what came out rightly. Whatever else comes in counts as lost.
 */
#include "bench/frame.h"

/* What became of a frame; the numbers are those of class Arrival in xdprouter/bench/contenders.py. */
enum arrival {
	FORWARDED, /* with the MACs of the last hop and the TTL one less */
	UNTOUCHED, /* redirected as it was generated */
	MIRRORED,  /* its MACs changed about */
	ARRIVALS,
};
BPF_PERCPU_ARRAY(arrivals, u64, ARRIVALS);

static __always_inline u32 arrival_of(void *data)
{
	u16 *ethertype = data + 2 * ETH_ALEN;
	void *l3;
	u8 ttl;

	if (*ethertype == htons(ETH_P_8021Q)) {
		if (ethertype[1] != htons(EGRESS_VID))
			return ARRIVALS;
		ethertype += 2;
	}
	l3 = ethertype + 1;
	ttl = *ethertype == htons(ETH_P_IP) ? ((struct iphdr *)l3)->ttl : ((struct ipv6hdr *)l3)->hop_limit;
	if (ttl == TTL - 1)
		return has_mac(data, NEXT_HOP_MAC) && has_mac(data + ETH_ALEN, EGRESS_MAC) ? FORWARDED : ARRIVALS;
	if (ttl != TTL)
		return ARRIVALS;
	if (has_mac(data, ROUTER_MAC) && has_mac(data + ETH_ALEN, HOST_MAC))
		return UNTOUCHED;
	return has_mac(data, HOST_MAC) && has_mac(data + ETH_ALEN, ROUTER_MAC) ? MIRRORED : ARRIVALS;
}

int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	u64 *count;
	u32 kind;

	if (data + MIN_FRAME_LEN > data_end)
		return XDP_DROP;
	kind = arrival_of(data);
	count = arrivals.lookup(&kind);
	if (count)
		(*count)++;
	return XDP_DROP;
}
