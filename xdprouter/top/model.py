# SPDX-License-Identifier: GPL-2.0-only
"""What the screen shows: the last reading, what has changed since the one before, and a minute of history."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from xdprouter.events import SILENCE_S
from xdprouter.top.source import Away, Happened, Item, Reading, Silent

HISTORY = 60
"""Readings, about one a second"""
EVENTS = 100
SORTS = ("name", "fast", "slow", "drop")


@dataclass
class Histories:
    """Of one port, packets/s."""

    fast: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    slow: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))


@dataclass(frozen=True)
class Verdict:
    name: str
    pps: float
    packets: int


@dataclass(frozen=True)
class Hop:
    """A next hop."""

    address: str
    device: str
    state: str
    pps: float
    bps: float
    packets: int


class Model:
    """`clock`: seconds that go on while nothing comes in."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._fresh_at = clock()
        self.status: dict | None = None
        self.away = ""
        """Why there is no daemon to ask; empty: there is one"""
        self.events: deque[dict] = deque(maxlen=EVENTS)
        self.churn: Mapping[str, Mapping[str, float]] = {}
        """protocol -> added_per_s, deleted_per_s"""
        self.histories: dict[str, Histories] = {}
        self.cache_history: deque[float] = deque(maxlen=HISTORY)
        self.verdicts: list[Verdict] = []
        self.hops: list[Hop] = []
        self.sort = SORTS[0]
        self._last: Reading | None = None

    @property
    def trouble(self) -> str:
        """Why what is shown is old; empty: it is not."""
        silent_s = self._clock() - self._fresh_at
        if self.away:
            return self.away
        if silent_s > SILENCE_S:
            return f"no answer for {silent_s:.0f} s"
        return "asking the daemon" if self.status is None else ""

    def take(self, item: Item) -> None:
        match item:
            case Reading():
                self._read(item)
            case Happened(event):
                self._happened(event)
            case Away(reason):
                self.away = reason
                self.churn = {}
            case Silent():
                self.away = ""
                self.churn = {}

    def next_sort(self) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def ports(self) -> list[dict]:
        """As in `status`, in the order asked for."""
        ports = self.status["ports"] if self.status else []
        if self.sort == "name":
            return sorted(ports, key=lambda port: port["name"])
        return sorted(ports, key=lambda port: (-port["rates"][f"{self.sort}_pps"], port["name"]))

    @property
    def hit_rate(self) -> float | None:
        """Share of packets that were recalled in the last second; None: none were looked up."""
        return self.cache_history[-1] if self.cache_history and self.cache_history[-1] >= 0 else None

    # --- inside ---------------------------------------------------------------------------------

    def _happened(self, event: dict) -> None:
        if event["kind"] == "routes":
            self.churn = event["by_protocol"]
            if self.churn:
                return  # once a second: the line about routes tells
        self.events.append(event)

    def _read(self, reading: Reading) -> None:
        last, self._last = self._last, reading
        self.status, self.away, self._fresh_at = reading.status, "", self._clock()
        seconds = reading.at - last.at if last else 0.0
        for port in reading.status["ports"]:
            history = self.histories.setdefault(port["name"], Histories())
            history.fast.append(port["rates"]["fast_pps"])
            history.slow.append(port["rates"]["slow_pps"])
        self.verdicts = _verdicts(last.status if last else None, reading.status, seconds)
        self.hops = _hops(last.neighbours if last else [], reading.neighbours, seconds)
        if last:
            self.cache_history.append(_hit_rate(last.status["cache"], reading.status["cache"]))


def _per_second(before: int | None, now: int, seconds: float) -> float:
    """0 for what was not there before, and when a counter began anew."""
    return (now - before) / seconds if before is not None and seconds > 0 and now > before else 0.0


def _verdict_packets(status: dict) -> dict[str, int]:
    out: dict[str, int] = {}
    for port in status["ports"]:
        for verdict, traffic in port["ingress"].items():
            out[verdict] = out.get(verdict, 0) + traffic["packets"]
    return out


def _verdicts(before: dict | None, now: dict, seconds: float) -> list[Verdict]:
    """Busiest first."""
    known = _verdict_packets(before) if before else {}
    found = [
        Verdict(name, _per_second(known.get(name, 0) if before else None, packets, seconds), packets)
        for name, packets in _verdict_packets(now).items()
    ]
    return sorted(found, key=lambda verdict: (-verdict.pps, -verdict.packets, verdict.name))


def _hops(before: list[dict], now: list[dict], seconds: float) -> list[Hop]:
    """Busiest first."""
    known = {(hop["ifindex"], hop["address"]): hop for hop in before}
    found = []
    for hop in now:
        old = known.get((hop["ifindex"], hop["address"]), {})
        found.append(
            Hop(
                address=hop["address"],
                device=hop["device"],
                state=hop["state"],
                pps=_per_second(old.get("packets"), hop["packets"], seconds),
                bps=8 * _per_second(old.get("bytes"), hop["bytes"], seconds),
                packets=hop["packets"],
            )
        )
    return sorted(found, key=lambda hop: (-hop.pps, -hop.packets, hop.address))


def _hit_rate(before: dict, now: dict) -> float:
    """0 to 1; -1: nothing was looked up."""
    hits, misses = now["hits"] - before["hits"], now["misses"] - before["misses"]
    return hits / (hits + misses) if hits >= 0 and misses >= 0 and hits + misses else -1.0
