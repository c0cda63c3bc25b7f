/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Socket filters on rtnetlink sockets of their own, for whatever besides routes an answer of the FIB depends on.
 * The kernel runs them at the moment of the announcement; nothing reaches the receive buffer.
 */
#pragma once
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include "bridge.h"
#include "coherence.h"
#include "ethernet.h"
#include "route_events.h"

#define NEIGHBOUR_ATTRIBUTES 4 /* neigh_fill_info() in net/core/neighbour.c: destination and MAC are the first */
#define NEIGHBOUR_VALID (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)
#define FDB_ATTRIBUTES 5       /* fdb_fill_info() in net/bridge/br_fdb.c: MAC and bridge first, VLAN the fifth */
#define NEXTHOP_ATTRIBUTES 4

struct neighbour_message {
	struct nlmsghdr header;
	struct ndmsg neighbour;
	struct next_hop hop;
	struct known_neighbour now;
	bool has_mac;
};

static __always_inline bool read_neighbour(struct __sk_buff *skb, struct neighbour_message *message)
{
	u32 offset = NLMSG_HDRLEN + sizeof(struct ndmsg);
	struct rtattr attribute;

	if (bpf_skb_load_bytes(skb, 0, &message->header, sizeof(message->header)) ||
	    bpf_skb_load_bytes(skb, NLMSG_HDRLEN, &message->neighbour, sizeof(message->neighbour)))
		return false;
	message->hop.ifindex = message->neighbour.ndm_ifindex;
	message->hop.family = message->neighbour.ndm_family;
#pragma unroll
	for (int i = 0; i < NEIGHBOUR_ATTRIBUTES; i++) {
		if (bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			break;
		if (attribute.rta_type == NDA_DST && attribute.rta_len == 4 + 4)
			bpf_skb_load_bytes(skb, offset + 4, message->hop.address, 4);
		if (attribute.rta_type == NDA_DST && attribute.rta_len == 4 + 16)
			bpf_skb_load_bytes(skb, offset + 4, message->hop.address, 16);
		if (attribute.rta_type == NDA_LLADDR && attribute.rta_len == 4 + 6) {
			bpf_skb_load_bytes(skb, offset + 4, message->now.mac, 6);
			message->has_mac = true;
		}
		offset += RTA_ALIGN(attribute.rta_len);
	}
	return true;
}

/* What a bridge has learned, or forgotten. `message` is that of its member. */
static __always_inline void fdb_event(struct __sk_buff *skb, const struct neighbour_message *message)
{
	u32 offset = NLMSG_HDRLEN + sizeof(struct ndmsg);
	struct fdb_entry entry = {.member = message->hop.ifindex};
	struct coherence *c = coherence();
	struct fdb_entry *known;
	struct rtattr attribute;
	struct fdb_key key = {};

#pragma unroll
	for (int i = 0; i < FDB_ATTRIBUTES; i++) {
		if (bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			break;
		if (attribute.rta_type == NDA_LLADDR && attribute.rta_len == 4 + 6)
			bpf_skb_load_bytes(skb, offset + 4, key.mac, 6);
		if (attribute.rta_type == NDA_MASTER && attribute.rta_len == 4 + 4)
			bpf_skb_load_bytes(skb, offset + 4, &key.bridge, 4);
		if (attribute.rta_type == NDA_VLAN)
			return; /* without VLAN filtering, which such a bridge does not do, nobody looks for those */
		offset += RTA_ALIGN(attribute.rta_len);
	}
	if (!key.bridge)
		return; /* a device's own table, as VXLAN has one */
	known = fdb.lookup(&key);
	if (message->header.nlmsg_type != RTM_NEWNEIGH) {
		if (!known || known->member != entry.member)
			return; /* it has moved meanwhile */
		fdb.delete(&key);
	} else if (message->neighbour.ndm_state & NUD_PERMANENT) { /* the bridge's own */
		if (!known)
			return;
		fdb.delete(&key);
	} else {
		if (known && known->member == entry.member)
			return;
		entry.refreshed = coarse_time();
		fdb.update(&key, &entry);
	}
	/* Of a host that was not known nothing is cached. */
	if (known)
		void_everything(c);
}

/* A neighbour that is only confirmed, or waits to be, changes nothing. */
int neighbour_event(struct __sk_buff *skb)
{
	struct neighbour_message message = {};
	struct coherence *c = coherence();
	struct known_neighbour *known;
	u8 family;

	if (!read_neighbour(skb, &message)) {
		void_everything(c);
		return 0;
	}
	family = message.neighbour.ndm_family;
	if (family == AF_BRIDGE)
		fdb_event(skb, &message);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	known = known_neighbours.lookup(&message.hop);
	if (message.header.nlmsg_type == RTM_NEWNEIGH && message.neighbour.ndm_state & NEIGHBOUR_VALID &&
	    message.has_mac) {
		if (known && same_mac(known->mac, message.now.mac))
			return 0;
		known_neighbours.update(&message.hop, &message.now);
	} else if (known) {
		known_neighbours.delete(&message.hop);
	}
	void_neighbour(c, &message.hop);
	return 0;
}

static __always_inline bool is_nexthop_group(struct __sk_buff *skb)
{
	u32 offset = NLMSG_HDRLEN + sizeof(struct nhmsg);
	struct rtattr attribute;

#pragma unroll
	for (int i = 0; i < NEXTHOP_ATTRIBUTES; i++) {
		if (bpf_skb_load_bytes(skb, offset, &attribute, sizeof(attribute)))
			return false;
		if (attribute.rta_type == NHA_GROUP)
			return true;
		offset += RTA_ALIGN(attribute.rta_len);
	}
	return false;
}

/* The daemon asks for the time by BPF_PROG_TEST_RUN, since nothing else tells jiffies. */
int tell_time(struct __sk_buff *skb)
{
	return coarse_time();
}

int setting_event(struct __sk_buff *skb)
{
	struct coherence *c = coherence();
	struct nlmsghdr header = {};
	u8 family = 0;

	bpf_skb_load_bytes(skb, 0, &header, sizeof(header));
	bpf_skb_load_bytes(skb, NLMSG_HDRLEN, &family, sizeof(family));
	switch (header.nlmsg_type) {
	case RTM_NEWLINK: /* AF_BRIDGE too: a member may forward no more */
	case RTM_DELLINK:
		void_everything(c);
		return 0;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		void_family(c, family == AF_INET ? IPV4 : IPV6);
		return 0;
	case RTM_NEWNEXTHOP:
		if (!(c->known_reasons & MULTIPATH) && is_nexthop_group(skb))
			break;
		void_everything(c);
		return 0;
	case RTM_DELNEXTHOP:
	case RTM_NEWNEXTHOPBUCKET: /* of a resilient group */
		void_everything(c);
		return 0;
	}
	note_change(c); /* rules, sysctls, and whatever else is announced in these groups */
	return 0;
}
