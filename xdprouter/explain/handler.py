# SPDX-License-Identifier: GPL-2.0-only
"""The daemon's part of `explain`: which port, the packet through the program, what the kernel says, and why."""

import asyncio
import socket
from collections.abc import Mapping

from controlplane import neighbour, route_get, tags
from controlplane.arrival import Arrival, Arriving
from controlplane.circumstances import Circumstances
from controlplane.dataplane import Dataplane
from controlplane.engine import Engine
from controlplane.entrance import Entrances
from controlplane.errors import ControlPlaneError
from controlplane.explain import SHORTEST_FRAME, Trace, Traces, Way
from controlplane.frame import Head
from controlplane.links import Links
from controlplane.monitor import read_links
from controlplane.netlink import NetlinkSocket
from controlplane.next_hop import NextHop
from controlplane.snapshot import Snapshot
from controlplane.source import verdicts
from controlplane.why import cache_state, fib_code, why
from xdprouter import api

MAX_WAITING = 16
_PATHS = {"redirect": "fast", "drop": "dropped"}
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp", 58: "ipv6-icmp"}


class Explaining:
    """Answers ExplainRequests, off the event loop: the first one compiles a program, for longer than the cache's
    lease."""

    def __init__(self, engine: Engine, dataplane: Dataplane, netns: str | None):
        self._engine = engine
        self._dataplane = dataplane
        self._option = f" --netns {netns}" if netns else ""
        self._explainer = dataplane.explainer()
        self._waiting = 0

    async def close(self) -> None:
        await asyncio.to_thread(self._explainer.close)

    async def explain(self, request: api.ExplainRequest) -> api.Explanation:
        """Raises ApiError."""
        try:
            frame = bytes.fromhex(request.frame)
        except ValueError:
            raise api.ApiError("malformed", "argument frame of explain must be hexadecimal digits") from None
        if len(frame) < SHORTEST_FRAME:
            raise api.ApiError(
                "refused", f"a frame of {len(frame)} bytes has no Ethernet header: {SHORTEST_FRAME} are the least"
            )
        if self._waiting >= MAX_WAITING:
            raise api.ApiError("refused", f"{MAX_WAITING} packets wait to be explained; ask again")
        snapshot = self._engine.snapshot()
        self._waiting += 1
        try:
            return await asyncio.to_thread(self._explain, request, frame, snapshot)
        except ControlPlaneError as error:
            raise api.ApiError("refused", str(error)) from None
        finally:
            self._waiting -= 1

    # --- in a thread ----------------------------------------------------------------------------

    def _explain(self, request: api.ExplainRequest, frame: bytes, snapshot: Snapshot) -> api.Explanation:
        links, fdb = Links(read_links()), self._dataplane.fdb
        names = {link.ifindex: link.name for link in links}
        entrances = Entrances(links, snapshot.plan.stack)
        with NetlinkSocket() as sock:
            came = Arriving(sock, entrances, snapshot.ports, fdb.member).arrive(frame, request.port, request.own_mac)
            device, head = came.entrance.device, came.head
            traces = self._explainer.run(self._dataplane.program, came.frame, device.ifindex)
            trace = traces.live
            hop = trace.hop
            found = neighbour.find(sock, hop) if hop else None
            owner = links.get(trace.ifindex) or came.owner
            egress = links.get(hop.ifindex) if hop else None
            bridge = entrances.bridge(device if trace.fib_code is None else egress)
            around = entrances.around(device, came.owner)
            mac = head.source_mac if trace.fib_code is None else found.lladdr if found else ""
            about = Circumstances(
                port=device.name,
                head=head,
                mac=owner.mac,
                owner=came.owner.name,
                slow=entrances.why_not(came.owner),
                vlan=came.owner.kind == "vlan",
                names=names,
                ports=snapshot.refusals,
                egress_slow=entrances.why_not(egress) if egress else "",
                egress_mtu=egress.mtu if egress else 0,
                way_out=_port_of(trace.way, snapshot) or "",
                bridge=bridge.name if bridge else "",
                bridged_mac=mac,
                learned_on=names.get(fdb.member(bridge.ifindex, mac) or 0, "") if bridge else "",
                settings=snapshot.settings,
                findings=tuple(f.text for f in snapshot.findings if f.device is None or f.device in around),
                neighbour=found,
                kernel=self._ask_kernel(sock, head, trace, came.owner.ifindex),
                blackhole=str(self._dataplane.notes.blackhole_of(head.destination) or "") if head.source else "",
                option=self._option,
            )
        return self._reply(came, traces, about, snapshot)

    def _ask_kernel(self, sock: NetlinkSocket, head: Head, trace: Trace, ifindex: int) -> route_get.Answer | None:
        if not head.source:
            return None
        return route_get.ask(
            sock,
            route_get.Question(
                source=head.source,
                destination=head.destination,
                ifindex=trace.ifindex or ifindex,
                tos=head.tos,
                protocol=trace.protocol,
                sport=trace.sport,
                dport=trace.dport,
            ),
        )

    def _reply(self, came: Arrival, traces: Traces, about: Circumstances, snapshot: Snapshot) -> api.Explanation:
        trace, plain, cache = traces.live, traces.plain, self._dataplane.cache
        states = {cpu: cache_state(found, cache.enabled) for cpu, found in traces.cached.items()}
        best = next((s for s in ("recalled", "void") if s in states.values()), states[0])
        return api.Explanation(
            schema=api.SCHEMA,
            port=_port(came),
            packet=_packet(trace, about, self._dataplane.vrfs.numbers),
            cache=api.ExplainedCache(
                state=best,
                reason=cache.reason,
                key=str(cache.key) if cache.key else "",
                recalled_on=sorted(traces.recalled),
                void_on=[cpu for cpu, state in states.items() if state == "void"],
                differs=traces.differ,
            ),
            fib=_lookup(plain.fib_code, plain.fib_hop.ifindex if plain.fib_hop else 0, plain.fib_mtu, about.names),
            reverse_path=_lookup(trace.reverse_code, trace.reverse_ifindex, 0, about.names),
            next_hop=_next_hop(trace.hop, about) if trace.hop else None,
            egress=_egress(trace.way, snapshot, about) if trace.way else None,
            verdict=trace.verdict,
            meaning=verdicts()[trace.verdict],
            action=trace.action,
            path=_PATHS.get(trace.action, "slow"),
            reasons=[api.Reason(reason.text, reason.remedy) for reason in why(trace, about)],
            kernel=_kernel(trace, about) if about.kernel else None,
            frame=came.frame.hex(),
            frame_after=trace.frame.hex(),
        )


def _port(came: Arrival) -> api.ExplainedPort:
    device, interface = came.entrance.device, came.entrance.interface
    return api.ExplainedPort(device.name, device.ifindex, came.chosen, interface.name, came.entrance.member)


def _port_of(way: Way | None, snapshot: Snapshot) -> str | None:
    return next((view.name for view in snapshot.ports if way and view.slot == way.slot), None)


def _packet(trace: Trace, about: Circumstances, vrfs: Mapping[str, int]) -> api.ExplainedPacket:
    head = about.head
    source, destination = head.addresses or (None, None)
    parsed = trace.datagram_len > 0
    return api.ExplainedPacket(
        interface=about.name(trace.ifindex) if trace.ifindex else None,
        frame_bytes=trace.frame_len,
        source_mac=head.source_mac,
        destination_mac=head.destination_mac,
        ethertype=head.ethertype,
        tags=[f"{protocol} {vid}" for protocol, vid in head.tags],
        source=source,
        destination=destination,
        protocol=trace.protocol if parsed and trace.protocol else None,
        source_port=trace.sport if parsed else None,
        destination_port=trace.dport if parsed else None,
        tos=head.tos if head.source else None,
        ttl=head.ttl if head.source else None,
        datagram_bytes=trace.datagram_len if parsed else None,
        vrf=next((name for name, number in vrfs.items() if number == trace.vrf), None),
    )


def _lookup(code: int | None, ifindex: int, mtu: int, names: Mapping[int, str]) -> api.ExplainedLookup | None:
    if code is None:
        return None
    return api.ExplainedLookup(code, fib_code(code), mtu or None, names.get(ifindex) if code in (0, 7) else None)


def _next_hop(hop: NextHop, about: Circumstances) -> api.ExplainedNextHop:
    found = about.neighbour
    return api.ExplainedNextHop(
        address=str(hop),
        device=about.name(hop.ifindex),
        ifindex=hop.ifindex,
        state=neighbour.STATES.get(found.state, str(found.state)) if found else "absent",
        mac=found.lladdr or None if found else None,
    )


def _egress(way: Way, snapshot: Snapshot, about: Circumstances) -> api.ExplainedEgress:
    return api.ExplainedEgress(
        device=about.name(way.hop.ifindex),
        port=_port_of(way, snapshot),
        slot=way.slot,
        transmitting=way.slot in snapshot.transmitting,
        mtu=way.mtu,
        source_mac=way.smac,
        destination_mac=way.dmac,
        tags=tags.text(way.tags),
    )


def _kernel(trace: Trace, about: Circumstances) -> api.KernelRoute:
    source, destination = about.head.addresses
    words = ["ip", "route", "get", destination, "from", source, "iif"]
    words.append(about.name(trace.ifindex) if trace.ifindex else about.owner)
    if about.head.tos & 0xFC:
        words += ["tos", f"{about.head.tos & 0xFC:#04x}"]
    if trace.protocol in _PROTOCOLS:
        words += ["ipproto", _PROTOCOLS[trace.protocol]]
    for name, port in (("sport", trace.sport), ("dport", trace.dport)):
        if port and trace.protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            words += [name, str(port)]
    answer = about.kernel
    return api.KernelRoute(
        command=" ".join(words),
        route=answer.route.text(about.names) if answer.route else None,
        error=answer.error,
        matched=answer.matched.text(about.names) if answer.matched else None,
    )
