# SPDX-License-Identifier: GPL-2.0-only
"""What Prometheus is told: each metric declared once, and its values taken from a `status` reply.

Names and units are Prometheus's own conventions. Labels have few values: ports, verdicts, codes and routing protocols, never
prefixes or neighbours. `python -m xdprouter.metrics` prints the table of docs/metrics.md.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xdprouter import api

Samples = Iterable[tuple[tuple[str, ...], float]]

STATES = ("active", "absent", "down", "guarded", "unsupported", "shadow")
FIB_CODES = {
    "0": "success", "1": "blackhole", "2": "unreachable", "3": "prohibit", "4": "not_forwarded", "5": "forwarding_disabled",
    "6": "encapsulation", "7": "no_neighbour", "8": "fragmentation_needed", "9": "no_source_address", "15": "failed",
}  # fmt: skip
"""BPF_FIB_LKUP_RET_* of include/uapi/linux/bpf.h; 15 is bpf/limits.h's for a lookup that failed. Others: their number."""


@dataclass(frozen=True)
class Metric:
    name: str
    """without the `_total` that a counter's samples bear"""
    kind: str
    """counter or gauge"""
    help: str
    labels: tuple[str, ...]
    read: Callable[[api.Status], Samples]

    @property
    def sample_name(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _one(value: Callable[[api.Status], float]) -> Callable[[api.Status], Samples]:
    return lambda status: [((), float(value(status)))]


def _each_port(value: Callable[[api.Port], float | None]) -> Callable[[api.Status], Samples]:
    """Ports for which there is no value are left out."""

    def read(status: api.Status) -> Iterator[tuple[tuple[str, ...], float]]:
        for port in status.ports:
            if (found := value(port)) is not None:
                yield (port.name,), float(found)

    return read


def _accounts(value: Callable[[api.Accounting], float | None]) -> Callable[[api.Status], Samples]:
    return _each_port(lambda port: None if port.accounting is None else value(port.accounting))


def _ingress(what: str) -> Callable[[api.Status], Samples]:
    nothing = api.Traffic(0, 0)

    def read(status: api.Status) -> Iterator[tuple[tuple[str, ...], float]]:
        # Those that never occurred too: a series that begins at 1 would hide its first packet from rate().
        for port in status.ports:
            for verdict in status.verdicts:
                yield (port.name, verdict), float(getattr(port.ingress.get(verdict, nothing), what))

    return read


def _states(status: api.Status) -> Samples:
    return [((port.name, state), float(port.state == state)) for port in status.ports for state in STATES]


def _fib_lookups(status: api.Status) -> Samples:
    return [
        ((port.name, FIB_CODES.get(code, code)), float(number))
        for port in status.ports
        for code, number in {**dict.fromkeys(FIB_CODES, 0), **port.fib_codes}.items()
    ]


def _counted(status: api.Status) -> Iterator[tuple[tuple[str, ...], float]]:
    for port in status.ports:
        if port.accounting is not None:
            for direction, side in (("receive", port.accounting.received), ("transmit", port.accounting.sent)):
                if side.kernel_counts_xdp is not None:
                    yield (port.name, direction), float(side.kernel_counts_xdp)


def _last_change(status: api.Status) -> Samples:
    age = status.fib.last_change_s
    return [] if age is None else [((), time.time() - age)]


def _kernel(direction: str, what: str, field: str) -> Metric:
    return Metric(
        f"xdprouter_port_kernel_{direction}_{what}",
        "counter",
        f"The device's own {field}, as `ip -s link` shows it; whether it includes the fast path is the driver's choice.",
        ("port",),
        _accounts(lambda accounts: getattr(accounts.kernel, field)),
    )


METRICS = (
    Metric("xdprouter_build_info", "gauge", "Always 1; the version and the network namespace are labels.",
           ("version", "netns"), lambda status: [((status.version, status.instance), 1.0)]),
    Metric("xdprouter_in_sync", "gauge", "1: the data plane is as configured; 0: `xdprouter status` gives the reasons.",
           (), _one(lambda status: status.in_sync)),
    Metric("xdprouter_out_of_sync_reasons", "gauge", "How many reasons there are.",
           (), _one(lambda status: len(status.out_of_sync_reasons))),
    Metric("xdprouter_uptime_seconds", "gauge", "Since the daemon's start; forwarding may be older.",
           (), _one(lambda status: status.uptime_s)),
    # --- ports
    Metric("xdprouter_port_state", "gauge", "1 for the state that the port is in, 0 for the others.",
           ("port", "state"), _states),
    Metric("xdprouter_port_transmitting", "gauge", "1: other ports may redirect to it.",
           ("port",), _each_port(lambda port: port.transmitting)),
    Metric("xdprouter_port_native", "gauge", "1: XDP runs in the driver; 0: generic mode, slower.",
           ("port",), _each_port(lambda port: port.mode == "native")),
    Metric("xdprouter_port_ingress_packets", "counter", "Frames that came in, by verdict: forward is the fast path, pass_* the slow one.",
           ("port", "verdict"), _ingress("packets")),
    Metric("xdprouter_port_ingress_bytes", "counter", "The same in bytes: whole Ethernet frames without FCS.",
           ("port", "verdict"), _ingress("bytes")),
    Metric("xdprouter_port_egress_packets", "counter", "Frames that the fast path sent out here, lost ones too.",
           ("port",), _each_port(lambda port: port.egress.packets)),
    Metric("xdprouter_port_egress_bytes", "counter", "The same in bytes: whole Ethernet frames without FCS.",
           ("port",), _each_port(lambda port: port.egress.bytes)),
    Metric("xdprouter_port_redirect_errors", "counter", "Frames lost on their way out of here, behind the verdict.",
           ("port",), _each_port(lambda port: port.redirect_errors)),
    Metric("xdprouter_port_fib_lookups", "counter", "FIB lookups for what came in, by return code; also the cache's misses.",
           ("port", "code"), _fib_lookups),
    Metric("xdprouter_port_cache_hits", "counter", "Packets that came in and for which the FIB was not asked.",
           ("port",), _each_port(lambda port: port.cache_hits)),
    # --- accounting
    Metric("xdprouter_port_receive_packets", "counter", "Frames that came in by the wire, fast and slow path together, since the daemon saw the device.",
           ("port",), _accounts(lambda accounts: accounts.received.packets)),
    Metric("xdprouter_port_transmit_packets", "counter", "Frames that left by the wire, fast and slow path together, since the daemon saw the device.",
           ("port",), _accounts(lambda accounts: accounts.sent.packets)),
    Metric("xdprouter_port_kernel_counts_xdp", "gauge", "1: the kernel's counters of this direction include the fast path; absent while unknown.",
           ("port", "direction"), _counted),
    _kernel("receive", "packets", "rx_packets"),
    _kernel("receive", "bytes", "rx_bytes"),
    _kernel("receive", "errors", "rx_errors"),
    _kernel("receive", "dropped_packets", "rx_dropped"),
    _kernel("transmit", "packets", "tx_packets"),
    _kernel("transmit", "bytes", "tx_bytes"),
    _kernel("transmit", "errors", "tx_errors"),
    _kernel("transmit", "dropped_packets", "tx_dropped"),
    # --- routes and neighbours
    Metric("xdprouter_fib_routes", "gauge", "Routes of all tables but local.",
           ("family",), lambda status: [(("ipv4",), status.fib.ipv4_routes), (("ipv6",), status.fib.ipv6_routes)]),
    Metric("xdprouter_fib_protocol_routes", "gauge", "The same by who set them, both families.",
           ("protocol",), lambda status: [((name,), number) for name, number in status.fib.by_protocol.items()]),
    Metric("xdprouter_fib_last_change_timestamp_seconds", "gauge", "When the kernel last announced a route; absent: never.",
           (), _last_change),
    Metric("xdprouter_neighbours", "gauge", "All neighbours of the kernel, with and without a link-layer address.",
           ("state",), lambda status: [(("resolved",), status.neighbours.resolved), (("unresolved",), status.neighbours.unresolved)]),
    Metric("xdprouter_neighbours_managed", "gauge", "Next hops that carry traffic and that the kernel keeps fresh for us.",
           (), _one(lambda status: status.neighbours.managed)),
    # --- the guard
    Metric("xdprouter_guard_findings", "gauge", "What forwarded packets would meet in the kernel's own path.",
           (), _one(lambda status: len(status.guard.findings))),
    # --- the cache
    Metric("xdprouter_cache_enabled", "gauge", "1: the FIB's answers are remembered.",
           (), _one(lambda status: status.cache.enabled)),
    Metric("xdprouter_cache_lease_ok", "gauge", "0: nothing is recalled now, since the daemon is late.",
           (), _one(lambda status: status.cache.lease_ok)),
    Metric("xdprouter_cache_capacity_entries", "gauge", "IPv4 destinations that fit, all CPUs together.",
           (), _one(lambda status: status.cache.entries)),
    Metric("xdprouter_cache_size_bytes", "gauge", "Memory of the cache.",
           (), _one(lambda status: status.cache.bytes)),
    Metric("xdprouter_cache_invalidations", "counter", "Announcements that made answers void.",
           (), _one(lambda status: status.cache.invalidations)),
    # --- the daemon
    Metric("xdprouter_netlink_events", "counter", "Events read, and routes announced.",
           (), _one(lambda status: status.netlink.events)),
    Metric("xdprouter_netlink_overruns", "counter", "Times that the kernel had to throw events away.",
           (), _one(lambda status: status.netlink.overruns)),
    Metric("xdprouter_netlink_resyncs", "counter", "Full dumps after that.",
           (), _one(lambda status: status.netlink.resyncs)),
)  # fmt: skip

PROCESS = {
    "process_virtual_memory_bytes": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}
"""The daemon's own, by prometheus_client."""


def markdown() -> str:
    """The table of docs/metrics.md."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.sample_name}` | {metric.kind} | {labels} | {metric.help} |")
    lines += [f"| `{name}` | {kind} | | of the daemon's process |" for name, kind in PROCESS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
