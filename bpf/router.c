/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet's way: parse -> source -> cache or FIB -> may it leave? -> account -> rewrite -> redirect.
 * Every other exit is accounted under its verdict and hands the packet, untouched, to the kernel.
 */
#include "limits.h"
#include "verdict.h"
#include "maps.h"
#include "parse.h"
#include "fib.h"
#include "source_address.h"
#include "routes.h"
#include "adjacency.h"
#include "answer.h"
#include "cache.h"
#include "rewrite.h"
#include "guard.h"
#include "guard_events.h"
#include "redirect_errors.h"
#include "route_events.h"
#include "census.h"
#include "coherence_events.h"

/* An index the verifier believes in: the compiler knows that no verdict is larger and would drop the mask. */
static __always_inline u32 bounded(enum verdict verdict)
{
	u32 index = verdict;

	asm volatile("" : "+r"(index));
	return index & (MAX_VERDICTS - 1);
}

/* The way out by the FIB, remembered for the next packet. */
static __always_inline enum verdict ask_fib(struct xdp_md *ctx, const struct packet *p, struct port_counters *port,
					    u32 slot, const struct question *q, struct way_out *way)
{
	struct bpf_fib_lookup fib __attribute__((aligned(8))) = {};
	enum verdict verdict = fib_lookup(ctx, p, &fib, port);
	u32 number = BLACKHOLE_NUMBER, mtu;
	struct interface *egress;

	way->adjacency = NULL;
	way->mtu = 0;
	if (verdict == FORWARD) {
		egress = find_interface(fib.ifindex);
		if (!egress)
			return PASS_EGRESS_UNAVAILABLE;
		mtu = is_ipv4(p) ? egress->mtu : egress->ipv6_mtu;
		way->mtu = fib.mtu_result && fib.mtu_result < mtu ? fib.mtu_result : mtu;
		way->adjacency = adjacency_for(&fib, egress, &number);
	} else if (verdict != DROP_BLACKHOLE) {
		return verdict;
	}
	remember(q, p, slot, number, way);
	return verdict;
}

/*
 * Whether the egress port can take the packet. bpf_redirect_map() only notes the target; the packet is still
 * untouched when it says that the port is not in the devmap.
 */
static __always_inline enum verdict may_leave(const struct packet *p, u32 in_ifindex, const struct adjacency *out,
					      u32 mtu)
{
	/* The kernel would send an ICMP redirect; for IPv6 nothing can switch that off. */
	if (out->hop.ifindex == in_ifindex && !(is_ipv4(p) && p->flags & HAIRPIN_IPV4))
		return PASS_HAIRPIN;
	if (p->datagram_len > mtu)
		return PASS_TOO_BIG;
	if (p->frame_len > p->linear_len && !(out->flags & TX_MULTI_BUFFER))
		return PASS_EGRESS_UNAVAILABLE;
	if (tx_ports.redirect_map(out->slot, XDP_PASS) != XDP_REDIRECT)
		return PASS_EGRESS_UNAVAILABLE;
	return FORWARD;
}

static __always_inline enum verdict route(struct xdp_md *ctx, struct packet *p, struct interface *ingress,
					  struct port_counters *port)
{
	struct adjacency *adjacency;
	struct port_counters *out;
	struct way_out way = {};
	struct question q = {};
	enum verdict verdict;
	u32 out_slot;

	if (ingress->flags & GUARDED || firewall_changed())
		return PASS_GUARDED;
	p->flags = ingress->flags;
	verdict = parse_ethernet(p, ingress->mac);
	if (verdict != FORWARD)
		return verdict;
	verdict = is_ipv4(p) ? parse_ipv4(p) : parse_ipv6(p);
	if (verdict != FORWARD)
		return verdict;
	if (is_ipv4(p) && is_own_source(p))
		return PASS_MARTIAN;
	if (recall(&q, p, ingress->slot, &way)) {
		port->cache_hits++;
		verdict = way.adjacency ? FORWARD : DROP_BLACKHOLE;
	} else {
		verdict = ask_fib(ctx, p, port, ingress->slot, &q, &way);
	}
	if (verdict == DROP_BLACKHOLE)
		count_blackhole(p);
	if (verdict != FORWARD)
		return verdict;
	adjacency = way.adjacency;
	asm volatile("" : "+r"(adjacency)); /* known here not to be NULL, but not to the verifier */
	if (!adjacency)
		return PASS_EGRESS_UNAVAILABLE;
	if (exceeds_route_mtu(p, ingress->narrow_mtu))
		return PASS_TOO_BIG;
	if (is_ipv4(p) && p->flags & (REVERSE_PATH_STRICT | REVERSE_PATH_LOOSE)) {
		verdict = check_reverse_path(ctx, p, adjacency->hop.ifindex);
		if (verdict != FORWARD)
			return verdict;
	}
	verdict = may_leave(p, ctx->ingress_ifindex, adjacency, way.mtu);
	if (verdict != FORWARD)
		return verdict;
	out_slot = adjacency->slot;
	out = counters.lookup(&out_slot);
	if (!out)
		return PASS_EGRESS_UNAVAILABLE;
	count(&out->egress, p->frame_len);
	count(&adjacency->traffic, p->frame_len);
	rewrite(p, adjacency);
	return FORWARD;
}

int router(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.data = (void *)(long)ctx->data,
		.data_end = (void *)(long)ctx->data_end,
	};
	struct interface *ingress = find_interface(ctx->ingress_ifindex);
	u32 slot = ingress ? ingress->slot : 0;
	struct port_counters *port = counters.lookup(&slot);
	enum verdict verdict = PASS_UNKNOWN_PORT;

	if (!port)
		return XDP_PASS;
	p.linear_len = p.frame_len = p.data_end - p.data;
	if (ingress)
		verdict = route(ctx, &p, ingress, port);
	if (verdict != FORWARD)
		p.frame_len = bpf_xdp_get_buff_len(ctx);
	count(&port->ingress[bounded(verdict)], p.frame_len);
	return xdp_action(verdict);
}
