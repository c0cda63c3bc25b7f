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

/*
 * What the FIB knows by ifindex. Today each interface is a port itself; a VLAN interface will name the
 * slot of the port that it sits on.
 */
struct interface {
	u32 slot;
	u32 mtu; /* bytes of L3, as the kernel has it */
	u8 mac[6];
	u16 tx_multi_buffer; /* the port can transmit frames of several buffers */
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
