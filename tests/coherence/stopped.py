# SPDX-License-Identifier: GPL-2.0-only
"""What holds while the daemon is stopped (SIGSTOP) or has been killed (SIGKILL): nothing is recalled after its lease."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.coherence.changes import SHORT, Changes
from tests.coherence.rounds import Outcome, on_the_other_core, play, wait_until_hot
from tests.coherence.router import A, B, Router
from tests.coherence.scenarios import AT_ONCE_S, SCENARIOS
from tests.coherence.silent import hash_policy
from tests.coherence.traffic import Traffic, until

LEASE_S = 0.2
_WATCHED_S = 0.3
_TIMEOUT_S = 5.0


def at_the_moment(router: Router, traffic: Traffic, number: signal.Signals, family: int, rounds: int) -> Outcome:
    """A route is replaced right after the signal: how long after the signal a frame went the old way."""
    changes = Changes(router, family)
    found = Outcome(f"route replaced right after {number.name}", family, LEASE_S)
    ways = (A, B)
    changes.replace_route(SHORT[family], A)
    for _ in range(rounds):
        old, new = ways
        with on_the_other_core(router), traffic.flowing(family):
            wait_until_hot(traffic, old, cached=True)
            with _without_daemon(router, traffic, number) as stopped_ns:
                changes.replace_route(SHORT[family], new)
                until(lambda: traffic.way(new).made_ns > stopped_ns + 1e9 * _WATCHED_S, _TIMEOUT_S, "the new way")  # noqa: B023
                late = traffic.way(old)
                found.add((late.made_ns - stopped_ns) / 1e9, (late.arrived_ns - stopped_ns) / 1e9)
        ways = new, old
        revive(router, traffic, number)
    changes.delete_route(SHORT[family])
    return found


def after_the_lease(router: Router, traffic: Traffic, number: signal.Signals, rounds: int) -> list[Outcome]:
    """Everything else, with no daemon alive; nothing may be recalled meanwhile."""
    out = []
    with _without_daemon(router, traffic, number) as stopped_ns:
        until(lambda: time.monotonic_ns() > stopped_ns + 1e9 * LEASE_S, _TIMEOUT_S, "the lease's end")
        hits = traffic.hits()
        for family in (4, 6):
            for scenario in SCENARIOS:
                if not scenario.needs_daemon:
                    out += play(router, traffic, scenario, family, rounds, cached=False)
            slow = max(1, rounds // 10)
            out.append(hash_policy(router, traffic, family, slow, cached=False, bound_s=AT_ONCE_S))
        assert traffic.hits() == hits, "answers are recalled without a daemon"
    revive(router, traffic, number)
    return out


@contextmanager
def _without_daemon(router: Router, traffic: Traffic, number: signal.Signals) -> Iterator[int]:
    """The moment of the signal, in ns. Afterwards a stopped daemon goes on; a killed one is gone."""
    process = router.process()
    process.send(number)
    moment = time.monotonic_ns()
    try:
        if number == signal.SIGKILL:
            router.daemon.wait()
        yield moment
    finally:
        if number == signal.SIGSTOP:
            process.send(signal.SIGCONT)


def revive(router: Router, traffic: Traffic, number: signal.Signals) -> None:
    """Until the cache is on again."""
    if number == signal.SIGKILL:
        router.start()
        traffic.adopt()
    until(lambda: router.status()["cache"]["lease_ok"], _TIMEOUT_S, "the lease")
