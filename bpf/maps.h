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
/* A map of one value, used as a variable: controlplane/memory.py makes it and gives its fd to the compiler. */
#define MEMORY(type, name) \
	static __always_inline type *name(void) \
	{ \
		return (type *)bpf_pseudo_fd(BPF_PSEUDO_MAP_VALUE, FD_##name); \
	}
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
	u64 cache_hits;               /* of packets that came in here; the FIB was not asked */
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
 * What the FIB knows by ifindex: a port itself, or what sits on one or above several (VLAN, bond, bridge). And the
 * devices below, which the FIB never names but frames come in on: members of bonds and bridges.
 */
struct interface {
	u32 slot;         /* of the port that frames leave by; of a device below: of the port it counts for */
	u32 mtu;          /* bytes of L3, as the kernel has it */
	u32 ipv6_mtu;     /* no larger: net.ipv6.conf.DEV.mtu */
	u32 narrow_mtu;   /* the smallest of narrow_routes: datagrams up to here need not ask them */
	u8 mac[6];
	u16 flags;        /* enum interface_flag */
	u32 tags;         /* that a frame bears here; tags.h */
	u32 header_len;   /* of the Ethernet header with them */
	u32 upper;        /* whose the frames are that come in here: a bond's, a bridge's; 0: its own */
	u32 bridge;       /* whose FDB tells by which member a frame leaves; 0: no bridge */
	u32 vrf;          /* its place in vrf_counters; 0: in none */
};
PINNED("hash", u32, struct interface, interfaces, MAX_INTERFACES);
MEMORY(struct interface, low_interfaces) /* the same; slot 0: none */

/*
 * `value` modulo a power of two, for the verifier to see. The compiler knows it to be small already and would drop
 * the mask; and it would make an `or` of a sum of what it masks, behind which Linux before 6.10 knows no bounds.
 */
static __always_inline u32 masked(u32 value, u32 size)
{
	asm volatile("" : "+r"(value));
	value &= size - 1;
	asm volatile("" : "+r"(value));
	return value;
}

static __always_inline struct interface *find_low_interface(u32 ifindex)
{
	/* What the verifier has seen compared may have been another register. */
	struct interface *found = &low_interfaces()[masked(ifindex, LOW_IFINDEXES)];

	return found->slot ? found : NULL;
}

/* Twice for each packet, so an array index instead of a hash where the number allows: 25 to 40 ns less. */
static __always_inline struct interface *find_interface(u32 ifindex)
{
	return ifindex < LOW_IFINDEXES ? find_low_interface(ifindex) : interfaces.lookup(&ifindex);
}

/* Frames with tags: on which device (a port, a bond, a bridge), with which tags -> the interface they belong to. */
struct tagged {
	u32 device;
	u32 tags;
};
PINNED("hash", struct tagged, u32, tagged_interfaces, MAX_INTERFACES);
/*
 * The same, where both numbers are below LOW_IFINDEXES, for as many as find their place free: in one word device,
 * tags and interface, 16, 32 and 16 bits; 0: none. Whatever is not here is asked of the hash.
 */
MEMORY(u64, low_tagged)

static __always_inline u32 low_tagged_place(u32 device, u32 tags)
{
	return masked((u64)(tags * 0x9e3779b1U + device * 0x85ebca6bU) * LOW_TAGGED >> 32, LOW_TAGGED);
}

/* The interface that frames with these tags belong to, and its number; NULL: none. */
static __always_inline struct interface *find_tagged(u32 device, u32 tags, u32 *ifindex)
{
	u64 word = low_tagged()[low_tagged_place(device, tags)];
	struct tagged key = {.device = device, .tags = tags};
	u32 *found;

	if (word >> 16 == ((u64)device << 32 | tags)) {
		*ifindex = word & 0xffff;
		return find_low_interface(*ifindex);
	}
	found = tagged_interfaces.lookup(&key);
	if (!found)
		return NULL;
	*ifindex = *found;
	return find_interface(*ifindex);
}

/* What came in by the interfaces of a VRF. */
struct vrf_counters {
	struct traffic forwarded;
	struct traffic passed;
	struct traffic dropped;
};
PINNED("percpu_array", u32, struct vrf_counters, vrf_counters, MAX_VRFS);

/* Which name a place in vrf_counters belongs to; as slot_owners. */
struct vrf_owner {
	char name[PORT_NAME_LEN];
};
PINNED("array", u32, struct vrf_owner, vrf_owners, MAX_VRFS);

/* Where a bridge has learned a host. */
struct fdb_key {
	u32 bridge;
	u8 mac[6];
	u16 unused;
};
struct fdb_entry {
	u32 member;    /* ifindex */
	u32 refreshed; /* in jiffies: when the kernel last saw a frame from there */
};
PINNED("hash", struct fdb_key, struct fdb_entry, fdb, MAX_FDB_ENTRIES);

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

/* Announcements by rtm_protocol, since this program was made. */
struct route_churn {
	u64 added[256]; /* or replaced */
	u64 deleted[256];
};
MEMORY(struct route_churn, route_churn)

/*
 * What census.h counts of a dump, by family and rtm_protocol; `reasons` (enum reason) are the kinds that it met.
 * `blackhole_room`: so many more blackholes are passed on to the daemon, from the dump and from announcements.
 */
struct route_census {
	u64 routes[2][256];
	u32 reasons;
	s32 blackhole_room;
};
MEMORY(struct route_census, route_census)

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
MEMORY(u64, own_source_bits)
PINNED_TRIE(struct prefix4, u32, own_sources, 2 * MAX_OWN_SOURCES);

/* Routes with an `mtu` that is not locked: the kernel heeds it when it forwards, bpf_fib_lookup does not. */
PINNED_TRIE(struct prefix4, u32, narrow_routes4, 2 * MAX_NARROW_ROUTES);
PINNED_TRIE(struct prefix6, u32, narrow_routes6, 2 * MAX_NARROW_ROUTES);

/* Blackhole routes, with what they swallowed. */
PINNED_TRIE(struct prefix4, struct traffic, blackholes4, MAX_BLACKHOLES);
PINNED_TRIE(struct prefix6, struct traffic, blackholes6, MAX_BLACKHOLES);

/*
 * Whether the operator's firewall is as it was when the control plane last looked. One number
 * each: the kernel adds to `changes` at any moment, so user space must never write it.
 */
enum guard_entry {
	GUARD_CHANGES,  /* announcements of rules, counted by guard_events.h while enforced */
	GUARD_EXAMINED, /* the count of changes, read before the last look */
	GUARD_ENFORCED, /* 0: changes are announced to user space but do not stop the fast path */
	GUARD_ENTRIES,
};
MEMORY(u64, guard)

/* A neighbour that packets were forwarded to: device and address as in the kernel's neighbour table. */
struct next_hop {
	u32 ifindex;
	u32 family;     /* AF_INET or AF_INET6, of the address */
	u64 address[2]; /* network order; behind an IPv4 address zeros */
};

PINNED("hash", struct next_hop, struct traffic, next_hops, MAX_NEXT_HOPS);

/*
 * A way out: one next hop with all that a packet needs to leave by it. Each CPU has its own, so that nothing
 * is shared on the way of a packet; adjacency.h keeps them. One cache line.
 */
struct adjacency {
	struct next_hop hop;    /* ifindex 0: none */
	struct traffic traffic; /* not in next_hops yet */
	u8 dmac[6];
	u8 smac[6];
	u32 version;            /* goes up when anything but the traffic changes */
	u16 slot;
	u16 flags;              /* enum interface_flag, of the port */
	u32 tags;               /* of the egress interface */
};
MEMORY(struct adjacency, adjacencies)

/* Kinds of routes whose answer depends on more than the destination. */
enum reason {
	MULTIPATH = 0x1, /* several next hops: the rest of the packet chooses one */
	BY_SOURCE = 0x2, /* an IPv6 route for a source prefix */
	BY_TOS = 0x4,    /* an IPv4 route for one TOS */
};

/*
 * What makes cached answers of the FIB void. Generations only ever go up; whoever remembers an answer
 * remembers with it the sum of those that concern it, as they were before the question. Times are in
 * jiffies, in 32 bits.
 */
struct coherence {
	/* written by coherence_events.h, in the kernel, at the moment that a change is announced */
	u64 changes;         /* of what the key of an answer may depend on */
	u64 neighbours;      /* neighbours whose MAC or validity changed */
	u64 invalidations;   /* all of them, for `status` */
	u32 generation[2];   /* of the whole family: IPv4, IPv6 */
	u32 unsettled[2];    /* until then, the FIB of the family may not be yet what was announced */
	/* written by the daemon */
	u64 seen;            /* `changes` whose consequences are in force: without that, nothing is cached */
	u32 lease;           /* until then; a daemon that lives moves it on */
	u32 own;             /* a generation */
	u32 life;            /* of an answer, at most */
	u32 wide;            /* the key is more than the destination, and these masks say what */
	u32 mask_source;
	u32 mask_ports;
	u32 mask_rest;       /* protocol << 8 | TOS or traffic class, as in struct key */
	u32 mask_ingress;
	u32 mask_label;
	u32 known_reasons;   /* enum reason: routes of these kinds change nothing about the key */
	u32 listening;       /* as `lease`, while the announcements are heard, whether or not anything is cached */
};
MEMORY(struct coherence, coherence)

struct block {
	u32 generation;
	u32 unsettled;
};
MEMORY(struct block, blocks4)
MEMORY(struct block, blocks6)
MEMORY(u32, neighbour_generations) /* by adjacency_set() */

/* Which MAC a neighbour had when the kernel last spoke of it: to tell a change from a confirmation. */
struct known_neighbour {
	u8 mac[6];
	u16 unused;
};
PINNED("hash", struct next_hop, struct known_neighbour, known_neighbours, MAX_NEXT_HOPS * 4);
