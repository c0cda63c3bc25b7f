/* SPDX-License-Identifier: GPL-2.0-only */
/* Sizes of the maps. The control plane reads them from here. */
#pragma once

#define MAX_PORTS 256      /* slots of the devmap and the counters; slot 0 is "no port" */
#define MAX_INTERFACES 4096 /* what the FIB knows by ifindex; VLANs and the like sit on ports */
#define LOW_IFINDEXES 4096  /* interfaces numbered below this are found without hashing */
#define LOW_TAGGED 16384    /* a power of two; places for tags that are found without hashing */
#define MAX_VERDICTS 32
#define MAX_FIB_CODES 16
#define FIB_CODE_NEGATIVE 15 /* the lookup itself was refused (-EINVAL and friends) */
#define MAX_VRFS 256        /* counted one by one; 0 is none */
#define MAX_FDB_ENTRIES 65536 /* hosts behind bridges; what does not fit goes the slow path */
#define MAX_NEXT_HOPS 16384 /* neighbours that carry traffic; what does not fit is forwarded all the same */
#define PORT_NAME_LEN 16     /* IFNAMSIZ */
#define MIN_FRAME_LEN 60     /* Ethernet's minimum without FCS: up to here, padding is normal */
#define OWN_SOURCE_WORDS 1024  /* of 64 bits each, a power of two */
#define MAX_OWN_SOURCES 65536
#define MAX_NARROW_ROUTES 65536
#define MAX_BLACKHOLES 65536
#define ADJACENCY_WAYS 4
#ifndef ADJACENCY_SETS /* tests want fewer */
#define ADJACENCY_SETS 2048 /* a power of two; a CPU has 8,192 adjacencies of 64 bytes */
#endif
#define BLOCKS 4096         /* of destinations, which one route event invalidates together */
#define CACHE_LINE 64
#define DEFAULT_CACHE_SETS 65536 /* a CPU and family: 4 MiB, 256k IPv4 or 128k IPv6 destinations */
