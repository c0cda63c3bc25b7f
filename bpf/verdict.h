/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every way a packet can leave the program. The names, in lower case, are the keys of
 * `xdprouter status --json`: add at the end, never change.
 *
 * The comment behind a name is what `status` prints as the reason.
 */
#pragma once

enum verdict {
	FORWARD,                 /* rewritten and redirected */
	DROP_BLACKHOLE,          /* blackhole route */
	PASS_LOCAL_OR_NO_ROUTE,  /* for this machine, or no route to it */
	PASS_UNREACHABLE,        /* unreachable route: the kernel answers */
	PASS_PROHIBIT,           /* prohibit route: the kernel answers */
	PASS_FORWARDING_OFF,     /* forwarding is switched off on the ingress interface */
	PASS_ENCAP,              /* the route encapsulates (lwtunnel) */
	PASS_NO_NEIGHBOUR,       /* the next hop is not resolved yet */
	PASS_TOO_BIG,            /* larger than the path or egress MTU */
	PASS_TTL,                /* TTL or hop limit used up */
	PASS_OPTIONS,            /* IPv4 options or IPv6 extension headers */
	PASS_NOT_IP,             /* neither IPv4 nor IPv6: ARP, LLDP, ... */
	PASS_VLAN_TAG,           /* VLAN tag of no interface here, or a priority tag */
	PASS_MULTICAST,          /* multicast or broadcast */
	PASS_NOT_OURS,           /* destination MAC is not the port's own */
	PASS_MALFORMED,          /* truncated, bad version, length or checksum */
	PASS_TRAILER,            /* bytes behind the IP datagram */
	PASS_MARTIAN,            /* source or destination that must not be forwarded blindly */
	PASS_HAIRPIN,            /* leaves by the interface it came in on */
	PASS_EGRESS_UNAVAILABLE, /* egress is no port, or cannot transmit now */
	PASS_UNKNOWN_PORT,       /* came in on a device that is not (or no longer) a port */
	PASS_FIB_REFUSED,        /* the FIB lookup itself failed: kernel without a feature */
	PASS_FIB_OTHER,          /* a FIB answer this program does not know */
	PASS_GUARDED,            /* a firewall, tc or IPsec rule must see it */
	PASS_REVERSE_PATH,       /* not certain that rp_filter lets this source in here */
	PASS_ICMP,               /* ICMP error or neighbour discovery: the kernel looks inside */
	PASS_UNSURE,             /* multipath hash policy or rule that a FIB lookup does not follow */
	PASS_BRIDGE,             /* the bridge has yet to learn a host, or to see that it is still there */
	VERDICT_COUNT,
};

static __always_inline int xdp_action(enum verdict verdict)
{
	if (verdict == FORWARD)
		return XDP_REDIRECT;
	return verdict == DROP_BLACKHOLE ? XDP_DROP : XDP_PASS;
}
