# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong in XDP forwarding, one row for each way; every named case belongs to one.

`UNSHOWN` are the rows that have no packet to send, or that this kernel cannot show, and where they are tested instead.
"""

FIB_CODES = "answers of bpf_fib_lookup"
IPV6_LENGTH = "IPv6 length and MTU"
HOPS = "TTL or hop limit used up"
IPV4_HEADER = "IPv4 header"
IPV6_EXTENSIONS = "IPv6 extension headers"
FRAGMENTS = "fragments"
L4_PORTS = "L4 ports and ECMP"
DESTINATION_MAC = "destination MAC"
MARTIANS = "martian addresses"
OWN_SOURCE = "own or broadcast source"
VERSION_AND_LENGTH = "version and lengths"
TRAILER = "bytes behind the datagram"
RP_FILTER = "rp_filter"
FWMARK = "fwmark and policy rules"
RFC8950 = "RFC 8950"
NOT_A_PORT = "egress that is no port"
VLAN = "VLAN tags"
UPPER_DEVICE = "bridge port, macvlan lower"
CHECKSUMS = "L4 checksums"
MTU = "MTU of port and route"
HAIRPIN = "same-port redirect"
DELIVERY = "local delivery, broadcast, anycast"
NOT_IP = "neither IPv4 nor IPv6"
NEIGHBOURS = "unresolved neighbours"
ICMP_ERRORS = "ICMP errors that pass through"

ROWS = [
    FIB_CODES, IPV6_LENGTH, HOPS, IPV4_HEADER, IPV6_EXTENSIONS, FRAGMENTS, L4_PORTS, DESTINATION_MAC, MARTIANS, OWN_SOURCE,
    VERSION_AND_LENGTH, TRAILER, RP_FILTER, FWMARK, RFC8950, NOT_A_PORT, VLAN, UPPER_DEVICE, CHECKSUMS, MTU, HAIRPIN,
    DELIVERY, NOT_IP, NEIGHBOURS, ICMP_ERRORS,
]  # fmt: skip

UNSHOWN = {
    "VLAN device as egress or ingress": "this kernel has no 8021q; tags without a device are compared",
    "VRF, bond, MACsec, team": "not in this kernel",
    "encapsulating routes": "not in this kernel",
    "stale neighbours, ifindex reuse, replaced programs, netlink overruns, a dead daemon": "tests/lab: no single packet shows them",
    "LRO, queues, jumbo frames": "tests/bpf and tests/lab: they are about drivers",
    "netfilter, tc, XFRM": "what keeps such ports off the fast path has its own tests",
}
