# SPDX-License-Identifier: GPL-2.0-only
"""A change that the kernel announces to nobody: net.ipv4.fib_multipath_hash_policy and its IPv6 sibling.

With policy 1 the source port chooses between A and B; with policy 0 all frames to one destination go one way.
"""

import time

from tests.coherence.changes import SHORT, Changes
from tests.coherence.rounds import Outcome, on_the_other_core, wait_until_hot
from tests.coherence.router import A, B, Router
from tests.coherence.traffic import Traffic, until

NOTICED_S = 1.0
"""The daemon looks twice a second. What is changed and changed back between two looks it cannot see: then answers of
that time live on for cache.LIFE_S"""
SOURCE_PORTS = 64
_QUIET_S = 0.1
_TIMEOUT_S = 15.0


def hash_policy(router: Router, traffic: Traffic, family: int, rounds: int, cached: bool, bound_s: float) -> Outcome:
    """By how much the way of policy 1 outlives the change to policy 0."""
    changes = Changes(router, family)
    found = Outcome("hash policy changed", family, bound_s)
    policy = f"net.ipv{family}.fib_multipath_hash_policy"
    router.write_sysctl(policy, "0")
    changes.replace_route(SHORT[family], A, B)
    try:
        with on_the_other_core(router), traffic.flowing(family, destinations=1, source_ports=SOURCE_PORTS):
            for _ in range(rounds):
                router.write_sysctl(policy, "1")
                for way in (A, B):
                    wait_until_hot(traffic, way, cached)
                if cached:
                    seen = time.monotonic() + NOTICED_S
                    until(lambda: time.monotonic() > seen, 2 * NOTICED_S, "the daemon to look")  # noqa: B023
                router.write_sysctl(policy, "0")
                returned = time.monotonic_ns()
                until(lambda: _is_quiet(traffic), _TIMEOUT_S, "policy 0")
                old = min((traffic.way(way) for way in (A, B)), key=lambda way: way.made_ns)
                found.add((old.made_ns - returned) / 1e9, (old.arrived_ns - returned) / 1e9)
    finally:
        router.write_sysctl(policy, "0")
        changes.delete_route(SHORT[family])
    return found


def _is_quiet(traffic: Traffic) -> bool:
    """One of the two ways."""
    return abs(traffic.way(A).made_ns - traffic.way(B).made_ns) > 1e9 * _QUIET_S
