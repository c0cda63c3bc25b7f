/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A firewall rule that has just been added must see the very next packet, and user space needs a moment to
 * find out which ports it concerns. Until then every packet goes to the kernel.
 */
#pragma once
#include "maps.h"

static __always_inline bool firewall_changed(void)
{
	u32 changes_key = GUARD_CHANGES, examined_key = GUARD_EXAMINED;
	u64 *changes = guard.lookup(&changes_key), *examined = guard.lookup(&examined_key);

	return !changes || !examined || *(volatile u64 *)changes != *(volatile u64 *)examined;
}
