# SPDX-License-Identifier: GPL-2.0-only
"""Keeps the next hops of the fast path fresh.

`bpf_fib_lookup` takes a STALE neighbour for ever, and a forwarded packet never touches the stack that would
check it: a gateway with a new MAC would swallow everything. So a next hop that carries traffic is managed
(NTF_EXT_MANAGED): the kernel itself asks for it again and again, also while no daemon runs. On top of that,
one that waits to be asked (STALE, DELAY) is asked at once, and one that does not answer by unicast is
resolved anew, by multicast: both sooner than a router would whose traffic touches the stack.

Every round compares what carries traffic with what the kernel's table says, so whatever was lost (an entry
with its carrier, a request, a daemon) is made good in the next. Entries that are permanent or that somebody
else looks after are left alone. Which ones are ours is written in the entry itself (its protocol), so a new
daemon goes on where the last one ended.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane import neighbour
from controlplane.dataplane import Dataplane
from controlplane.errors import ControlPlaneError
from controlplane.neighbour import ABSENT, Entry, Owner, Request
from controlplane.neighbour_changes import NeighbourWatch
from controlplane.netlink import NetlinkSocket
from controlplane.next_hop import NextHop, Use
from controlplane.notices import Notice

log = logging.getLogger("xdprouter.keeper")

IDLE_S = 60.0
"""Without traffic for this time, a next hop is forgotten: its entry becomes an ordinary one."""
ROUND_S = 0.9
"""At least so long from one round to the next; a little less than the engine's tick."""
_SHARE = 100
"""A round may take a hundredth of the time: with very many next hops there are fewer rounds."""
UNANSWERED_S = 0.9
"""In state PROBE for so long: the first question, by unicast, has had no answer (the kernel asks once a second)."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One next hop for `xdprouter neighbours`."""

    ifindex: int
    address: str
    lladdr: str
    """empty if unknown"""
    state: str
    """as in `ip neigh`, in lower case; absent if the kernel has no entry"""
    managed: bool
    """by us"""
    age_s: float | None
    """since the kernel last had it confirmed"""
    packets: int
    bytes: int
    idle_s: float
    """since it last carried fast-path traffic, as far as this daemon knows"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Next hops that carry traffic."""

    managed: int = 0
    resolved: int = 0
    unresolved: int = 0


def decide(
    used: Iterable[NextHop], silent: set[NextHop], table: Mapping[NextHop, Entry], managing: bool
) -> list[Request]:
    """What to ask of the kernel, in order. Pure.

    used: what carries traffic; silent: what has been asked by unicast in vain; table: all entries of the
    kernel; managing: whether the kernel can manage, else we ask in its place.
    """
    keep = neighbour.manage if managing else neighbour.use
    out: list[Request] = []
    kept = set()
    for hop in used:
        kept.add(hop)
        entry = table.get(hop)
        if entry is None:
            out.append(keep(hop))  # it went with the carrier, say
            continue
        state, owner, _ = entry
        if owner is Owner.OTHER or state & (neighbour.PERMANENT | neighbour.NOARP) or not state & neighbour.VALID:
            continue
        if state == neighbour.PROBE and hop in silent:
            out += [neighbour.fail(hop), keep(hop)]
        elif state & (neighbour.STALE | neighbour.DELAY):
            out.append(neighbour.probe(hop))
            if managing:
                out.append(neighbour.manage(hop))
        elif managing and owner is Owner.NOBODY:
            out.append(neighbour.manage(hop))
    out += [neighbour.release(hop) for hop, entry in table.items() if entry.owner is Owner.US and hop not in kept]
    return out


class Keeper:
    """Works in the network namespace in which it is made.

    idle_s: see IDLE_S. managing: False does without NTF_EXT_MANAGED, as on a kernel before 5.16; None asks the
    kernel. `tick` must not run twice at once.
    """

    def __init__(self, idle_s: float = IDLE_S, managing: bool | None = None):
        self._socket = NetlinkSocket()
        self._reader = NetlinkSocket()  # for `neighbours`, which may be asked during a tick
        self._managing = neighbour.can_manage(self._socket) if managing is None else managing
        self.idle_s = idle_s
        self._uses: Mapping[NextHop, Use] | None = None
        self._last: dict[NextHop, float] = {}
        self._unseen: set[NextHop] = set()
        self._asked: dict[NextHop, float] = {}
        self._running: asyncio.Task | None = None
        self._next_round = 0.0
        self.counts = Counts()
        self.census = neighbour.Census()
        """Of the kernel's whole table, in the last round"""
        self._watch = NeighbourWatch()
        if not self._managing:
            log.info("this kernel cannot manage neighbours (NTF_EXT_MANAGED, 5.16): the daemon asks for them itself")

    async def stop(self, release: bool) -> None:
        """End after the round that is under way. Without `release`, the kernel goes on keeping what is managed."""
        if self._running:
            await asyncio.wait({self._running})
        if release:
            self.release_all()
        self.close()

    def close(self) -> None:
        """Let go of the sockets; what is managed stays so."""
        self._socket.close()
        self._reader.close()

    # --- a round --------------------------------------------------------------------------------

    def refresh(self, dataplane: Dataplane) -> None:
        """Start a round in a thread if one is due. Needs a running loop."""
        if time.monotonic() >= self._next_round and (self._running is None or self._running.done()):
            self._next_round = time.monotonic() + ROUND_S
            self._running = asyncio.create_task(self._round(dataplane))

    async def _round(self, dataplane: Dataplane) -> None:
        started = time.monotonic()
        cost = await asyncio.to_thread(self._work, dataplane)
        self._next_round = started + max(ROUND_S, _SHARE * cost)

    def _work(self, dataplane: Dataplane) -> float:
        """One round; returns its seconds of CPU."""
        started = time.thread_time()
        try:
            dataplane.forget_next_hops(self.tick(time.monotonic(), dataplane.next_hops()))
        except (ControlPlaneError, OSError) as error:
            log.error("next hops are not refreshed: %s", error)
        return time.thread_time() - started

    def tick(self, now: float, uses: Mapping[NextHop, Use]) -> list[NextHop]:
        """One round: `now` in seconds of CLOCK_MONOTONIC, `uses` all that the data plane knows.

        Returns the next hops that have become idle, for the data plane to forget.
        """
        table = neighbour.read(self._socket)
        if self._uses is None:
            self._begin(now, uses, table)
        idle = self._note(now, uses)
        used = [hop for hop in self._last if hop not in self._unseen] if self._unseen else self._last
        requests = decide(used, self._silent(now, table), table, self._managing)
        if refused := neighbour.send(self._socket, requests):
            log.debug("%d of %d requests were refused", refused, len(requests))
        self.counts = _count(used, table)
        self.census = neighbour.count(table.values())
        self._watch.look(used, table)
        return idle

    def changes(self) -> list[Notice]:
        """What has become of the next hops in the rounds since this was last called."""
        return self._watch.take()

    def release_all(self) -> None:
        """Make every entry that we manage an ordinary one."""
        neighbour.send(self._socket, decide((), set(), neighbour.read(self._socket), self._managing))

    def neighbours(self) -> list[Neighbour]:
        """What has carried traffic and is not forgotten, busiest first. Takes some us for each entry of the
        kernel's table."""
        now, uses, last = time.monotonic(), self._uses or {}, dict(self._last)
        known = neighbour.details(self._reader)
        out = []
        for hop, at in last.items():
            use, entry = uses.get(hop, Use(0, 0)), known.get(hop)
            out.append(
                Neighbour(
                    ifindex=hop.ifindex,
                    address=str(hop),
                    lladdr=entry.lladdr if entry else "",
                    state=neighbour.STATES.get(entry.state, str(entry.state)) if entry else "absent",
                    managed=entry is not None and entry.owner is Owner.US,
                    age_s=entry.age_s if entry else None,
                    packets=use.packets,
                    bytes=use.bytes,
                    idle_s=now - at,
                )
            )
        return sorted(out, key=lambda neighbour: -neighbour.packets)

    # --- inside ---------------------------------------------------------------------------------

    def _begin(self, now: float, uses: Mapping[NextHop, Use], table: Mapping[NextHop, Entry]) -> None:
        """What an earlier daemon managed gets its idle time anew; what it only knew has to carry traffic first."""
        ours = {hop for hop, entry in table.items() if entry.owner is Owner.US}
        self._last = dict.fromkeys([*ours, *uses], now)
        self._unseen = set(uses) - ours
        self._uses = uses

    def _note(self, now: float, uses: Mapping[NextHop, Use]) -> list[NextHop]:
        """Who has carried traffic since the last round; returns who has not for too long."""
        before, self._uses = self._uses, uses
        for hop, use in uses.items():
            known = before.get(hop)
            if known is None or use[0] > known[0]:
                self._last[hop] = now
                self._unseen.discard(hop)
        idle = [hop for hop, last in self._last.items() if now - last >= self.idle_s]
        for hop in idle:
            del self._last[hop]
            self._unseen.discard(hop)
        return idle

    def _silent(self, now: float, table: Mapping[NextHop, Entry]) -> set[NextHop]:
        """Who is being asked and has not answered for UNANSWERED_S. Who waits is asked in this round."""
        waiting = neighbour.STALE | neighbour.DELAY
        self._asked = {
            hop: now if state & waiting else self._asked.get(hop, now)
            for hop, (state, _, _) in table.items()
            if state & (waiting | neighbour.PROBE)
        }
        return {hop for hop, since in self._asked.items() if now - since >= UNANSWERED_S}


def _count(used: Iterable[NextHop], table: Mapping[NextHop, Entry]) -> Counts:
    managed = resolved = unresolved = 0
    for hop in used:
        state, owner, _ = table.get(hop, ABSENT)
        managed += owner is Owner.US
        resolved += state & neighbour.VALID != 0
        unresolved += state & neighbour.VALID == 0
    return Counts(managed, resolved, unresolved)
