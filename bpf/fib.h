/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asks the kernel's own FIB. The full lookup: policy rules, VRF and ECMP as the kernel has them
 * (bpf_ipv4_fib_lookup and bpf_ipv6_fib_lookup in net/core/filter.c).
 */
#pragma once
#include "explain.h"
#include "maps.h"
#include "packet.h"

#ifndef FIB_LOOKUP_FLAGS
#define FIB_LOOKUP_FLAGS 0
#endif
#define AF_INET 2
#define AF_INET6 10
#define AF_BRIDGE 7
#define IPV6_FLOWINFO_MASK htonl(0x0fffffff)

static __always_inline enum verdict verdict_of_fib_code(int code)
{
	switch (code) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		return FORWARD;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
		return DROP_BLACKHOLE;
	case BPF_FIB_LKUP_RET_UNREACHABLE:
		return PASS_UNREACHABLE;
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return PASS_PROHIBIT;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return PASS_LOCAL_OR_NO_ROUTE;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return PASS_FORWARDING_OFF;
	case BPF_FIB_LKUP_RET_UNSUPP_LWT:
		return PASS_ENCAP;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PASS_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return PASS_TOO_BIG;
	}
	return code < 0 ? PASS_FIB_REFUSED : PASS_FIB_OTHER;
}

/*
 * Fills `fib`, which must be all zero: the kernel reads and overwrites its unions. With FORWARD,
 * fib->ifindex, smac and dmac are the answer; `family` and the addresses may have changed (RFC 8950).
 */
static __always_inline enum verdict fib_lookup(struct xdp_md *ctx, const struct packet *p,
					       struct bpf_fib_lookup *fib, struct port_counters *port)
{
	int code;

	if (is_ipv4(p)) {
		fib->family = AF_INET;
		fib->tos = p->ipv4->tos;
		fib->ipv4_src = p->ipv4->saddr;
		fib->ipv4_dst = p->ipv4->daddr;
	} else {
		fib->family = AF_INET6;
		fib->flowinfo = *(__be32 *)p->ipv6 & IPV6_FLOWINFO_MASK;
		__builtin_memcpy(fib->ipv6_src, &p->ipv6->saddr, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &p->ipv6->daddr, sizeof(fib->ipv6_dst));
	}
	fib->l4_protocol = p->protocol;
	fib->sport = p->sport;
	fib->dport = p->dport;
	fib->tot_len = p->datagram_len;
	fib->ifindex = p->ifindex;

	code = bpf_fib_lookup(ctx, fib, sizeof(*fib), FIB_LOOKUP_FLAGS);
	if (!FEATURE_EXPLAIN)
		port->fib_codes[code < 0 ? FIB_CODE_NEGATIVE : code & (MAX_FIB_CODES - 1)]++;
	explain_fib(fib, code);
	return verdict_of_fib_code(code);
}
