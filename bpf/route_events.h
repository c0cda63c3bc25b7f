/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A socket filter on an rtnetlink socket that joined the route groups. The kernel runs it at the moment it
 * announces a route. It notes that the FIB changed and keeps the message out of the receive buffer:
 * a million routes cost the daemon nothing and cannot overrun it.
 */
#pragma once
#include "maps.h"

int route_event(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct route_changes *changes = route_changes.lookup(&zero);

	if (changes) {
		__sync_fetch_and_add(&changes->count, 1);
		changes->last_ns = bpf_ktime_get_ns();
	}
	return 0;
}
