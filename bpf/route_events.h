/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A socket filter on an rtnetlink socket that joined the route groups. The kernel runs it at the moment it
 * announces a route. It notes that the FIB changed and keeps the message out of the receive buffer: a
 * million routes cost the daemon nothing and cannot overrun it. New routes of the few kinds that
 * controlplane/notes.py follows are let through.
 */
#pragma once
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include "maps.h"

#define METRICS_WITHIN 6 /* fib_dump_info() in net/ipv4/fib_semantics.c: table, destination, priority, metrics */

static __always_inline bool has_metrics(struct __sk_buff *skb)
{
	u32 offset = NLMSG_HDRLEN + sizeof(struct rtmsg);
	struct rtattr attribute;

#pragma unroll
	for (int i = 0; i < METRICS_WITHIN; i++) {
		if (bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			return false;
		if (attribute.rta_type == RTA_METRICS)
			return true;
		offset += RTA_ALIGN(attribute.rta_len);
	}
	return false;
}

static __always_inline bool is_of_note(struct __sk_buff *skb)
{
	struct nlmsghdr header;
	struct rtmsg route;

	if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)) || header.nlmsg_type != RTM_NEWROUTE)
		return false;
	if (bpf_skb_load_bytes(skb, NLMSG_HDRLEN, &route, sizeof(route)))
		return false;
	switch (route.rtm_type) {
	case RTN_LOCAL:
	case RTN_BROADCAST:
	case RTN_ANYCAST:
	case RTN_BLACKHOLE:
		return true;
	}
	return has_metrics(skb);
}

int route_event(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct route_changes *changes = route_changes.lookup(&zero);

	if (changes) {
		__sync_fetch_and_add(&changes->count, 1);
		changes->last_ns = bpf_ktime_get_ns();
	}
	return is_of_note(skb) ? skb->len : 0;
}
