/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The state that outlives the daemon. All of it is pinned under PIN_DIR (a string literal given on
 * the compiler's command line), so that a new program takes over the counters of the old one.
 * Changing a struct here means a new LAYOUT_VERSION in controlplane/pins.py.
 */
#pragma once
#include "limits.h"
#include "verdict.h"

#define PINNED(type, key, value, name, size) \
	BPF_TABLE_PINNED(type, key, value, name, size, PIN_DIR "/" #name)
#define PINNED_TRIE(key, value, name, size) \
	BPF_TABLE_PINNED("lpm_trie", key, value, name, size, PIN_DIR "/" #name, BPF_F_NO_PREALLOC)

struct traffic {
	u64 packets;
	u64 bytes; /* whole Ethernet frames, without FCS */
};

/* By slot, per CPU: one bpf() call reads everything about a port. */
struct port_counters {
	struct traffic ingress[MAX_VERDICTS];
	struct traffic egress;
	u64 fib_codes[MAX_FIB_CODES]; /* raw return codes of bpf_fib_lookup, for packets that came in here */
	u64 redirect_errors;          /* frames lost behind the verdict, on their way out of here */
};
PINNED("percpu_array", u32, struct port_counters, counters, MAX_PORTS);

/* What the control plane found out about an interface, for the packets that come in or leave there. */
enum interface_flag {
	TX_MULTI_BUFFER = 1 << 0,       /* the port can transmit frames of several buffers */
	GUARDED = 1 << 1,               /* the operator's firewall must see what comes in here */
	REVERSE_PATH_STRICT = 1 << 2,   /* rp_filter 1 */
	REVERSE_PATH_LOOSE = 1 << 3,    /* rp_filter 2 */
	HAIRPIN_IPV4 = 1 << 4,          /* send_redirects is off: IPv4 may leave where it came in */
	WIDE_OWN_SOURCES = 1 << 5,      /* some own_sources are prefixes: own_source_bits does not tell */
	PASS_IPV6 = 1 << 6,             /* IPv6 forwarding is off for the namespace as a whole */
	PASS_IPV6_FRAGMENTS = 1 << 7,   /* no lookup agrees with the kernel's path for them */
	IPV6_FRAGMENT_HASHED = 1 << 8,  /* multipath hashes the fragment header's number as the protocol */
	MULTIPATH_UNSURE_IPV4 = 1 << 9, /* by a hash policy that no lookup follows */
	MULTIPATH_UNSURE_IPV6 = 1 << 10,
	RULES_UNSURE_IPV6 = 1 << 11,    /* a policy rule that no lookup heeds */
	PASS_ICMPV6 = 1 << 12,          /* rules by protocol make multipath hash it in a way of its own */
};

/*
 * What the FIB knows by ifindex. Today each interface is a port itself; a VLAN interface will name the
 * slot of the port that it sits on.
 */
struct interface {
	u32 slot;
	u32 mtu;          /* bytes of L3, as the kernel has it */
	u32 ipv6_mtu;     /* no larger: net.ipv6.conf.DEV.mtu */
	u32 narrow_mtu;   /* the smallest of narrow_routes: datagrams up to here need not ask them */
	u8 mac[6];
	u16 flags;        /* enum interface_flag */
};
PINNED("hash", u32, struct interface, interfaces, MAX_INTERFACES);
PINNED("array", u32, struct interface, low_interfaces, LOW_IFINDEXES); /* the same; slot 0: none */

/* Twice for each packet, so an array index instead of a hash where the number allows: 25 to 40 ns less. */
static __always_inline struct interface *find_interface(u32 ifindex)
{
	struct interface *found;

	if (ifindex >= LOW_IFINDEXES)
		return interfaces.lookup(&ifindex);
	found = low_interfaces.lookup(&ifindex);
	return found && found->slot ? found : NULL;
}

/* Which name a slot belongs to; lets a new daemon give each port its old slot and counters. */
struct slot_owner {
	char name[PORT_NAME_LEN];
};
PINNED("array", u32, struct slot_owner, slot_owners, MAX_PORTS);

/* Slot -> device. A port is in here if, and only if, it is up and able to transmit. */
BPF_XDP_REDIRECT_MAP("devmap:" PIN_DIR "/tx_ports", int, tx_ports, MAX_PORTS);

struct settings {
	u32 tx_ports_id; /* map id of tx_ports: tells our redirect errors from other programs' */
};
PINNED("array", u32, struct settings, settings, 1);

/* Route announcements of this network namespace, counted by route_events.h. */
struct route_changes {
	u64 count;
	u64 last_ns; /* CLOCK_MONOTONIC */
};
PINNED("array", u32, struct route_changes, route_changes, 1);

/* Keys of the longest-prefix tries; addresses as in the packet. */
struct prefix4 {
	u32 length;
	__be32 address;
};
struct prefix6 {
	u32 length;
	__be32 address[4];
};

/*
 * IPv4 sources that the kernel may refuse as martian: the router's own addresses, its subnets' broadcast
 * addresses, and whatever else has a route of type local. The bit map has a bit for each /32 of them, by
 * own_source_bit(); only a source whose bit is set needs the trie. Room for two sets, here and below: what is
 * new is added before what is old goes.
 */
PINNED("array", u32, u64, own_source_bits, OWN_SOURCE_WORDS);
PINNED_TRIE(struct prefix4, u32, own_sources, 2 * MAX_OWN_SOURCES);

/* Routes with an `mtu` that is not locked: the kernel heeds it when it forwards, bpf_fib_lookup does not. */
PINNED_TRIE(struct prefix4, u32, narrow_routes4, 2 * MAX_NARROW_ROUTES);
PINNED_TRIE(struct prefix6, u32, narrow_routes6, 2 * MAX_NARROW_ROUTES);

/* Blackhole routes, with what they swallowed. */
PINNED_TRIE(struct prefix4, struct traffic, blackholes4, MAX_BLACKHOLES);
PINNED_TRIE(struct prefix6, struct traffic, blackholes6, MAX_BLACKHOLES);

/*
 * Whether the operator's firewall is as it was when the control plane last looked. One array entry each:
 * the kernel adds to `changes` at any moment, so user space must never write the same entry.
 */
enum guard_entry {
	GUARD_CHANGES,  /* announcements of rules, counted by guard_events.h while enforced */
	GUARD_EXAMINED, /* the count of changes, read before the last look */
	GUARD_ENFORCED, /* 0: changes are announced to user space but do not stop the fast path */
	GUARD_ENTRIES,
};
PINNED("array", u32, u64, guard, GUARD_ENTRIES);

/* A neighbour that packets were forwarded to: device and address as in the kernel's neighbour table. */
struct next_hop {
	u32 ifindex;
	u32 family;     /* AF_INET or AF_INET6, of the address */
	u64 address[2]; /* network order; behind an IPv4 address zeros */
};

struct recent_next_hop {
	struct next_hop hop; /* ifindex 0: none */
	struct traffic traffic; /* not in next_hops yet */
};

/* One CPU's; next_hops.h says why. What a next hop carried is the sum over these and next_hops. */
struct recent_next_hops {
	struct recent_next_hop places[1 << RECENT_NEXT_HOPS_BITS];
};
PINNED("percpu_array", u32, struct recent_next_hops, recent_next_hops, 1);
PINNED("hash", struct next_hop, struct traffic, next_hops, MAX_NEXT_HOPS);
