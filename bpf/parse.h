/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IP and what is behind it, one parse_* per header; Ethernet is in ethernet.h. Each checks its bounds and answers
 * FORWARD ("so far so good") or the verdict that ends the packet's way here. Nothing is written to the packet.
 */
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "byteorder.h"
#include "limits.h"
#include "maps.h"
#include "packet.h"
#include "verdict.h"

#define IPV6_FRAGMENT_HEADER_LEN 8
/* A first buffer that is not larger, and holds the whole datagram, is all there is: drivers fill it first, or split
 * off the headers. */
#define SURELY_ONE_BUFFER 2048
#define IPV4_FRAGMENT_MASK htons(0x3fff) /* more-fragments flag and offset */
#define IPV4_OFFSET_MASK htons(0x1fff)

/* The datagram must fill the frame, but for the padding of a minimum-size frame: the kernel trims. */
static __always_inline enum verdict check_length(struct packet *p)
{
	u32 filled = header_len(p) + p->datagram_len;

	/* Asked only where there may be more buffers than one: the call costs as much as a lookup. */
	if (filled > p->linear_len || p->linear_len > SURELY_ONE_BUFFER)
		p->frame_len = bpf_xdp_get_buff_len(p->ctx);
	if (filled > p->frame_len)
		return PASS_MALFORMED;
	/* Whoever adds a tag to a minimum-size frame makes it longer, or leaves that to the padding. */
	if (filled < p->frame_len && p->frame_len > MIN_FRAME_LEN + header_len(p) - sizeof(struct ethhdr))
		return PASS_TRAILER;
	return FORWARD;
}

/*
 * What stands for the ports in multipath hashes and policy rules: where proto_ports_offset() of
 * include/linux/ip.h finds it, the SPI of ESP and AH too.
 */
static __always_inline enum verdict parse_ports(struct packet *p, void *l4, u32 l4_len)
{
	__be16 *ports = l4;
	u32 needed = 4;

	switch (p->protocol) {
	case IPPROTO_AH:
		ports += 2;
		needed = 8;
		/* fallthrough */
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
	case IPPROTO_ESP:
		/* l4_len too: behind a short datagram lies padding, not ports */
		if (l4_len < needed || (void *)(ports + 2) > p->data_end)
			return PASS_MALFORMED;
		p->sport = ports[0];
		p->dport = ports[1];
	}
	return FORWARD;
}

/*
 * Multipath hashes an ICMP error as the flow of the packet it quotes (icmp_is_err() in include/linux/icmp.h
 * and ip_multipath_l3_keys() in net/ipv4/route.c).
 */
static __always_inline enum verdict parse_icmp(const struct packet *p, void *l4, u32 l4_len)
{
	u8 *type = l4;

	if (l4_len < 1 || (void *)(type + 1) > p->data_end)
		return PASS_MALFORMED;
	switch (*type) {
	case 3:  /* destination unreachable */
	case 4:  /* source quench */
	case 5:  /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		return PASS_ICMP;
	}
	return FORWARD;
}

/* The same for ICMPv6; neighbour discovery too, which ip6_forward() takes in for those it is a proxy of. */
static __always_inline enum verdict parse_icmpv6(const struct packet *p, void *l4, u32 l4_len)
{
	u8 *type = l4;

	if (l4_len < 1 || (void *)(type + 1) > p->data_end)
		return PASS_MALFORMED;
	if (p->flags & PASS_ICMPV6 || *type < 128 || (*type >= 133 && *type <= 137))
		return PASS_ICMP;
	return FORWARD;
}

static __always_inline bool ipv4_header_sum_ok(const struct iphdr *ip)
{
	const u16 *word = (const u16 *)ip;
	u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* 0/8, 127/8, and from 224/4 upwards: ip_route_input_slow() in net/ipv4/route.c judges these. */
static __always_inline bool ipv4_martian(__be32 address)
{
	u8 first = address & 0xff;

	return first == 0 || first == 127 || first >= 224;
}

static __always_inline enum verdict parse_ipv4(struct packet *p)
{
	struct iphdr *ip = p->data + header_len(p);
	enum verdict verdict;

	if ((void *)(ip + 1) > p->data_end || ip->version != 4 || ip->ihl < 5)
		return PASS_MALFORMED;
	if (ip->ihl > 5)
		return PASS_OPTIONS;
	if (p->flags & MULTIPATH_UNSURE_IPV4)
		return PASS_UNSURE;
	p->ipv4 = ip;
	p->datagram_len = ntohs(ip->tot_len);
	if (p->datagram_len < sizeof(*ip) || !ipv4_header_sum_ok(ip))
		return PASS_MALFORMED;
	verdict = check_length(p);
	if (verdict != FORWARD)
		return verdict;
	if ((ip->daddr & 0xf0) == 0xe0)
		return PASS_MULTICAST;
	if (ipv4_martian(ip->saddr) || ipv4_martian(ip->daddr))
		return PASS_MARTIAN;
	if (ip->ttl <= 1)
		return PASS_TTL;
	p->protocol = ip->protocol;
	if (p->protocol == IPPROTO_ICMP && !(ip->frag_off & IPV4_OFFSET_MASK)) {
		verdict = parse_icmp(p, ip + 1, p->datagram_len - sizeof(*ip));
		if (verdict != FORWARD)
			return verdict;
	}
	/* Every fragment, the first too, goes without ports, so that one datagram takes one path. */
	if (ip->frag_off & IPV4_FRAGMENT_MASK)
		return FORWARD;
	return parse_ports(p, ip + 1, p->datagram_len - sizeof(*ip));
}

/* ::/96 (with :: and ::1), ::ffff:0:0/96, fe80::/10 and ff00::/8 are left to the kernel's judgement. */
static __always_inline bool ipv6_martian(const struct in6_addr *address)
{
	const __be32 *word = address->s6_addr32;

	if (word[0] == 0 && word[1] == 0 && (word[2] == 0 || word[2] == htonl(0xffff)))
		return true;
	if (address->s6_addr[0] == 0xff)
		return true;
	return address->s6_addr[0] == 0xfe && (address->s6_addr[1] & 0xc0) == 0x80;
}

/*
 * Without ports, as in IPv4. Policy rules match the protocol behind the header; so do the multipath hashes of
 * layer 4, but that of layer 3 takes the fragment header's own number (ip6_multipath_l3_keys() in
 * net/ipv6/route.c).
 */
static __always_inline enum verdict parse_ipv6_fragment(struct packet *p, void *fragment, u32 payload_len)
{
	u8 *next_header = fragment;

	if (payload_len < IPV6_FRAGMENT_HEADER_LEN || (void *)(next_header + 1) > p->data_end)
		return PASS_MALFORMED;
	if (p->flags & PASS_IPV6_FRAGMENTS)
		return PASS_OPTIONS;
	p->protocol = p->flags & IPV6_FRAGMENT_HASHED ? IPPROTO_FRAGMENT : *next_header;
	return FORWARD;
}

static __always_inline enum verdict parse_ipv6(struct packet *p)
{
	struct ipv6hdr *ip6 = p->data + header_len(p);
	enum verdict verdict;
	u32 payload_len;

	if ((void *)(ip6 + 1) > p->data_end || ip6->version != 6)
		return PASS_MALFORMED;
	if (p->flags & PASS_IPV6)
		return PASS_FORWARDING_OFF;
	if (p->flags & (MULTIPATH_UNSURE_IPV6 | RULES_UNSURE_IPV6))
		return PASS_UNSURE;
	p->ipv6 = ip6;
	payload_len = ntohs(ip6->payload_len);
	if (payload_len > 0xffff - sizeof(*ip6))
		return PASS_TOO_BIG;
	p->datagram_len = payload_len + sizeof(*ip6);
	verdict = check_length(p);
	if (verdict != FORWARD)
		return verdict;
	if (ip6->daddr.s6_addr[0] == 0xff)
		return PASS_MULTICAST;
	if (ipv6_martian(&ip6->saddr) || ipv6_martian(&ip6->daddr))
		return PASS_MARTIAN;
	if (ip6->hop_limit <= 1)
		return PASS_TTL;
	switch (ip6->nexthdr) {
	case IPPROTO_HOPOPTS: /* the router's own business; with length 0, a jumbogram */
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS: /* the kernel finds the ports behind it, this parser would not */
		return PASS_OPTIONS;
	case IPPROTO_FRAGMENT:
		return parse_ipv6_fragment(p, ip6 + 1, payload_len);
	case IPPROTO_ICMPV6:
		verdict = parse_icmpv6(p, ip6 + 1, payload_len);
		if (verdict != FORWARD)
			return verdict;
	}
	p->protocol = ip6->nexthdr;
	return parse_ports(p, ip6 + 1, payload_len);
}
