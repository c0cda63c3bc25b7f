# SPDX-License-Identifier: GPL-2.0-only
"""Requests and replies of the control socket, declared once. What they look like on the wire: wire.py.

Keys of a reply are added, never changed; `SCHEMA` tells which are there.
"""

from dataclasses import dataclass, field

SCHEMA = 1
BUSIEST = 100
"""Blackhole routes in a reply"""


class ApiError(Exception):
    """An error reply. kind: malformed, version, unknown, refused, configuration or internal."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


# --- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StatusRequest:
    pass


@dataclass(frozen=True)
class PortsRequest:
    pass


@dataclass(frozen=True)
class InterfacesRequest:
    pass


@dataclass(frozen=True)
class BlackholesRequest:
    pass


@dataclass(frozen=True)
class NeighboursRequest:
    pass


@dataclass(frozen=True)
class AttachRequest:
    port: str
    mode: str = ""
    """native or generic; empty: as configured"""


@dataclass(frozen=True)
class DetachRequest:
    port: str


@dataclass(frozen=True)
class ExplainRequest:
    frame: str
    """a whole Ethernet frame without FCS, in hexadecimal digits"""
    port: str = ""
    """or VLAN interface, bond or bridge that it comes in by; empty: the daemon finds out"""
    own_mac: bool = False
    """the frame is made from addresses: give it the MAC of the interface, the tags too if it has none, and the sender's MAC"""


@dataclass(frozen=True)
class ReloadRequest:
    pass


@dataclass(frozen=True)
class StopRequest:
    detach: bool = False
    """take the ports off XDP, instead of leaving them to forward alone"""


Request = (
    StatusRequest
    | PortsRequest
    | InterfacesRequest
    | BlackholesRequest
    | NeighboursRequest
    | AttachRequest
    | DetachRequest
    | ExplainRequest
    | ReloadRequest
    | StopRequest
)
REQUESTS: dict[str, type] = {
    "status": StatusRequest,
    "ports": PortsRequest,
    "interfaces": InterfacesRequest,
    "blackholes": BlackholesRequest,
    "neighbours": NeighboursRequest,
    "attach": AttachRequest,
    "detach": DetachRequest,
    "explain": ExplainRequest,
    "reload": ReloadRequest,
    "stop": StopRequest,
}

# --- replies --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    packets: int
    bytes: int


@dataclass(frozen=True)
class Rates:
    fast_pps: float
    slow_pps: float
    drop_pps: float
    fast_bps: float
    slow_bps: float


@dataclass(frozen=True)
class LinkStats:
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


@dataclass(frozen=True)
class Received:
    """Frames; packets = forwarded + dropped + passed + unseen."""

    packets: int
    forwarded: int
    dropped: int
    passed: int
    unseen: int
    kernel_counts_xdp: bool | None
    """whether the kernel's own counter includes what was forwarded or dropped; null: not known yet"""


@dataclass(frozen=True)
class Sent:
    """Frames; packets = redirected - lost + slow - dropped."""

    packets: int
    redirected: int
    lost: int
    slow: int
    dropped: int
    kernel_counts_xdp: bool | None


@dataclass(frozen=True)
class Accounting:
    """What crossed the wire, by fast and slow path together."""

    since_s: float
    """the sums of `received` and `sent` began so long ago"""
    kernel: LinkStats
    """as `ip -s link`, since the device exists"""
    received: Received
    sent: Sent


@dataclass(frozen=True)
class Port:
    name: str
    ifindex: int | None
    slot: int
    state: str
    reason: str
    mode: str
    mtu: int | None
    mac: str | None
    transmitting: bool
    """in the devmap: other ports may redirect to it"""
    ingress: dict[str, Traffic]
    """by verdict; verdicts that never occurred are left out"""
    egress: Traffic
    redirect_errors: int
    """frames lost on their way out of this port, after the verdict"""
    fib_codes: dict[str, int]
    """raw return codes of bpf_fib_lookup"""
    rates: Rates
    cache_hits: int = 0
    """packets that came in here and for which the FIB was not asked"""
    accounting: Accounting | None = None
    """null while the device is absent"""


@dataclass(frozen=True)
class Interface:
    """What the FIB knows by ifindex: a port, a bond, a bridge, or a VLAN on one of them."""

    name: str
    ifindex: int
    kind: str
    """port, bond, bridge or vlan"""
    ports: list[str]
    """by which its frames come and go"""
    tags: str
    """VIDs from the outer to the inner, such as `200.10`; 802.1ad tags are marked"""
    vrf: str | None
    mtu: int
    mac: str
    state: str
    """active, down or slow"""
    reason: str
    """why it is not active"""


@dataclass(frozen=True)
class Vrf:
    name: str
    table: int
    interfaces: list[str]
    reason: str
    """what is odd about it; else empty"""
    forwarded: Traffic
    """of what came in by its interfaces while they were on the fast path"""
    passed: Traffic
    dropped: Traffic


@dataclass(frozen=True)
class Fib:
    ipv4_routes: int
    ipv6_routes: int
    by_protocol: dict[str, int]
    last_change_s: float | None
    """seconds since the kernel announced a route; null: never"""


@dataclass(frozen=True)
class Neighbours:
    managed: int
    """those that carry traffic and that the kernel keeps fresh for us"""
    resolved: int
    unresolved: int


@dataclass(frozen=True)
class Finding:
    device: str | None
    """the port it concerns; null: all of them"""
    text: str


@dataclass(frozen=True)
class Guard:
    policy: str
    findings: list[Finding]
    """what forwarded packets would meet in the kernel's own path"""


@dataclass(frozen=True)
class Cache:
    enabled: bool
    reason: str
    """why not"""
    key: str
    """what of a packet its answers are remembered for"""
    entries: int
    """IPv4 destinations that fit, all CPUs together, with the destination alone as the key"""
    bytes: int
    hits: int
    misses: int
    invalidations: int
    lease_ok: bool


@dataclass(frozen=True)
class Netlink:
    events: int
    overruns: int
    resyncs: int


@dataclass(frozen=True)
class Process:
    rss_bytes: int
    cpu_s: float


@dataclass(frozen=True)
class Swap:
    """One program took another's place, or was to."""

    result: str
    """done; refused: it failed its trial; taken back: frames were lost after it"""
    before: int
    """ids of the programs"""
    after: int
    age_s: float
    reason: str


@dataclass(frozen=True)
class Status:
    schema: int
    version: str
    instance: str
    pid: int
    uptime_s: float
    program_id: int
    in_sync: bool
    out_of_sync_reasons: list[str]
    ports: list[Port]
    fib: Fib
    neighbours: Neighbours
    guard: Guard
    cache: Cache
    netlink: Netlink
    daemon: Process
    verdicts: dict[str, str]
    """name -> meaning, of every verdict this daemon knows"""
    interfaces: list[Interface] = field(default_factory=list)
    vrfs: list[Vrf] = field(default_factory=list)
    features: list[str] = field(default_factory=list)
    """what the program was compiled with for the links that there are"""
    last_swap: Swap | None = None
    """null: no program has taken another's place since the daemon's start"""


@dataclass(frozen=True)
class Interfaces:
    schema: int
    interfaces: list[Interface]
    vrfs: list[Vrf]


@dataclass(frozen=True)
class Ports:
    schema: int
    ports: list[Port]


@dataclass(frozen=True)
class Blackhole:
    prefix: str
    packets: int
    bytes: int


@dataclass(frozen=True)
class Blackholes:
    schema: int
    routes: int
    """blackhole routes that are counted"""
    busiest: list[Blackhole]
    """the first BUSIEST by packets, since the route is known"""


@dataclass(frozen=True)
class NextHop:
    """A neighbour that carries fast-path traffic, or did a while ago."""

    device: str
    ifindex: int
    address: str
    mac: str | None
    state: str
    """as in `ip neigh`, in lower case; absent: the kernel has no entry"""
    managed: bool
    age_s: float | None
    """since the kernel last had it confirmed"""
    idle_s: float
    """since it last carried traffic, or since the daemon's start"""
    packets: int
    bytes: int


@dataclass(frozen=True)
class NextHops:
    schema: int
    neighbours: list[NextHop]


@dataclass(frozen=True)
class ExplainedPort:
    name: str
    ifindex: int
    chosen: str
    """how it was found: given, destination MAC, only port, or way back to the source"""
    interface: str
    """that was given or found; other than `name` where that carries its frames: a VLAN, a bridge, a bond"""
    member: str
    """why this member of a bridge or bond: has learned the sender, active, or any; empty: it is none"""


@dataclass(frozen=True)
class ExplainedPacket:
    """As the program parsed it. What it did not come to is null."""

    interface: str | None
    """that the frame belongs to, as the FIB knows it"""
    frame_bytes: int
    source_mac: str
    destination_mac: str
    ethertype: int
    tags: list[str]
    """such as `802.1Q 100`, the outer one first"""
    source: str | None
    destination: str | None
    protocol: int | None
    source_port: int | None
    """what stands in place of the ports for routing: 0 for protocols without, and for fragments"""
    destination_port: int | None
    tos: int | None
    ttl: int | None
    datagram_bytes: int | None
    vrf: str | None
    """that the interface is in"""


@dataclass(frozen=True)
class ExplainedCache:
    state: str
    """recalled, void, not remembered, at rest (nothing may be recalled now), not asked, or off"""
    reason: str
    """why it is off"""
    key: str
    recalled_on: list[int]
    """CPUs, each of which has a cache of its own, that answer from it"""
    void_on: list[int]
    """CPUs that remember an answer which holds no longer"""
    differs: bool
    """it answers otherwise than the FIB, which must not be"""


@dataclass(frozen=True)
class ExplainedLookup:
    """bpf_fib_lookup. Of a packet that is recalled too."""

    code: int
    name: str
    mtu: int | None
    """of the path, if the packet exceeds it"""
    device: str | None


@dataclass(frozen=True)
class ExplainedNextHop:
    address: str
    device: str
    ifindex: int
    state: str
    """as in `ip neigh`, in lower case; absent: the kernel has no entry"""
    mac: str | None


@dataclass(frozen=True)
class ExplainedEgress:
    device: str
    """as the FIB names it"""
    port: str | None
    slot: int
    transmitting: bool
    mtu: int
    """of path and egress"""
    source_mac: str
    destination_mac: str
    tags: list[str]


@dataclass(frozen=True)
class Reason:
    text: str
    remedy: str
    """what would bring it to the fast path; empty: this is as it should be"""


@dataclass(frozen=True)
class KernelRoute:
    """What `ip route get` says."""

    command: str
    route: str | None
    error: str
    matched: str | None
    """the entry of the table"""


@dataclass(frozen=True)
class Explanation:
    schema: int
    port: ExplainedPort
    packet: ExplainedPacket
    cache: ExplainedCache
    fib: ExplainedLookup | None
    """null: not asked"""
    reverse_path: ExplainedLookup | None
    """the lookup for rp_filter"""
    next_hop: ExplainedNextHop | None
    egress: ExplainedEgress | None
    verdict: str
    meaning: str
    action: str
    """redirect, drop or pass"""
    path: str
    """fast, slow or dropped"""
    reasons: list[Reason]
    kernel: KernelRoute | None
    """null: no IP"""
    frame: str
    """in hexadecimal digits"""
    frame_after: str


@dataclass(frozen=True)
class Done:
    """What an attach, detach or stop did, in one line."""

    message: str
    changed: bool = field(default=True)


@dataclass(frozen=True)
class Reloaded:
    """What reading the configuration again has come to; a line for each thing."""

    schema: int
    changed: list[str]
    restart: list[str]
    """different in the file, but not in force before a restart"""
    failed: list[str]
    """wished for, but not possible at the moment"""
