# SPDX-License-Identifier: GPL-2.0-only
"""How fast routes come and go, by protocol. The kernel counts its announcements (bpf/route_events.h), so this costs
a look at 4 KiB each second, whether a full table arrives or nothing."""

import mmap
import struct

from controlplane.census import protocol_name
from controlplane.notices import ChurnRate, RouteChurn

_PROTOCOLS = 256
_COUNTERS = struct.Struct(f"={2 * _PROTOCOLS}Q")  # struct route_churn of bpf/maps.h
PERIOD_S = 0.9
"""Rates are those of at least this time: of the engine's every second tick."""


class ChurnMeter:
    """`memory`: the map route_churn. What was counted before the first `sample` is none of its business."""

    def __init__(self, memory: mmap.mmap | bytearray):
        self._memory = memory
        self._last: bytes | None = None
        self._sampled_at = 0.0
        self._began_at = 0.0
        self._changes = 0

    def sample(self, now: float) -> RouteChurn | None:
        """The churn since the last sample, one with no rates when it has ended, or None while nothing churns or
        PERIOD_S is not over. `now`: seconds of a monotonic clock."""
        if self._last is not None and now - self._sampled_at < PERIOD_S:
            return None
        last, self._last = self._last, bytes(self._memory[: _COUNTERS.size])
        before, self._sampled_at = self._sampled_at, now
        if last is None:
            return None
        if last == self._last:
            return self._end(before)
        if not self._changes:
            self._began_at = before
        rates = self._rates(_COUNTERS.unpack(last), _COUNTERS.unpack(self._last), now - before)
        return RouteChurn(rates, self._changes, now - self._began_at)

    def _end(self, stopped_at: float) -> RouteChurn | None:
        changes, self._changes = self._changes, 0
        return RouteChurn({}, changes, stopped_at - self._began_at) if changes else None

    def _rates(self, before: tuple[int, ...], now: tuple[int, ...], seconds: float) -> dict[str, ChurnRate]:
        out: dict[str, ChurnRate] = {}
        for protocol in range(_PROTOCOLS):
            added = now[protocol] - before[protocol]
            deleted = now[protocol + _PROTOCOLS] - before[protocol + _PROTOCOLS]
            if not added and not deleted:
                continue
            self._changes += added + deleted
            name = protocol_name(protocol)
            same = out.get(name, ChurnRate(0.0, 0.0))  # FRR's static routes and the kernel's share a name
            out[name] = ChurnRate(same.added + added / seconds, same.deleted + deleted / seconds)
        return out
