# SPDX-License-Identifier: GPL-2.0-only
"""Counters of a port, summed over the CPUs, and the rates between two readings."""

from dataclasses import dataclass, field

from controlplane.source import verdicts


@dataclass(frozen=True, slots=True)
class Traffic:
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.packets - other.packets, self.bytes - other.bytes)


@dataclass(frozen=True)
class PortCounters:
    """Totals since the slot was given to its port."""

    ingress: dict[str, Traffic] = field(default_factory=dict)
    egress: Traffic = Traffic()
    fib_codes: dict[int, int] = field(default_factory=dict)
    redirect_errors: int = 0
    cache_hits: int = 0

    @classmethod
    def from_cpus(cls, cpus) -> "PortCounters":
        """From the per-CPU values (struct port_counters of bpf/maps.h) of one slot."""
        ingress = {}
        for index, verdict in enumerate(verdicts()):
            total = Traffic(
                sum(cpu.ingress[index].packets for cpu in cpus), sum(cpu.ingress[index].bytes for cpu in cpus)
            )
            if total.packets:
                ingress[verdict] = total
        codes = {code: sum(cpu.fib_codes[code] for cpu in cpus) for code in range(len(cpus[0].fib_codes))}
        return cls(
            ingress=ingress,
            egress=Traffic(sum(cpu.egress.packets for cpu in cpus), sum(cpu.egress.bytes for cpu in cpus)),
            fib_codes={code: number for code, number in codes.items() if number},
            redirect_errors=sum(cpu.redirect_errors for cpu in cpus),
            cache_hits=sum(cpu.cache_hits for cpu in cpus),
        )

    def path(self, prefix: str) -> Traffic:
        """Sum of the verdicts that begin so: `forward`, `pass` (the slow path) or `drop`."""
        return sum((t for verdict, t in self.ingress.items() if verdict.startswith(prefix)), Traffic())


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, of what came in on the port: forwarded here, left to the kernel, dropped here."""

    fast_pps: float = 0.0
    slow_pps: float = 0.0
    drop_pps: float = 0.0
    fast_bps: float = 0.0
    slow_bps: float = 0.0


def rates(before: PortCounters, after: PortCounters, seconds: float) -> Rates:
    fast, slow, drop = (after.path(p) - before.path(p) for p in ("forward", "pass", "drop"))
    return Rates(
        fast_pps=fast.packets / seconds,
        slow_pps=slow.packets / seconds,
        drop_pps=drop.packets / seconds,
        fast_bps=8 * fast.bytes / seconds,
        slow_bps=8 * slow.bytes / seconds,
    )
