# SPDX-License-Identifier: GPL-2.0-only
"""At full rate on one core: after a change has returned, no packet that comes in goes the old way.

`make coherence` does the same a thousand times over, with and without the cache.
"""

import signal

import pytest

from tests.coherence import stopped
from tests.coherence.changes import SHORT, Changes
from tests.coherence.rounds import on_the_other_core, play, wait_until_hot
from tests.coherence.router import A, B
from tests.coherence.router import router as running_router
from tests.coherence.scenarios import SCENARIOS
from tests.coherence.silent import NOTICED_S, hash_policy
from tests.coherence.traffic import traffic as flowing_traffic
from tests.coherence.traffic import until

pytestmark = pytest.mark.alone

ROUNDS = 50
ELSEWHERE = {4: ("10.32.0.0", 24), 6: ("fd20::", 64)}
"""In other blocks than the traffic's destinations"""


@pytest.fixture(scope="module")
def router():
    with running_router(cached=True) as made:
        yield made


@pytest.fixture(scope="module")
def traffic(router):
    with flowing_traffic(router) as made:
        yield made


def _assert_good(outcomes):
    for found in outcomes:
        worst = f"{found.name}, IPv{found.family}: {1e3 * found.worst_s:.3f} ms after it had returned"
        assert found.is_good, f"{worst} a packet came in that went the old way ({found.late_rounds} rounds)"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_goes_the_old_way(router, traffic, scenario, family):
    _assert_good(play(router, traffic, scenario, family, ROUNDS, cached=True))


@pytest.mark.parametrize("family", [4, 6])
def test_a_change_without_a_word_is_noticed(router, traffic, family):
    _assert_good([hash_policy(router, traffic, family, 2, cached=True, bound_s=NOTICED_S)])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda number: number.name)
def test_the_cache_ends_with_the_daemon(router, traffic, number, family):
    _assert_good([stopped.at_the_moment(router, traffic, number, family, 2)])


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda number: number.name)
def test_without_a_daemon_nothing_is_recalled(router, traffic, number):
    _assert_good(stopped.after_the_lease(router, traffic, number, 5))


@pytest.mark.parametrize("family", [4, 6])
def test_a_prefix_that_flaps_elsewhere_costs_no_hits(router, traffic, family):
    changes = Changes(router, family)
    changes.replace_route(SHORT[family], A)
    try:
        with on_the_other_core(router), traffic.flowing(family):
            wait_until_hot(traffic, A, cached=True)
            invalidations = router.status()["cache"]["invalidations"]
            made, hits = traffic.made(), traffic.hits()
            for number in range(500):
                changes.replace_route(ELSEWHERE[family], (A, B)[number & 1])
                changes.delete_route(ELSEWHERE[family])
            made, hits = traffic.made() - made, traffic.hits() - hits
        assert router.status()["cache"]["invalidations"] >= invalidations + 1000
        assert made > 10_000
        assert hits > 0.9 * made  # less only if the machine starves the daemon of its lease
    finally:
        changes.delete_route(SHORT[family])


@pytest.mark.parametrize("family", [4, 6])
def test_neighbouring_destinations_all_have_room(router, traffic, family):
    """As many as a /24 has: they must not share a few places."""
    changes = Changes(router, family)
    changes.replace_route(SHORT[family], A)
    try:
        with on_the_other_core(router), traffic.flowing(family, destinations=256):
            wait_until_hot(traffic, A, cached=True)
            made, hits = traffic.made(), traffic.hits()
            until(lambda: traffic.made() > made + 500_000, 30, "many frames")
            made, hits = traffic.made() - made, traffic.hits() - hits
        assert hits > 0.95 * made
    finally:
        changes.delete_route(SHORT[family])
