/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One message about a route, in an rtnetlink socket's buffer. It is copied once and then walked on the stack: a
 * call for each attribute cost more than all the rest of route_events.h.
 */
#pragma once
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

/*
 * What is looked for comes before the next hop, and so within these bytes, unless a long RTA_METRICS is there:
 * fib_dump_info() in net/ipv4/fib_semantics.c, rt6_fill_node() in net/ipv6/route.c.
 */
#define ROUTE_HEAD 128
#define ROUTE_ATTRIBUTES 7  /* before the next hop */
#define ROUTE_REST 5        /* behind metrics that did not fit */

struct route_message {
	union {
		struct {
			struct nlmsghdr header;
			struct rtmsg route;
		};
		u32 words[ROUTE_HEAD / 4];
	};
	u32 seen; /* ATTRIBUTE() of those up to the next hop */
};

#define ROUTE_FIXED (NLMSG_HDRLEN + sizeof(struct rtmsg))
#define ATTRIBUTE(kind) (1U << ((kind) & 31))
#define NEXT_HOP (ATTRIBUTE(RTA_MULTIPATH) | ATTRIBUTE(RTA_GATEWAY) | ATTRIBUTE(RTA_OIF) | ATTRIBUTE(RTA_VIA))

/* A message without a next hop in its head: attribute by attribute from the buffer. */
static __always_inline void read_rest(struct __sk_buff *skb, u32 offset, u32 end, struct route_message *message)
{
	struct rtattr attribute;

#pragma nounroll
	for (int i = 0; i < ROUTE_REST; i++) {
		if (offset + sizeof(attribute) > end || bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			return;
		message->seen |= ATTRIBUTE(attribute.rta_type);
		if (message->seen & NEXT_HOP)
			return;
		offset += RTA_ALIGN(attribute.rta_len);
	}
}

/* The message at `offset`; false if there is none, or a part. `message` must be initialised. */
static __always_inline bool read_route(struct __sk_buff *skb, u32 offset, struct route_message *message)
{
	u64 loaded = skb->len - offset;
	u32 at = ROUTE_FIXED;
	u32 end, index, word, length, seen = 0;

	message->seen = 0;
	if (loaded > ROUTE_HEAD)
		loaded = ROUTE_HEAD;
	/* Keeps the comparisons in the register that the verifier looks at, and apart. */
	asm volatile("" : "+r"(loaded));
	if (loaded < ROUTE_FIXED)
		return false;
	asm volatile("" : "+r"(loaded));
	if (loaded > ROUTE_HEAD || bpf_skb_load_bytes(skb, offset, message, loaded))
		return false;
	end = message->header.nlmsg_len;
	if (loaded > end)
		loaded = end; /* what follows is the next message's */
#pragma unroll
	for (int i = 0; i < ROUTE_ATTRIBUTES; i++) {
		if (at + sizeof(struct rtattr) > loaded || at > ROUTE_HEAD - 4)
			break;
		index = at / 4;
		asm volatile("" : "+r"(index)); /* Linux 6.1 does not see that `at` was compared */
		word = message->words[index & (ROUTE_HEAD / 4 - 1)];
		seen |= ATTRIBUTE(word >> 16);
		length = word & 0xffff;
		at += RTA_ALIGN(length);
		if (seen & NEXT_HOP)
			break;
	}
	message->seen = seen;
	if (!(seen & NEXT_HOP) && at < end)
		read_rest(skb, offset + at, offset + end, message);
	return true;
}

/* The first word of the destination, which both families write behind the table. False if it is not there. */
static __always_inline bool find_destination(const struct route_message *message, __be32 *destination)
{
	u32 first = ROUTE_FIXED / 4, second = first + 2;

	if (message->header.nlmsg_len < 4 * (second + 2) || message->words[first] != (RTA_TABLE << 16 | 8) ||
	    message->words[second] >> 16 != RTA_DST)
		return false;
	*destination = message->words[second + 1];
	return true;
}
