/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bridges that hold an address: a host behind one is reached by the member where the bridge has learned its MAC.
 * The map is a copy of the kernel's FDB, kept by coherence_events.h at the moment of each announcement, and believed only
 * while a daemon lives: nobody else would notice that a host has moved.
 */
#pragma once
#include "answer.h"
#include "maps.h"

/* In jiffies. A bridge whose ageing time is not well above this is left to the kernel. */
#define FDB_REFRESH_TIME (10 * HZ)

static __always_inline struct fdb_entry *find_host(u32 bridge, const u8 *mac)
{
	struct fdb_key key = {.bridge = bridge};

	if (!is_ahead(READ_ONCE(coherence()->listening), coarse_time(), LONGEST_LEASE))
		return NULL;
	for (int i = 0; i < 3; i++)
		((u16 *)key.mac)[i] = ((const u16 *)mac)[i];
	return fdb.lookup(&key);
}

/*
 * Whether the bridge has learned that the frame's sender is behind this member. If not, the kernel has to; and every
 * now and then it has to see a frame, or it would forget a sender all of whose frames are forwarded here.
 */
static __always_inline bool sender_is_known(u32 bridge, u32 member, const struct ethhdr *eth)
{
	struct fdb_entry *entry = find_host(bridge, eth->h_source);
	u32 now = coarse_time();

	if (!entry || entry->member != member)
		return false;
	if (now - entry->refreshed < FDB_REFRESH_TIME)
		return true;
	entry->refreshed = now;
	return false;
}

/* The member, of those that are ports, by which a host is reached; NULL if the bridge would have to flood. */
static __always_inline struct interface *member_towards(u32 bridge, const u8 *mac)
{
	struct fdb_entry *entry = find_host(bridge, mac);

	return entry ? find_interface(entry->member) : NULL;
}
