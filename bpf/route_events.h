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
#include "coherence.h"
#include "maps.h"
#include "route_message.h"

/* Answers for destinations of a long prefix lie in one block; a short one voids the family's. */
static __always_inline void void_destinations(struct coherence *c, const struct route_message *message)
{
	u32 family = message->route.rtm_family == AF_INET ? IPV4 : IPV6;
	__be32 destination;

	if (message->route.rtm_dst_len < (family == IPV4 ? 12 : 24) || !find_destination(message, &destination))
		void_family(c, family);
	else if (family == IPV4)
		void_block(c, block4(destination));
	else
		void_block(c, block6(destination));
}

/* Why the answer for this route depends on more than the destination. */
static __always_inline u32 reasons_of(const struct route_message *message)
{
	if (message->header.nlmsg_type != RTM_NEWROUTE)
		return 0;
	return (message->seen & ATTRIBUTE(RTA_MULTIPATH) ? MULTIPATH : 0) | (message->route.rtm_src_len ? BY_SOURCE : 0) |
	       (message->route.rtm_tos ? BY_TOS : 0);
}

/* Blackholes beyond the room drop as well; which of them are counted one by one is found out later. */
static __always_inline bool is_of_note(struct route_census *census, const struct route_message *message)
{
	if (message->header.nlmsg_type != RTM_NEWROUTE)
		return false;
	switch (message->route.rtm_type) {
	case RTN_LOCAL:
	case RTN_BROADCAST:
	case RTN_ANYCAST:
		return true;
	case RTN_BLACKHOLE:
		if (census->blackhole_room > 0) {
			__sync_fetch_and_add(&census->blackhole_room, -1);
			return true;
		}
	}
	return message->seen & ATTRIBUTE(RTA_METRICS);
}

/* Two CPUs may announce routes at once: of IPv4 and of IPv6, which do not share a lock. */
static __always_inline void count_churn(const struct route_message *message)
{
	struct route_churn *churn = route_churn();
	u32 protocol = message->route.rtm_protocol;

	if (message->header.nlmsg_type == RTM_NEWROUTE)
		__sync_fetch_and_add(&churn->added[protocol], 1);
	else if (message->header.nlmsg_type == RTM_DELROUTE)
		__sync_fetch_and_add(&churn->deleted[protocol], 1);
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
		changes->last_ns = bpf_ktime_get_coarse_ns();
	}
	if (!read_route(skb, 0, &message)) {
		note_change(c);
		return skb->len;
	}
	void_destinations(c, &message);
	count_churn(&message);
	reasons = reasons_of(&message) & ~c->known_reasons;
	if (reasons)
		note_change(c);
	return reasons || is_of_note(route_census(), &message) ? skb->len : 0;
}
