/* SPDX-License-Identifier: GPL-2.0-only */
/* Writes a whole UDP frame over a recycled page: all that a router changes is reset. */
#pragma once
#include "bench/frame.h"

/* With a tag if `vid` is not 0. Returns where the datagram begins. */
static __always_inline void *write_ethernet(void *data, u16 vid, u16 ethertype)
{
	u16 *at = data + 2 * ETH_ALEN;

	write_mac(data, ROUTER_MAC);
	write_mac(data + ETH_ALEN, HOST_MAC);
	if (vid) {
		*at++ = htons(ETH_P_8021Q);
		*at++ = htons(vid);
	}
	*at++ = htons(ethertype);
	return at;
}

static __always_inline void write_udp(struct udphdr *udp, u16 length)
{
	udp->source = htons(1024);
	udp->dest = htons(9);
	udp->len = htons(length);
	udp->check = 0;
}

static __always_inline void write_ipv4(void *data, u16 vid, u32 destination, u32 datagram_len)
{
	struct iphdr *ip = write_ethernet(data, vid, ETH_P_IP);
	u32 sum = 0x4500 + datagram_len + ((TTL << 8) | IPPROTO_UDP);

	*(u16 *)ip = htons(0x4500);
	ip->tot_len = htons((u16)datagram_len);
	*(u32 *)&ip->id = 0;
	ip->ttl = TTL;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = SOURCE4;
	ip->daddr = destination;
	sum += htons(SOURCE4 & 0xffff) + htons(SOURCE4 >> 16);
	sum += htons(destination & 0xffff) + htons(destination >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = htons((u16)~sum);
	write_udp((void *)(ip + 1), datagram_len - sizeof(*ip));
}

static __always_inline void write_ipv6(void *data, u16 vid, u64 destination, u32 datagram_len)
{
	struct ipv6hdr *ip6 = write_ethernet(data, vid, ETH_P_IPV6);
	u16 payload_len = datagram_len - sizeof(*ip6);

	*(u32 *)ip6 = 0x60;
	ip6->payload_len = htons(payload_len);
	ip6->nexthdr = IPPROTO_UDP;
	ip6->hop_limit = TTL;
	*(u64 *)&ip6->saddr = SOURCE6;
	*((u64 *)&ip6->saddr + 1) = __builtin_bswap64(2);
	*(u64 *)&ip6->daddr = destination;
	*((u64 *)&ip6->daddr + 1) = __builtin_bswap64(1);
	write_udp((void *)(ip6 + 1), payload_len);
}
