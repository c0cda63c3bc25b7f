/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A firewall rule that has just been added must see the very next packet, and user space needs a moment to
 * find out which ports it concerns. Until then every packet goes to the kernel.
 */
#pragma once
#include "maps.h"

static __always_inline bool firewall_changed(void)
{
	const volatile u64 *entries = guard();

	return entries[GUARD_CHANGES] != entries[GUARD_EXAMINED];
}
