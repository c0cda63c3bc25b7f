/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limit: what any XDP router must do at least. It looks nothing up and checks nothing; it lowers the
 * TTL, writes two constant MACs and redirects to the one port.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define htons(x) __builtin_bswap16(x)

BPF_XDP_REDIRECT_MAP("devmap", int, egress, 1);

int static_route(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct ipv6hdr *ip6 = data + sizeof(*eth);

	if (data + FRAME_LEN > data_end)
		return XDP_ABORTED;
	*(u32 *)eth->h_dest = (u32)NEXT_HOP_MAC;
	*(u16 *)(eth->h_dest + 4) = (u16)(NEXT_HOP_MAC >> 32);
	*(u32 *)eth->h_source = (u32)EGRESS_MAC;
	*(u16 *)(eth->h_source + 4) = (u16)(EGRESS_MAC >> 32);
	if (*(u16 *)(data + 12) == htons(ETH_P_IP)) {
		u32 check = ip->check + htons(0x0100);

		ip->check = (u16)(check + (check >= 0xffff));
		ip->ttl--;
	} else {
		ip6->hop_limit--;
	}
	return egress.redirect_map(0, XDP_ABORTED);
}
