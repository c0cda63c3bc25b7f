# SPDX-License-Identifier: GPL-2.0-only
"""What the engine knows, as replies for the outside."""

import dataclasses
import heapq
import os
import resource
import socket
import time
from collections.abc import Iterable, Mapping

from controlplane.accounting import Accounting
from controlplane.cache import Cache
from controlplane.counters import Traffic
from controlplane.keeper import Neighbour
from controlplane.notes import Prefix
from controlplane.place import Shown
from controlplane.ports import PortView
from controlplane.reconcile import PortState
from controlplane.snapshot import Snapshot
from controlplane.source import verdicts
from controlplane.swap import Swap
from controlplane.tags import words
from xdprouter import __version__, api


def status(snapshot: Snapshot, cache: Cache, instance: str, uptime_s: float) -> api.Status:
    """Of this process."""
    return api.Status(
        schema=api.SCHEMA,
        version=__version__,
        instance=instance,
        pid=os.getpid(),
        uptime_s=round(uptime_s, 3),
        program_id=snapshot.program_id,
        in_sync=not snapshot.out_of_sync,
        out_of_sync_reasons=snapshot.out_of_sync,
        ports=[_port(view, snapshot) for view in snapshot.ports],
        fib=api.Fib(
            ipv4_routes=snapshot.routes.ipv4,
            ipv6_routes=snapshot.routes.ipv6,
            by_protocol=dict(snapshot.routes.by_protocol),
            last_change_s=snapshot.last_route_change_s,
        ),
        neighbours=api.Neighbours(
            snapshot.managed_neighbours, snapshot.neighbours.resolved, snapshot.neighbours.unresolved
        ),
        guard=api.Guard(snapshot.guard, [api.Finding(f.device, f.text) for f in snapshot.findings]),
        cache=_cache(cache, snapshot),
        netlink=api.Netlink(
            snapshot.netlink.events + snapshot.route_events, snapshot.netlink.overruns, snapshot.netlink.resyncs
        ),
        daemon=_process(),
        verdicts=verdicts(),
        interfaces=_interfaces(snapshot),
        vrfs=_vrfs(snapshot),
        features=sorted(snapshot.features),
        last_swap=_swap(snapshot.last_swap),
    )


def ports(snapshot: Snapshot) -> api.Ports:
    return api.Ports(api.SCHEMA, [_port(view, snapshot) for view in snapshot.ports])


def interfaces(snapshot: Snapshot) -> api.Interfaces:
    return api.Interfaces(api.SCHEMA, _interfaces(snapshot), _vrfs(snapshot))


def blackholes(swallowed: Mapping[Prefix, Traffic]) -> api.Blackholes:
    busiest = heapq.nlargest(api.BUSIEST, swallowed.items(), key=lambda entry: entry[1].packets)
    entries = [api.Blackhole(str(prefix), found.packets, found.bytes) for prefix, found in busiest]
    return api.Blackholes(api.SCHEMA, len(swallowed), entries)


def next_hops(neighbours: Iterable[Neighbour]) -> api.NextHops:
    """Devices get the names that they have now, in the caller's network namespace."""
    names = dict(socket.if_nameindex())
    return api.NextHops(
        api.SCHEMA,
        [
            api.NextHop(
                device=names.get(found.ifindex, f"#{found.ifindex}"),
                ifindex=found.ifindex,
                address=found.address,
                mac=found.lladdr or None,
                state=found.state,
                managed=found.managed,
                age_s=None if found.age_s is None else round(found.age_s, 1),
                idle_s=round(found.idle_s, 1),
                packets=found.packets,
                bytes=found.bytes,
            )
            for found in neighbours
        ],
    )


# --- parts of them --------------------------------------------------------------------------------


def _port(view: PortView, snapshot: Snapshot) -> api.Port:
    counters = view.counters
    return api.Port(
        name=view.name,
        ifindex=view.link.ifindex if view.link else None,
        slot=view.slot,
        state=view.state,
        reason=view.reason,
        mode=view.mode,
        mtu=view.link.mtu if view.link else None,
        mac=view.link.mac if view.link else None,
        transmitting=view.slot in snapshot.transmitting,
        ingress={verdict: _traffic(t) for verdict, t in counters.ingress.items()},
        egress=_traffic(counters.egress),
        redirect_errors=counters.redirect_errors,
        fib_codes={str(code): number for code, number in counters.fib_codes.items()},
        rates=api.Rates(**{key: round(value, 1) for key, value in dataclasses.asdict(view.rates).items()}),
        cache_hits=counters.cache_hits,
        accounting=_accounting(view.accounting),
    )


def _accounting(found: Accounting | None) -> api.Accounting | None:
    if found is None:
        return None
    return api.Accounting(
        since_s=round(found.since_s, 3),
        kernel=api.LinkStats(**dataclasses.asdict(found.kernel)),
        received=api.Received(**dataclasses.asdict(found.received)),
        sent=api.Sent(**dataclasses.asdict(found.sent)),
    )


def _traffic(found: Traffic) -> api.Traffic:
    return api.Traffic(found.packets, found.bytes)


def _interfaces(snapshot: Snapshot) -> list[api.Interface]:
    views = {view.name: view for view in snapshot.ports}
    shown = sorted(snapshot.plan.stack.shown.values(), key=lambda shown: shown.link.ifindex)
    return [_interface(found, [views[name] for name in found.ports if name in views]) for found in shown]


def _interface(shown: Shown, ports: list[PortView]) -> api.Interface:
    """Takes its state from its ports when none of them is active."""
    state, reason = shown.state.value, shown.reason
    if state == "active" and ports and not any(view.state is PortState.ACTIVE for view in ports):
        state = "down" if ports[0].state is PortState.DOWN else "slow"
        reason = f"port {ports[0].name} is {ports[0].state}: {ports[0].reason}"
    return api.Interface(
        name=shown.link.name,
        ifindex=shown.link.ifindex,
        kind=shown.kind,
        ports=list(shown.ports),
        tags=words(shown.tags),
        vrf=shown.vrf or None,
        mtu=shown.link.mtu,
        mac=shown.link.mac,
        state=state,
        reason=reason,
    )


def _vrfs(snapshot: Snapshot) -> list[api.Vrf]:
    out = []
    for name, link in sorted(snapshot.plan.stack.vrfs.items()):
        traffic, table = snapshot.vrfs[name], link.details.table
        out.append(
            api.Vrf(
                name=name,
                table=table,
                interfaces=[s.link.name for s in snapshot.plan.stack.shown.values() if s.vrf == name],
                reason=f"no route in its table {table}" if table in snapshot.routes.empty_tables else "",
                forwarded=_traffic(traffic.forwarded),
                passed=_traffic(traffic.passed),
                dropped=_traffic(traffic.dropped),
            )
        )
    return out


def _cache(cache: Cache, snapshot: Snapshot) -> api.Cache:
    return api.Cache(
        enabled=cache.enabled,
        reason=cache.reason,
        key=str(cache.key) if cache.key else "",
        entries=cache.entries,
        bytes=cache.bytes,
        hits=sum(view.counters.cache_hits for view in snapshot.ports),
        misses=sum(sum(view.counters.fib_codes.values()) for view in snapshot.ports),
        invalidations=cache.invalidations,
        lease_ok=cache.lease_ok,
    )


def _process() -> api.Process:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return api.Process(pages * resource.getpagesize(), round(usage.ru_utime + usage.ru_stime, 3))


def _swap(found: Swap | None) -> api.Swap | None:
    if found is None:
        return None
    age_s = round(time.monotonic() - found.at, 3)
    return api.Swap(found.result, found.before, found.after, age_s, found.reason)
