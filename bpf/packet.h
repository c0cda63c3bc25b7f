/* SPDX-License-Identifier: GPL-2.0-only */
/* What is known of the frame on its way: where it is, and what the parsers have found. */
#pragma once
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "features.h"

struct packet {
	void *data;
	void *data_end;   /* end of the linear part */
	struct xdp_md *ctx;
	u32 frame_len;    /* of all buffers */
	u32 linear_len;
	u16 ethertype;    /* network order, behind the tags */
	u16 version;      /* 4 or 6, by the EtherType alone */
	u16 datagram_len; /* host order, IP header included */
	u16 flags;        /* enum interface_flag of the ingress */
	u16 l2_len;       /* of the Ethernet header with its tags; ask header_len() */
	u32 tags;         /* that it came with */
	/* of the ingress interface, as the FIB knows it */
	u32 ifindex;
	u32 narrow_mtu;
	u32 vrf;
	u8 protocol;      /* L4; policy rules may match it, for fragments too */
	__be16 sport;
	__be16 dport;
	union {
		struct iphdr *ipv4;
		struct ipv6hdr *ipv6;
	};
};

static __always_inline bool is_ipv4(const struct packet *p)
{
	return p->version == 4;
}

/* Of the Ethernet header with its tags. */
static __always_inline u32 header_len(const struct packet *p)
{
	return FEATURE_VLAN ? p->l2_len & 31 : sizeof(struct ethhdr);
}
