/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * BCC includes this header before anything else and expects a kernel source tree behind it. An XDP
 * program needs only the stable user API types, so this small tree stands in for that source: the
 * object is the same whether kernel headers are installed or not, and right on any kernel.
 */
#pragma once
#define CONFIG_BPF_SYSCALL 1
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;

#define NULL ((void *)0)
#define true 1
#define false 0
