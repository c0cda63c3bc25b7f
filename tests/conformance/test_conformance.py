# SPDX-License-Identifier: GPL-2.0-only
"""xdprouter does what the kernel does: under every configuration, for named and for generated packets."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conformance import known
from tests.conformance.configurations import CONFIGURATIONS, configuration
from tests.conformance.corpus import CASES
from tests.conformance.pair import Pair
from tests.conformance.run import compare
from tests.conformance.strategy import packets

PACKETS = int(os.environ.get("CONFORMANCE_PACKETS", 100_000))
"""Generated ones, over all configurations."""
SEED = int(os.environ.get("CONFORMANCE_SEED", random.SystemRandom().randrange(1 << 32)))
_GENERATING = [one for one in CONFIGURATIONS if not one.rows]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [pytest.param(one.name, marks=[pytest.mark.needs(*one.needs)] if one.needs else []) for one in CONFIGURATIONS],
)
def test_no_difference(name, root):
    """`CONFORMANCE_SEED=N` repeats a run; a difference is printed as one small packet."""
    print(f"seed {SEED}")
    result = compare(configuration(name), -(-PACKETS // len(_GENERATING)), SEED)
    assert not result.differences, "\n".join(map(str, result.differences[:20]))
    assert result.is_good, f"{result.fast} packets took the fast path, {result.not_shrunk} more differ"


def test_known_differences_are_still_there(root):
    """Take an entry out of known.py when this fails: xdprouter has learnt it."""
    for entry in known.KNOWN:
        (case,) = [one for one in CASES if one.name == entry.case]
        assert known.reason(configuration(entry.configuration), case.frame) == entry.reason
        result = compare(configuration(entry.configuration), 0, 0, cases=[case])
        assert result.known == {entry.reason: 1}


@pytest.fixture(scope="module")
def pair():
    with Pair(configuration("routes and default")) as pair:
        yield pair


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(packet=packets())
def test_hypothesis_finds_no_difference(pair, root, packet):
    kernel, ours = pair.exchange([packet])
    assert kernel == ours or known.reason(pair.configuration, packet[1])
