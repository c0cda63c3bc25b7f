/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writes a 64-byte UDP frame anew (pages are recycled, so all that a router changes must be reset), for
 * the next destination in order, and hands it to the chosen contender. With no contender in the slot
 * the packet goes up the stack: the kernel's own forwarding.
 *
 * MACs are -D constants whose low six bytes are the address in memory order.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#define htons(x) __builtin_bswap16(x)
#define DATAGRAM_LEN (FRAME_LEN - sizeof(struct ethhdr))
/* version and header length, total length, TTL and protocol, as the 16-bit words of the header sum */
#define IPV4_CONSTANT_SUM (0x4500 + DATAGRAM_LEN + ((TTL << 8) | IPPROTO_UDP))

struct cursor {
	u32 next;
	u32 contender;
};
BPF_PERCPU_ARRAY(cursor, struct cursor, 1);
/* IPv4: the address in the low half. IPv6: the upper half of the address, the rest is constant. */
BPF_ARRAY(destinations, u64, DESTINATIONS);
BPF_PROG_ARRAY(contenders, 8);

static __always_inline void write_ethernet(void *data, u16 ethertype)
{
	struct ethhdr *eth = data;

	*(u32 *)eth->h_dest = (u32)ROUTER_MAC;
	*(u16 *)(eth->h_dest + 4) = (u16)(ROUTER_MAC >> 32);
	*(u32 *)eth->h_source = (u32)HOST_MAC;
	*(u16 *)(eth->h_source + 4) = (u16)(HOST_MAC >> 32);
	*(u16 *)(data + 12) = htons(ethertype);
}

static __always_inline void write_udp(struct udphdr *udp, u16 length)
{
	udp->source = htons(1024);
	udp->dest = htons(9);
	udp->len = htons(length);
	udp->check = 0;
}

static __always_inline void write_ipv4(void *data, u32 destination)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);
	u32 sum = IPV4_CONSTANT_SUM;

	write_ethernet(data, ETH_P_IP);
	*(u16 *)ip = htons(0x4500);
	ip->tot_len = htons(DATAGRAM_LEN);
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
	write_udp((void *)(ip + 1), DATAGRAM_LEN - sizeof(*ip));
}

static __always_inline void write_ipv6(void *data, u64 destination)
{
	struct ipv6hdr *ip6 = data + sizeof(struct ethhdr);

	write_ethernet(data, ETH_P_IPV6);
	*(u32 *)ip6 = 0x60;
	ip6->payload_len = htons(DATAGRAM_LEN - sizeof(*ip6));
	ip6->nexthdr = IPPROTO_UDP;
	ip6->hop_limit = TTL;
	*(u64 *)&ip6->saddr = SOURCE6;
	*((u64 *)&ip6->saddr + 1) = __builtin_bswap64(2);
	*(u64 *)&ip6->daddr = destination;
	*((u64 *)&ip6->daddr + 1) = __builtin_bswap64(1);
	write_udp((void *)(ip6 + 1), DATAGRAM_LEN - sizeof(*ip6));
}

static __always_inline int generate(struct xdp_md *ctx, bool ipv4)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	u32 zero = 0, index;
	struct cursor *at = cursor.lookup(&zero);
	u64 *destination;

	if (!at || data + FRAME_LEN > data_end)
		return XDP_ABORTED;
	index = at->next++ & (DESTINATIONS - 1);
	destination = destinations.lookup(&index);
	if (!destination)
		return XDP_ABORTED;
	if (ipv4)
		write_ipv4(data, (u32)*destination);
	else
		write_ipv6(data, *destination);
	contenders.call(ctx, at->contender);
	return XDP_PASS;
}

int generate4(struct xdp_md *ctx)
{
	return generate(ctx, true);
}

int generate6(struct xdp_md *ctx)
{
	return generate(ctx, false);
}
