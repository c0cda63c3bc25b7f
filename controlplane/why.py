# SPDX-License-Identifier: GPL-2.0-only
"""Why a packet is not on the fast path, in words, and what would bring it there. Pure."""

from collections.abc import Callable, Mapping

from controlplane import neighbour, source
from controlplane.circumstances import Circumstances, Reason
from controlplane.explain import Step, Trace, Way
from controlplane.settings import HASH_INNER, HASH_LAYER_4
from controlplane.tags import MAX_TAGS, TAG_LEN

FIB_CODES = (
    "success", "blackhole", "unreachable", "prohibit", "not forwarded", "forwarding disabled", "lightweight tunnel",
    "no neighbour", "fragmentation needed", "no source address", "VLAN failure",
)  # fmt: skip
"""BPF_FIB_LKUP_RET_* of include/uapi/linux/bpf.h"""
_FRAG_NEEDED = 8


def fib_code(code: int) -> str:
    return FIB_CODES[code] if 0 <= code < len(FIB_CODES) else "refused" if code < 0 else "unknown"


def why(trace: Trace, about: Circumstances) -> list[Reason]:
    """Empty for a packet that is forwarded."""
    if trace.verdict == "forward":
        return []
    explain = _BY_VERDICT.get(trace.verdict)
    return explain(trace, about) if explain else [Reason(source.verdicts()[trace.verdict])]


def _interface(trace: Trace, about: Circumstances) -> str:
    return about.name(trace.ifindex) if trace.ifindex else about.owner or about.port


def _family(trace: Trace) -> str:
    return "ipv6" if trace.version == 6 else "ipv4"


def _ip(trace: Trace) -> str:
    return "ip -6" if trace.version == 6 else "ip"


def _blackhole(trace: Trace, about: Circumstances) -> list[Reason]:
    if not about.blackhole:
        return [Reason("a blackhole: a route in some table, or a policy rule; the kernel drops it silently too")]
    return [
        Reason(
            f"the route {about.blackhole} is a blackhole: the kernel drops it silently too",
            f"{_ip(trace)} route del blackhole {about.blackhole}",
        )
    ]


def _local_or_no_route(trace: Trace, about: Circumstances) -> list[Reason]:
    route = about.kernel.route if about.kernel else None
    _, target = about.head.addresses or ("", "")
    if route and route.kind != "unicast":
        return [Reason(f"{target} is {route.kind} to this machine: the packet ends here")]
    if route:
        return [Reason(f"the lookup finds no way to forward to {target}, though the kernel has a route for it")]
    return [
        Reason(
            f"no route to {target}: the kernel answers with an ICMP error",
            f"{_ip(trace)} route add {target} via GATEWAY, or what your routing daemon lacks",
        )
    ]


def _forwarding_off(trace: Trace, about: Circumstances) -> list[Reason]:
    name = _interface(trace, about)
    if trace.version == 6 and not about.settings.ipv6_forwarding:
        return [Reason("IPv6 forwarding is off for all devices", "sysctl -w net.ipv6.conf.all.forwarding=1")]
    setting = f"net.{_family(trace)}.conf.{name}.forwarding"
    return [Reason(f"{setting} is 0", f"sysctl -w {setting}=1")]


def _no_neighbour(trace: Trace, about: Circumstances) -> list[Reason]:
    hop = trace.fib_hop
    if not hop:
        return [Reason("the next hop is not resolved")]
    device, found = about.name(hop.ifindex), about.neighbour
    state = neighbour.STATES.get(found.state, str(found.state)) if found else "absent"
    words = {
        "failed": "it does not answer: is it up, and on this link?",
        "incomplete": "it has been asked and has not answered yet",
    }
    what = words.get(state, "the first packet, by the kernel, has it resolved")
    return [Reason(f"next hop {hop} on {device} is {state}: {what}", f"ping -c 1 -I {device} {hop}")]


def _too_big(trace: Trace, about: Circumstances) -> list[Reason]:
    size = f"the datagram has {trace.datagram_len} bytes"
    route, matched = (about.kernel.route, about.kernel.matched) if about.kernel else (None, None)
    if trace.fib_code == _FRAG_NEEDED and matched and matched.mtu:
        return [Reason(f"{size}, the `mtu` of the route {matched.prefix} is {trace.fib_mtu}")]
    if trace.fib_code == _FRAG_NEEDED:
        device = about.name(route.ifindex) if route and route.ifindex else "PORT"
        return [Reason(f"{size}, the path takes {trace.fib_mtu}", f"ip link set {device} mtu {trace.datagram_len}")]
    if not trace.way:
        return [Reason("a datagram of more than 65,535 bytes")]
    device = about.name(trace.way.hop.ifindex)
    if trace.datagram_len > trace.way.mtu:
        return [_over_the_mtu(trace, trace.way, size, device, about)]
    mtu = f" ({matched.mtu})" if matched and matched.mtu else ""
    return [Reason(f"{size}, more than the `mtu`{mtu} of a route to there, which the kernel heeds")]


def _over_the_mtu(trace: Trace, way: Way, size: str, device: str, about: Circumstances) -> Reason:
    if not about.way_out or about.way_out == device or way.mtu >= about.egress_mtu:
        return Reason(f"{size}, the MTU of {device} is {way.mtu}", f"ip link set {device} mtu {trace.datagram_len}")
    # The port, which takes four bytes more than its MTU: one tag, not two.
    second = TAG_LEN if way.tags >> 16 else 0
    tags = ", which has room for one tag, and here are two" if second else ""
    return Reason(
        f"{size}, and by the port {about.way_out} of {device} go {way.mtu}{tags}",
        f"ip link set {about.way_out} mtu {trace.datagram_len + second}",
    )


def _vlan_tag(trace: Trace, about: Circumstances) -> list[Reason]:
    tags = about.head.tags
    words = ", then ".join(f"{protocol} {vid}" for protocol, vid in tags)
    if any(vid == 0 for _, vid in tags):
        return [Reason("a priority tag (VLAN id 0), which is the kernel's")]
    if len(tags) > MAX_TAGS:
        return [Reason(f"more than {MAX_TAGS} tags: {words}")]
    if about.vlan:
        slow = about.slow or "the program does not know it yet"
        return [Reason(f"{words}: frames of {about.owner} are not on the fast path: {slow}")]
    below = about.owner or about.port
    if len(tags) > 1:
        return [Reason(f"the tags {words} belong to no interface on {below}")]
    protocol, vid = tags[0] if tags else ("802.1Q", 0)
    return [
        Reason(
            f"the tag {words} belongs to no interface on {below}",
            f"ip link add link {below} name {below}.{vid} type vlan protocol {protocol} id {vid}",
        )
    ]


def _not_ours(trace: Trace, about: Circumstances) -> list[Reason]:
    mac = f", which is {about.mac}" if about.mac else ""
    bridged = f": what its hosts send to each other is bridged by {about.bridge}" if about.bridge else ""
    return [
        Reason(
            f"the frame is for {about.head.destination_mac}, not for {_interface(trace, about)}'s own MAC{mac}{bridged}"
        )
    ]


def _martian(trace: Trace, about: Circumstances) -> list[Reason]:
    start, target = about.head.addresses or ("", "")
    if trace.version == 4 and not _never_routed(about.head.source) and not _never_routed(about.head.destination):
        return [Reason(f"{start} is an address of this machine, or of a subnet's broadcast: the kernel drops it")]
    return [Reason(f"{start} or {target} is of a kind that is not forwarded blindly: the kernel judges")]


def _never_routed(address: bytes) -> bool:
    return address[:1] == b"\0" or address[:1] == b"\x7f" or address[:1] >= b"\xe0"


def _hairpin(trace: Trace, about: Circumstances) -> list[Reason]:
    name = _interface(trace, about)
    if trace.version == 6:
        return [Reason(f"it leaves by {name}, where it came in: the kernel sends a redirect, always in IPv6")]
    return [
        Reason(
            f"it leaves by {name}, where it came in, and the kernel sends a redirect (send_redirects is on)",
            f"sysctl -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.{name}.send_redirects=0",
        )
    ]


def _egress_unavailable(trace: Trace, about: Circumstances) -> list[Reason]:
    hop = trace.hop
    if not hop:
        return [Reason("it cannot leave by the device that the FIB names")]
    device = about.name(hop.ifindex)
    if about.egress_slow:
        return [Reason(f"it leaves by {device}, which is not on the fast path: {about.egress_slow}")]
    port = about.way_out if trace.way and about.way_out else device
    if port not in about.ports:
        return [Reason(f"it leaves by {port}, which is no port", f"xdprouter attach{about.option} {port}")]
    by = f" of {device}" if port != device else ""
    if about.ports[port]:
        return [Reason(f"nothing can be redirected to the port {port}{by}: {about.ports[port]}")]
    return [Reason(f"{port}{by} takes no frames of several buffers, and this one has {trace.frame_len} bytes")]


def _unknown_port(trace: Trace, about: Circumstances) -> list[Reason]:
    if about.slow:
        return [Reason(f"{about.owner} is not on the fast path: {about.slow}")]
    if about.ports.get(about.port):
        return [Reason(f"the port {about.port} is not served: {about.ports[about.port]}")]
    return [Reason(f"{about.port} is no port", f"xdprouter attach{about.option} {about.port}")]


def _bridge(trace: Trace, about: Circumstances) -> list[Reason]:
    bridge, host, member = about.bridge or "the bridge", about.bridged_mac or "the host", about.learned_on
    if trace.fib_code is not None:
        if member and member not in about.ports:
            return [
                Reason(
                    f"{host} is behind {member} of {bridge}, which is no port",
                    f"xdprouter attach{about.option} {member}",
                )
            ]
        return [Reason(f"{bridge} has yet to learn behind which member {host} is: the kernel floods")]
    if not member:
        return [Reason(f"{bridge} has yet to learn {host}: the kernel, which sees this frame, learns it")]
    if member != about.port:
        return [
            Reason(f"{bridge} knows {host} on {member}, not on {about.port}: the kernel has to learn that it moved")
        ]
    return [
        Reason(f"{host} is due to be seen by {bridge} again, which would forget it otherwise; then it is fast again")
    ]


def _guarded(trace: Trace, about: Circumstances) -> list[Reason]:
    if not about.findings:
        return [Reason("firewall, tc or IPsec rules have just changed: nothing is fast until they are examined")]
    remedy = 'remove what is named; or, if forwarded packets may go past it: guard = "warn" in the configuration'
    return [Reason(text, remedy) for text in about.findings]


def _reverse_path(trace: Trace, about: Circumstances) -> list[Reason]:
    start, _ = about.head.addresses or ("", "")
    name = _interface(trace, about)
    if trace.reverse_code in (0, 7):
        text = f"rp_filter is strict on {name}, and the way back to {start} is by {about.name(trace.reverse_ifindex)}"
    else:
        text = f"rp_filter is on for {name}, and there is no way back to {start} ({fib_code(trace.reverse_code or 0)})"
    return [Reason(text, f"sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{name}.rp_filter=0")]


def _unsure(trace: Trace, about: Circumstances) -> list[Reason]:
    settings, family = about.settings, _family(trace) if trace.version else "ipv4"
    policy = settings.hash_policy6 if family == "ipv6" else settings.hash_policy4
    if policy >= HASH_INNER:
        name = f"net.{family}.fib_multipath_hash_policy"
        return [Reason(f"{name} is {policy}, which no FIB lookup follows", f"sysctl -w {name}={HASH_LAYER_4}")]
    return [Reason("an IPv6 rule has suppress_prefixlength or suppress_ifgroup, which no FIB lookup heeds")]


def _fib_refused(trace: Trace, about: Circumstances) -> list[Reason]:
    return [Reason(f"bpf_fib_lookup refused with {trace.fib_code}: a kernel that lacks something")]


def _fib_other(trace: Trace, about: Circumstances) -> list[Reason]:
    return [Reason(f"bpf_fib_lookup answered {trace.fib_code} ({fib_code(trace.fib_code or 0)}), left to the kernel")]


def _encap(trace: Trace, about: Circumstances) -> list[Reason]:
    return [Reason("the route encapsulates (lightweight tunnel): that is the kernel's work")]


def _ttl(trace: Trace, about: Circumstances) -> list[Reason]:
    name = "hop limit" if len(about.head.source) == 16 else "TTL"
    return [Reason(f"its {name} is {about.head.ttl}: the kernel answers that its time is exceeded")]


def _not_ip(trace: Trace, about: Circumstances) -> list[Reason]:
    return [Reason(f"EtherType {about.head.ethertype:#06x} is neither IPv4 nor IPv6")]


_BY_VERDICT: Mapping[str, Callable[[Trace, Circumstances], list[Reason]]] = {
    "drop_blackhole": _blackhole,
    "pass_local_or_no_route": _local_or_no_route,
    "pass_forwarding_off": _forwarding_off,
    "pass_encap": _encap,
    "pass_no_neighbour": _no_neighbour,
    "pass_too_big": _too_big,
    "pass_ttl": _ttl,
    "pass_not_ip": _not_ip,
    "pass_vlan_tag": _vlan_tag,
    "pass_not_ours": _not_ours,
    "pass_martian": _martian,
    "pass_hairpin": _hairpin,
    "pass_egress_unavailable": _egress_unavailable,
    "pass_unknown_port": _unknown_port,
    "pass_guarded": _guarded,
    "pass_reverse_path": _reverse_path,
    "pass_bridge": _bridge,
    "pass_unsure": _unsure,
    "pass_fib_refused": _fib_refused,
    "pass_fib_other": _fib_other,
}


def cache_state(trace: Trace, enabled: bool) -> str:
    """What a CPU's cache has to say: recalled, void, not remembered, at rest, not asked, or off."""
    if Step.CACHE not in trace.steps:
        return "not asked"
    if not enabled:
        return "off"
    if Step.LEASED not in trace.steps:
        return "at rest"
    if Step.HIT in trace.steps:
        return "recalled"
    return "void" if Step.FOUND in trace.steps else "not remembered"
