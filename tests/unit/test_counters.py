# SPDX-License-Identifier: GPL-2.0-only
"""Counters: summed over CPUs, summed by path, and as rates."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.counters import PortCounters, Rates, Traffic, rates
from controlplane.source import limits, verdicts

VERDICTS = list(verdicts())


NOTHING = Traffic()


def cpu(
    ingress: dict[str, Traffic] | None = None, egress=NOTHING, codes=None, errors: int = 0, hits: int = 0
) -> SimpleNamespace:
    """One CPU's struct port_counters, as ctypes shows it."""
    ingress, codes = ingress or {}, codes or {}
    return SimpleNamespace(
        ingress=[ingress.get(name, NOTHING) for name in VERDICTS]
        + [NOTHING] * (limits()["MAX_VERDICTS"] - len(VERDICTS)),
        egress=egress,
        fib_codes=[codes.get(code, 0) for code in range(limits()["MAX_FIB_CODES"])],
        redirect_errors=errors,
        cache_hits=hits,
    )


def test_cpus_are_summed_and_what_never_occurred_is_left_out():
    counters = PortCounters.from_cpus(
        [
            cpu({"forward": Traffic(3, 300), "pass_ttl": Traffic(1, 60)}, Traffic(1, 100), {0: 3, 7: 1}, 2, 5),
            cpu(),
            cpu({"forward": Traffic(4, 400)}, Traffic(2, 200), {7: 1}, 1, 6),
        ]
    )
    assert counters == PortCounters(
        ingress={"forward": Traffic(7, 700), "pass_ttl": Traffic(1, 60)},
        egress=Traffic(3, 300),
        fib_codes={0: 3, 7: 2},
        redirect_errors=3,
        cache_hits=11,
    )
    assert PortCounters.from_cpus([cpu(), cpu()]) == PortCounters()


def test_every_verdict_is_read_at_its_own_index():
    ingress = {name: Traffic(index + 1, 100 * index) for index, name in enumerate(VERDICTS)}
    assert PortCounters.from_cpus([cpu(ingress)]).ingress == ingress


def test_paths():
    counters = PortCounters(
        ingress={
            "forward": Traffic(10, 1000),
            "pass_ttl": Traffic(1, 60),
            "pass_no_neighbour": Traffic(2, 130),
            "drop_blackhole": Traffic(5, 500),
        }
    )
    assert counters.path("forward") == Traffic(10, 1000)
    assert counters.path("pass") == Traffic(3, 190)
    assert counters.path("drop") == Traffic(5, 500)
    assert PortCounters().path("pass") == Traffic()


@given(st.dictionaries(st.sampled_from(VERDICTS), st.builds(Traffic, st.integers(0, 1 << 63), st.integers(0, 1 << 63))))
def test_the_three_paths_are_all_that_came_in(ingress):
    counters = PortCounters(ingress=ingress)
    assert sum((counters.path(p) for p in ("forward", "pass", "drop")), Traffic()) == sum(ingress.values(), Traffic())


def test_rates_are_per_second_and_in_bits():
    before = PortCounters(ingress={"forward": Traffic(100, 6400)})
    after = PortCounters(
        ingress={"forward": Traffic(1100, 70_400), "pass_ttl": Traffic(10, 640), "drop_blackhole": Traffic(4, 256)},
        egress=Traffic(9999, 9999),
    )
    assert rates(before, after, 2.0) == Rates(
        fast_pps=500.0, slow_pps=5.0, drop_pps=2.0, fast_bps=256_000.0, slow_bps=2560.0
    )
    assert rates(after, after, 0.5) == Rates()


@pytest.mark.parametrize("seconds", [0.25, 1.0, 3600.0])
def test_a_rate_times_the_time_is_the_difference(seconds):
    after = PortCounters(ingress={"forward": Traffic(1 << 40, 1 << 50)})
    found = rates(PortCounters(), after, seconds)
    assert found.fast_pps * seconds == pytest.approx(1 << 40)
    assert found.fast_bps * seconds == pytest.approx(8 * (1 << 50))
