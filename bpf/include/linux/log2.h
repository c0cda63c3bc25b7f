/* SPDX-License-Identifier: GPL-2.0-only */
/* Named by a BCC macro (stack traces) that is not used here. */
#define roundup_pow_of_two(n) (n)
