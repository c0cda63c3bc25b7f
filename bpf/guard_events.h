/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Socket filters on netlink sockets that joined the groups of nftables, tc and XFRM. The kernel runs them
 * while it announces a change, before the system call that made the change returns. An announcement of
 * something new stops the fast path (guard.h); what matters also reaches the receive buffer, the rest
 * does not. One announcement can carry several messages.
 */
#pragma once
#include "maps.h"

#define MAX_ANNOUNCED_MESSAGES 64 /* with more, the announcement counts as the worst */
#define KEEP_WHOLE 0xffffffff

enum announced {
	UNIMPORTANT, /* changes nothing about whether a packet meets a rule */
	FEWER,       /* something went: user space looks, the fast path need not wait */
	MORE,        /* something new may have to see the next packet */
};

/* NFT_MSG_* of linux/netfilter/nf_tables.h. Set elements come by the thousand and are no rules. */
static __always_inline enum announced nftables_announced(u16 type)
{
	switch (type & 0xff) {
	case 12: /* NEWSETELEM */
	case 14: /* DELSETELEM */
	case 15: /* NEWGEN */
	case 17: /* TRACE */
		return UNIMPORTANT;
	case 2:  /* DELTABLE */
	case 5:  /* DELCHAIN */
	case 8:  /* DELRULE */
	case 11: /* DELSET */
	case 20: /* DELOBJ */
	case 24: /* DELFLOWTABLE */
		return FEWER;
	}
	return MORE;
}

/* RTM_* of linux/rtnetlink.h. Classes and actions matter only through a qdisc or a filter. */
static __always_inline enum announced traffic_control_announced(u16 type)
{
	switch (type) {
	case 36:  /* NEWQDISC */
	case 44:  /* NEWTFILTER */
	case 100: /* NEWCHAIN */
		return MORE;
	case 37:  /* DELQDISC */
	case 45:  /* DELTFILTER */
	case 101: /* DELCHAIN */
		return FEWER;
	}
	return UNIMPORTANT;
}

/* XFRM_MSG_* of linux/xfrm.h. Everything else in the policy group is a policy, or the default one. */
static __always_inline enum announced xfrm_announced(u16 type)
{
	switch (type) {
	case 20: /* DELPOLICY */
	case 27: /* POLEXPIRE */
	case 29: /* FLUSHPOLICY */
		return FEWER;
	}
	return MORE;
}

/* How much of the announcement goes to the receive buffer: all or nothing. */
static __always_inline int announce(struct __sk_buff *skb, enum announced (*judge)(u16))
{
	struct {
		u32 length;
		u16 type;
		u16 flags;
	} message;
	u32 offset = 0;
	enum announced worst = UNIMPORTANT, one;
	int i;

	for (i = 0; i < MAX_ANNOUNCED_MESSAGES; i++) {
		if (bpf_skb_load_bytes(skb, offset, &message, sizeof(message)) < 0)
			break; /* the end */
		one = judge(message.type);
		if (one > worst)
			worst = one;
		if (message.length < sizeof(message) || message.length > 0xffff) {
			worst = MORE; /* cannot be read on */
			break;
		}
		offset += (message.length + 3) & ~3;
	}
	if (i == MAX_ANNOUNCED_MESSAGES && offset < skb->len)
		worst = MORE;
	if (worst == MORE && guard()[GUARD_ENFORCED])
		__sync_fetch_and_add(&guard()[GUARD_CHANGES], 1);
	return worst == UNIMPORTANT ? 0 : KEEP_WHOLE;
}

int nftables_event(struct __sk_buff *skb)
{
	return announce(skb, nftables_announced);
}

int traffic_control_event(struct __sk_buff *skb)
{
	return announce(skb, traffic_control_announced);
}

int xfrm_event(struct __sk_buff *skb)
{
	return announce(skb, xfrm_announced);
}
