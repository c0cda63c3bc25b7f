/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#define htons(x) __builtin_bswap16(x)
#define ntohs(x) __builtin_bswap16(x)
#define htonl(x) __builtin_bswap32(x)
