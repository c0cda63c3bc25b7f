# SPDX-License-Identifier: GPL-2.0-only
"""A large table comes, is sent again, and goes: counted to the route, nothing overrun, nothing lost. The bounds on CPU
and memory are what the design promises for ten times as many routes; `python -m tests.scale` measures."""

import os

import pytest

from lab.lab import Lab
from lab.topology import load
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import stream
from tests.scale import feeds
from tests.scale.measure import ADDRESS, TOPOLOGY

pytestmark = pytest.mark.alone

ROUTES = {4: 100_000, 6: 20_000}
COUNTED_WITHIN_S = 30
CPU_S = 2.0
RSS_BYTES = 10_000_000
PACKETS_PER_S = 2000


@pytest.fixture
def lab():
    with Lab(load(str(TOPOLOGY)), name=f"x{os.getpid()}scale") as lab:
        yield lab


@pytest.mark.parametrize("family", ROUTES)
def test_a_large_table(lab, family):
    router, count = Router(lab, "r1"), ROUTES[family]
    key = f"ipv{family}_routes"
    with feeds.feed("raw", lab, family, count) as feed, stream(lab, "h1", "h2", ADDRESS[family], PACKETS_PER_S) as flow:
        wait_until(lambda: flow.arrived() > 100, 30, "the flow")
        before = router.status()
        hits = _hits(before)
        for phase in feed.phases:
            feed.run(phase)
            wanted = before["fib"][key] + (0 if phase == "withdraw" else count)
            wait_until(lambda: router.status()["fib"][key] == wanted, COUNTED_WITHIN_S, f"{key} to be {wanted}")  # noqa: B023
            status = router.status()
            assert status["fib"]["by_protocol"].get("static", 0) == (0 if phase == "withdraw" else count)
        assert flow.stop() == 0
    assert status["fib"]["by_protocol"] == before["fib"]["by_protocol"]
    assert (status["netlink"]["overruns"], status["in_sync"]) == (0, True)
    assert status["netlink"]["events"] - before["netlink"]["events"] >= 3 * count, "each was heard of"
    assert status["daemon"]["cpu_s"] - before["daemon"]["cpu_s"] < CPU_S
    assert status["daemon"]["rss_bytes"] - before["daemon"]["rss_bytes"] < RSS_BYTES
    assert _hits(status) > hits, "the flow went by the cache"


def _hits(status: dict) -> int:
    return status["cache"]["hits"]
