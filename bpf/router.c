/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet's way: whose is it? -> parse -> source -> cache or FIB -> may it leave? -> account -> rewrite -> redirect.
 * Every other exit is accounted under its verdict and hands the packet, untouched, to the kernel.
 */
#include "limits.h"
#include "verdict.h"
#include "maps.h"
#include "ethernet.h"
#include "parse.h"
#include "explain.h"
#include "fib.h"
#include "source_address.h"
#include "routes.h"
#include "adjacency.h"
#include "answer.h"
#include "cache.h"
#include "bridge.h"
#include "rewrite.h"
#include "guard.h"
#include "guard_events.h"
#include "inherit.h"
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

/* Where frames for the FIB's answer leave; with what no port can take, the verdict. */
static __always_inline enum verdict find_egress(const struct packet *p, const struct bpf_fib_lookup *fib,
						struct egress *out)
{
	struct interface *interface = find_interface(fib->ifindex), *member;
	u32 member_mtu;

	if (!interface)
		return PASS_EGRESS_UNAVAILABLE;
	out->mtu = is_ipv4(p) ? interface->mtu : interface->ipv6_mtu;
	if (fib->mtu_result && fib->mtu_result < out->mtu)
		out->mtu = fib->mtu_result;
	out->tags = interface->tags;
	out->slot = interface->slot;
	out->flags = interface->flags;
	/* Entries may be there before the program that knows about them, and after it. */
	if ((!FEATURE_VLAN && interface->tags) || (!FEATURE_BRIDGE && interface->bridge))
		return PASS_EGRESS_UNAVAILABLE;
	if (!FEATURE_BRIDGE || !interface->bridge)
		return FORWARD;
	member = member_towards(interface->bridge, fib->dmac);
	if (!member)
		return PASS_BRIDGE;
	member_mtu = member->mtu;
	if (FEATURE_VLAN && interface->tags >> 16)
		member_mtu -= TAG_LEN; /* a device takes four bytes more than its MTU: one tag, not two */
	if (member_mtu < out->mtu)
		out->mtu = member_mtu;
	out->slot = member->slot;
	out->flags = member->flags;
	return FORWARD;
}

/* The way out by the FIB, remembered for the next packet. */
static __always_inline enum verdict ask_fib(struct xdp_md *ctx, const struct packet *p, struct port_counters *port,
					    const struct question *q, struct way_out *way)
{
	struct bpf_fib_lookup fib __attribute__((aligned(8))) = {};
	enum verdict verdict = fib_lookup(ctx, p, &fib, port);
	u32 number = BLACKHOLE_NUMBER;
	struct egress egress = {};

	way->adjacency = NULL;
	if (verdict == FORWARD) {
		verdict = find_egress(p, &fib, &egress);
		if (verdict != FORWARD)
			return verdict;
		way->adjacency = adjacency_for(&fib, &egress, &number);
	} else if (verdict != DROP_BLACKHOLE) {
		return verdict;
	}
	way->mtu = egress.mtu;
	remember(q, p, number, way);
	return verdict;
}

/*
 * Whether the egress port can take the packet. bpf_redirect_map() only notes the target; the packet is still
 * untouched when it says that the port is not in the devmap.
 */
static __always_inline enum verdict may_leave(const struct packet *p, const struct adjacency *out, u32 mtu)
{
	/* The kernel would send an ICMP redirect; for IPv6 nothing can switch that off. */
	if (out->hop.ifindex == p->ifindex && !(is_ipv4(p) && p->flags & HAIRPIN_IPV4))
		return PASS_HAIRPIN;
	if (p->datagram_len > mtu)
		return PASS_TOO_BIG;
	if (p->frame_len > p->linear_len && !(out->flags & TX_MULTI_BUFFER))
		return PASS_EGRESS_UNAVAILABLE;
	if (tx_ports.redirect_map(out->slot, XDP_PASS) != XDP_REDIRECT)
		return PASS_EGRESS_UNAVAILABLE;
	return FORWARD;
}

/*
 * Whose packet it is: from the device that it came in on, and its tags, to the interface that the FIB knows. What is
 * needed of that later is copied, so that the verifier need not follow each way by which it may be found.
 */
static __always_inline enum verdict find_ingress(struct packet *p, u32 device, struct interface *ingress)
{
	u32 member = device;
	enum verdict verdict;

	if (FEATURE_UPPER && ingress->upper) {
		device = ingress->upper;
		ingress = find_interface(device);
		if (!ingress)
			return PASS_UNKNOWN_PORT;
		if (ingress->flags & GUARDED)
			return PASS_GUARDED;
	}
	if (FEATURE_VLAN && p->tags) {
		ingress = find_tagged(device, p->tags, &device);
		if (!ingress)
			return PASS_VLAN_TAG;
	}
	p->ifindex = device;
	p->flags = ingress->flags;
	p->l2_len = ingress->header_len;
	p->narrow_mtu = ingress->narrow_mtu;
	p->vrf = ingress->vrf;
	verdict = check_ethernet(p, ingress->mac);
	if (FEATURE_BRIDGE && verdict == FORWARD && ingress->bridge &&
	    !sender_is_known(ingress->bridge, member, p->data))
		return PASS_BRIDGE;
	return verdict;
}

/* `device`: what the packet came in on. */
static __always_inline enum verdict route(struct xdp_md *ctx, struct packet *p, struct interface *device,
					  struct port_counters *port)
{
	struct adjacency *adjacency;
	struct port_counters *out;
	struct way_out way = {};
	struct question q = {};
	u32 out_slot, out_len;
	enum verdict verdict;

	if (device->flags & GUARDED || firewall_changed())
		return PASS_GUARDED;
	verdict = parse_ethernet(p);
	if (verdict != FORWARD)
		return verdict;
	verdict = find_ingress(p, ctx->ingress_ifindex, device);
	if (verdict != FORWARD)
		return verdict;
	if (FEATURE_VLAN && p->flags & GUARDED)
		return PASS_GUARDED;
	verdict = is_ipv4(p) ? parse_ipv4(p) : parse_ipv6(p);
	if (verdict != FORWARD)
		return verdict;
	if (is_ipv4(p) && is_own_source(p))
		return PASS_MARTIAN;
	explain_step(EXPLAINED_CACHE);
	if (recall(&q, p, &way)) {
		explain_step(EXPLAINED_HIT);
		if (!FEATURE_EXPLAIN)
			port->cache_hits++;
		verdict = way.adjacency ? FORWARD : DROP_BLACKHOLE;
	} else {
		verdict = ask_fib(ctx, p, port, &q, &way);
	}
	if (verdict == DROP_BLACKHOLE)
		count_blackhole(p);
	if (verdict != FORWARD)
		return verdict;
	adjacency = way.adjacency;
	asm volatile("" : "+r"(adjacency)); /* known here not to be NULL, but not to the verifier */
	if (!adjacency)
		return PASS_EGRESS_UNAVAILABLE;
	explain_way(adjacency, way.mtu);
	if (exceeds_route_mtu(p))
		return PASS_TOO_BIG;
	if (is_ipv4(p) && p->flags & (REVERSE_PATH_STRICT | REVERSE_PATH_LOOSE)) {
		verdict = check_reverse_path(ctx, p, adjacency->hop.ifindex);
		if (verdict != FORWARD)
			return verdict;
	}
	verdict = may_leave(p, adjacency, way.mtu);
	if (verdict != FORWARD)
		return verdict;
	out_slot = adjacency->slot;
	out = counters.lookup(&out_slot);
	if (!out || !rewrite(p, adjacency))
		return PASS_EGRESS_UNAVAILABLE;
	out_len = p->frame_len + growth(p, adjacency);
	count(&out->egress, out_len);
	count(&adjacency->traffic, out_len);
	return FORWARD;
}

static __always_inline void count_vrf(u32 vrf, enum verdict verdict, u32 bytes)
{
	struct vrf_counters *of = vrf_counters.lookup(&vrf);

	if (!of)
		return;
	if (verdict == FORWARD)
		count(&of->forwarded, bytes);
	else
		count(verdict == DROP_BLACKHOLE ? &of->dropped : &of->passed, bytes);
}

int router(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.data = (void *)(long)ctx->data,
		.data_end = (void *)(long)ctx->data_end,
	};
	struct interface *device = find_interface(ctx->ingress_ifindex);
	u32 slot = device ? device->slot : 0;
	struct port_counters *port = counters.lookup(&slot);
	enum verdict verdict = PASS_UNKNOWN_PORT;

	if (!port)
		return XDP_PASS;
	p.linear_len = p.frame_len = p.data_end - p.data;
	if (device)
		verdict = route(ctx, &p, device, port);
	if (verdict != FORWARD)
		p.frame_len = bpf_xdp_get_buff_len(ctx);
	count(&port->ingress[bounded(verdict)], p.frame_len);
	explain_packet(&p, slot, verdict);
	if (FEATURE_VRF && p.vrf)
		count_vrf(p.vrf, verdict, p.frame_len);
	return xdp_action(verdict);
}
