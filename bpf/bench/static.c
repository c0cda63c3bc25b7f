/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limit: what any XDP router must do at least. It looks nothing up and checks nothing; it lowers the
 * TTL, writes two constant MACs and redirects to the one port.
 *
 * And the measures of the field, each a verdict by itself: drop, mirror (XDP_TX), redirect, pass.
 */
#include "bench/frame.h"

BPF_XDP_REDIRECT_MAP("devmap", int, egress, 1);
BPF_PERCPU_ARRAY(dropped, u64, 1);

int static_route(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct ipv6hdr *ip6 = data + sizeof(struct ethhdr);

	if (data + MIN_FRAME_LEN > data_end)
		return XDP_ABORTED;
	write_mac(data, NEXT_HOP_MAC);
	write_mac(data + ETH_ALEN, EGRESS_MAC);
	if (*(u16 *)(data + 12) == htons(ETH_P_IP)) {
		u32 check = ip->check + htons(0x0100);

		ip->check = (u16)(check + (check >= 0xffff));
		ip->ttl--;
	} else {
		ip6->hop_limit--;
	}
	return egress.redirect_map(0, XDP_ABORTED);
}

int drop(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 *count = dropped.lookup(&zero);

	if (count)
		(*count)++;
	return XDP_DROP;
}

int mirror(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	if (data + MIN_FRAME_LEN > data_end)
		return XDP_ABORTED;
	write_mac(data, HOST_MAC);
	write_mac(data + ETH_ALEN, ROUTER_MAC);
	return XDP_TX;
}

int redirect(struct xdp_md *ctx)
{
	return egress.redirect_map(0, XDP_ABORTED);
}

/* To a MAC that is not the port's: the stack makes its buffer, sees that in the IP layer, and frees it. */
int pass(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	if (data + MIN_FRAME_LEN > data_end)
		return XDP_ABORTED;
	write_mac(data, NEXT_HOP_MAC);
	return XDP_PASS;
}
