# SPDX-License-Identifier: GPL-2.0-only
"""What crossed a port's wire: the kernel's counters and the program's, made one.

Whether a device's own counters include what XDP took from them is up to its driver. Generic XDP runs behind the driver,
and redirects through its ordinary transmit function, so there they do. Native drivers differ: veth counts each frame in
its poll loop, whatever the program says, and redirected frames when the other end takes them (veth_xdp_rcv() and
veth_get_stats64() in drivers/net/veth.c); others count only what became an skb. No list of drivers is kept here; the
numbers themselves tell which kind it is:

- received: without the passed frames, does the kernel still have most of those that the program forwarded or dropped?
- sent: has the kernel fewer frames than were redirected out of the port?

Counters that a driver brings up to date once in a while are late, so the kernel's have LAG_S longer to get there.
"""

from dataclasses import dataclass

from controlplane.counters import PortCounters
from controlplane.link_stats import LinkStats

LAG_S = 5.0
ENOUGH = 64
"""Frames, to judge by."""


@dataclass(frozen=True, slots=True)
class Received:
    """Frames; packets = forwarded + dropped + passed + unseen."""

    packets: int = 0
    forwarded: int = 0
    dropped: int = 0
    passed: int = 0
    unseen: int = 0
    """that the kernel counted and the program did not: for a moment those under way, else a device that had no program"""
    kernel_counts_xdp: bool | None = None
    """None: nothing to judge by yet; taken as True, which is what most drivers do"""


@dataclass(frozen=True, slots=True)
class Sent:
    """Frames; packets = redirected - lost + slow - dropped."""

    packets: int = 0
    redirected: int = 0
    lost: int = 0
    """refused between the program's verdict and the driver: tracepoint xdp_redirect_err"""
    slow: int = 0
    """from the kernel: forwarded on the slow path, or the router's own"""
    dropped: int = 0
    """by the driver: the device's tx_dropped, of redirected frames too where it counts them"""
    kernel_counts_xdp: bool | None = None


@dataclass(frozen=True, slots=True)
class Accounting:
    since_s: float
    """so long ago the sums began: when the daemon first saw this device"""
    kernel: LinkStats
    """as `ip -s link` shows it, since the device exists"""
    received: Received
    sent: Sent


@dataclass(frozen=True, slots=True)
class Reading:
    """Both sides, one right after the other."""

    at: float
    ifindex: int
    counters: PortCounters
    stats: LinkStats

    @property
    def taken(self) -> int:
        """Frames that XDP did not leave to the kernel."""
        return self.counters.path("forward").packets + self.counters.path("drop").packets

    @property
    def passed(self) -> int:
        return self.counters.path("pass").packets

    @property
    def redirected(self) -> int:
        return self.counters.egress.packets

    @property
    def lost(self) -> int:
        return self.counters.redirect_errors

    def follows(self, earlier: "Reading") -> bool:
        """Whether the numbers are those of the same device and slot, gone up."""
        pairs = (
            (self.taken, earlier.taken),
            (self.passed, earlier.passed),
            (self.redirected, earlier.redirected),
            (self.lost, earlier.lost),
            (self.stats.rx_packets, earlier.stats.rx_packets),
            (self.stats.tx_packets, earlier.stats.tx_packets),
            (self.stats.tx_dropped, earlier.stats.tx_dropped),
        )
        return self.ifindex == earlier.ifindex and all(now >= then for now, then in pairs)


class Account:
    """Of one port. Begins anew with another device, or counters that were set back."""

    def __init__(self, first: Reading):
        self._begin(first)

    def _begin(self, first: Reading) -> None:
        self._first = first
        self._marks = [first]
        """Up to two, at least LAG_S apart"""
        self._receive: bool | None = None
        self._transmit: bool | None = None

    def take(self, now: Reading) -> None:
        """A reading; judged when LAG_S has passed since the last one that counted."""
        if not now.follows(self._first):
            self._begin(now)
            return
        if now.at - self._marks[-1].at < LAG_S:
            return
        if len(self._marks) == 2:
            self._judge(*self._marks, now)
        self._marks = [self._marks[-1], now]

    def _judge(self, start: Reading, end: Reading, now: Reading) -> None:
        """By what the program did between `start` and `end`, and the kernel counted until now."""
        taken = end.taken - start.taken
        if taken >= ENOUGH:
            beyond = now.stats.rx_packets - start.stats.rx_packets - (now.passed - start.passed)
            self._receive = 2 * beyond >= taken
        redirected = end.redirected - end.lost - (start.redirected - start.lost)
        if redirected >= ENOUGH and self._transmit is not False:
            # That frames are missing is proof. That none are could be the slow path's doing.
            counted = now.stats.tx_packets + now.stats.tx_dropped - start.stats.tx_packets - start.stats.tx_dropped
            self._transmit = 2 * counted >= redirected

    def at(self, now: Reading) -> Accounting:
        """The sums up to a reading."""
        if not now.follows(self._first):
            self._begin(now)
        first = self._first
        return Accounting(
            since_s=now.at - first.at,
            kernel=now.stats,
            received=self._received(first, now),
            sent=self._sent(first, now),
        )

    def _received(self, first: Reading, now: Reading) -> Received:
        forwarded, dropped, passed = (
            (now.counters.path(path) - first.counters.path(path)).packets for path in ("forward", "drop", "pass")
        )
        packets = now.stats.rx_packets - first.stats.rx_packets
        if self._receive is False:
            packets += forwarded + dropped
        unseen = packets - forwarded - dropped - passed
        return Received(packets, forwarded, dropped, passed, unseen, self._receive)

    def _sent(self, first: Reading, now: Reading) -> Sent:
        redirected, lost = now.redirected - first.redirected, now.lost - first.lost
        dropped = now.stats.tx_dropped - first.stats.tx_dropped
        packets = now.stats.tx_packets - first.stats.tx_packets
        if self._transmit is False:
            # What the driver refused of these is in nobody's count.
            packets += redirected - lost
        slow = packets + dropped - (redirected - lost)
        return Sent(packets, redirected, lost, slow, dropped, self._transmit)
