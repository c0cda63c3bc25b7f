/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A socket filter on an rtnetlink socket that joined the route groups. The kernel runs it at the moment it
 * announces a route. It makes cached answers void, notes that the FIB changed, and keeps the message out of
 * the receive buffer: a million routes cost the daemon nothing and cannot overrun it. New routes of the few
 * kinds that controlplane/notes.py follows are let through.
 *
 * A new route is announced when it is in force, a deletion before: struct coherence has the remedy.
 */
#pragma once
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include "coherence.h"
#include "maps.h"

/* Attributes up to the next hops: fib_dump_info() in net/ipv4/fib_semantics.c, rt6_fill_node() in net/ipv6/route.c */
#define ROUTE_ATTRIBUTES 10

struct route_message {
	struct nlmsghdr header;
	struct rtmsg route;
	__be32 destination; /* its first word; 0 for a default route */
	bool has_metrics;
	bool has_multipath;
};

static __always_inline bool read_route(struct __sk_buff *skb, struct route_message *message)
{
	u32 offset = NLMSG_HDRLEN + sizeof(struct rtmsg);
	struct rtattr attribute;

	if (bpf_skb_load_bytes(skb, 0, &message->header, sizeof(message->header)) ||
	    bpf_skb_load_bytes(skb, NLMSG_HDRLEN, &message->route, sizeof(message->route)))
		return false;
#pragma unroll
	for (int i = 0; i < ROUTE_ATTRIBUTES; i++) {
		if (bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			break;
		if (attribute.rta_type == RTA_DST)
			bpf_skb_load_bytes(skb, offset + sizeof(attribute), &message->destination, 4);
		if (attribute.rta_type == RTA_METRICS)
			message->has_metrics = true;
		if (attribute.rta_type == RTA_MULTIPATH)
			message->has_multipath = true;
		offset += RTA_ALIGN(attribute.rta_len);
	}
	return true;
}

/* Answers for destinations of a long prefix lie in one block; a short one voids the family's. */
static __always_inline void void_destinations(struct coherence *c, const struct route_message *message)
{
	u32 family = message->route.rtm_family == AF_INET ? IPV4 : IPV6;
	struct block *block = NULL;
	u32 index;

	if (family == IPV4 && message->route.rtm_dst_len >= 12) {
		index = htonl(message->destination) >> 20 & (BLOCKS - 1);
		block = &blocks4()[index];
	} else if (family == IPV6 && message->route.rtm_dst_len >= 24) {
		index = block6_of(message->destination);
		block = &blocks6()[index];
	}
	if (block)
		void_block(c, block);
	else
		void_family(c, family);
}

/* Why the answer for this route depends on more than the destination. */
static __always_inline u32 reasons_of(const struct route_message *message)
{
	if (message->header.nlmsg_type != RTM_NEWROUTE)
		return 0;
	return (message->has_multipath ? MULTIPATH : 0) | (message->route.rtm_src_len ? BY_SOURCE : 0) |
	       (message->route.rtm_tos ? BY_TOS : 0);
}

static __always_inline bool is_of_note(const struct route_message *message)
{
	if (message->header.nlmsg_type != RTM_NEWROUTE)
		return false;
	switch (message->route.rtm_type) {
	case RTN_LOCAL:
	case RTN_BROADCAST:
	case RTN_ANYCAST:
	case RTN_BLACKHOLE:
		return true;
	}
	return message->has_metrics;
}

int route_event(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct route_changes *changes = route_changes.lookup(&zero);
	struct coherence *c = coherence();
	struct route_message message = {};
	u32 reasons;

	if (changes) {
		__sync_fetch_and_add(&changes->count, 1);
		changes->last_ns = bpf_ktime_get_ns();
	}
	if (!read_route(skb, &message)) {
		note_change(c);
		return skb->len;
	}
	void_destinations(c, &message);
	reasons = reasons_of(&message) & ~c->known_reasons;
	if (reasons)
		note_change(c);
	return reasons || is_of_note(&message) ? skb->len : 0;
}
