/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The benchmark's frames. The MACs are -D constants whose low six bytes are the address in memory order;
 * SOURCE4 and SOURCE6 (its upper half) are in memory order too.
 */
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#define htons(x) __builtin_bswap16(x)
#define MIN_FRAME_LEN 64 /* holds every header that is written or looked at */
#define TTL 64
#define TAG_LEN 4

static __always_inline void write_mac(void *to, u64 mac)
{
	*(u32 *)to = (u32)mac;
	*(u16 *)(to + 4) = (u16)(mac >> 32);
}

static __always_inline bool has_mac(const void *at, u64 mac)
{
	return *(u32 *)at == (u32)mac && *(u16 *)(at + 4) == (u16)(mac >> 32);
}
