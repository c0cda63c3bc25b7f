/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A socket filter on the socket that asks for a dump of the routes. The kernel runs it on each buffer that it has
 * filled, in the system call of who reads; counting here takes a tenth of what Python takes. A buffer with nothing
 * but ordinary routes is cut down to one header; others, and the end of the dump, come through whole.
 */
#pragma once
#include "maps.h"
#include "route_events.h"

/* And 33 tail calls: a buffer has 32 KiB at most, a route with its table 36 bytes at least. */
#define MESSAGES_PER_CALL 32
BPF_PROG_ARRAY(census_calls, 1);

static __always_inline bool is_counted(const struct rtmsg *route)
{
	if (route->rtm_table == RT_TABLE_LOCAL)
		return false;
	switch (route->rtm_type) {
	case RTN_UNICAST:
	case RTN_BLACKHOLE:
	case RTN_UNREACHABLE:
	case RTN_PROHIBIT:
	case RTN_THROW:
		return true;
	}
	return false;
}

/* Whether it may stay behind in the kernel. */
static __always_inline bool count_route(struct route_census *census, const struct route_message *message)
{
	u32 family = message->route.rtm_family == AF_INET ? IPV4 : IPV6;

	if (message->header.nlmsg_type != RTM_NEWROUTE)
		return false;
	if (is_counted(&message->route))
		census->routes[family][message->route.rtm_protocol]++;
	census->reasons |= reasons_of(message);
	return !is_of_note(census, message);
}

/* skb->cb: where to go on, and whether the buffer must come through; zeros at first. */
int route_dump(struct __sk_buff *skb)
{
	struct route_census *census = route_census();
	struct route_message message = {};
	u32 offset = skb->cb[0];

#pragma nounroll
	for (int i = 0; i < MESSAGES_PER_CALL; i++) {
		if (offset >= skb->len)
			return skb->cb[1] ? skb->len : NLMSG_HDRLEN;
		if (!read_route(skb, offset, &message))
			return skb->len; /* the end of the dump, or an error */
		if (!count_route(census, &message))
			skb->cb[1] = 1;
		if (message.header.nlmsg_len < NLMSG_HDRLEN || message.header.nlmsg_len > skb->len)
			return skb->len;
		offset += NLMSG_ALIGN(message.header.nlmsg_len);
	}
	skb->cb[0] = offset;
	census_calls.call(skb, 0);
	return skb->len;
}
