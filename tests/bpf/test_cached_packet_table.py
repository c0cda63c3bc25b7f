# SPDX-License-Identifier: GPL-2.0-only
"""The tables of test_packet_table.py again, with the cache on: the same verdict and the same frame, whether the FIB
is asked or what it said is recalled."""

from dataclasses import replace

import pytest

from controlplane.cache_key import Key
from tests.bpf.network import Router, rise
from tests.bpf.test_packet_table import (
    ENCAP,
    NOT_ASKED,
    SHARED_TABLES,
    TRUNCATED,
    XDP_PASS,
    XDP_REDIRECT,
    Case,
    _prefixes,
    described,
    expected_action,
    expected_counts,
    expected_frame,
)

KEYS = {
    "narrow": Key(),
    "wide": Key(source=True, ports=True, protocol=True, tos=True, ingress=True, label=True),
}
pytestmark = pytest.mark.usefixtures("one_cpu")
with_keys = pytest.mark.parametrize("key", KEYS)
REMEMBERED = {0, 1}
"""Answers of the FIB that are: a next hop, and a blackhole"""


def check_three_times(case: Case, router: Router, key: Key) -> None:
    """First the FIB is asked, then it is not, if its answer was of that kind."""
    frame = bytes(case.packet)
    for turn, (counted, action, after) in enumerate(router.three_times(frame, case.ingress, key)):
        assert (turn, counted) == (turn, counts(case, len(frame), recalled=turn > 0))
        assert (turn, action, after.hex(" ")) == (turn, expected_action(case.verdict), expected_frame(case).hex(" "))


def counts(case: Case, length: int, recalled: bool) -> dict:
    asked = expected_counts(case, length)
    port = next(name for name, counters in asked.items() if counters.ingress)
    egress_is_no_port = case.description.endswith("egress is no port")
    if recalled and asked[port].fib_codes.keys() & REMEMBERED and not egress_is_no_port:
        asked[port] = replace(asked[port], fib_codes={}, cache_hits=1)
    return asked


@with_keys
@described(SHARED_TABLES)
def test_packet(case, key, request):
    check_three_times(case, request.getfixturevalue(f"cached_{case.router}"), KEYS[key])


@with_keys
@described(ENCAP)
def test_encapsulating_route(case, key, cached_router, encap_route):
    check_three_times(case, cached_router, KEYS[key])


def test_the_tables_have_what_is_remembered_and_what_is_not():
    codes = {code for case in SHARED_TABLES for found in expected_counts(case, 1).values() for code in found.fib_codes}
    assert codes >= REMEMBERED | {2, 3, 4, 5, 7, 8, 9, 15}
    assert any(case.fib_code == NOT_ASKED for case in SHARED_TABLES)


@with_keys
@pytest.mark.parametrize("name", TRUNCATED)
def test_every_prefix_is_passed_untouched(name, key, cached_router):
    """Also where the way of the whole packet is remembered."""
    frame = bytes(TRUNCATED[name])
    cached_router.grant(KEYS[key])
    whole = [cached_router.run(frame)[0] for _ in range(2)]
    assert set(whole) in ({XDP_REDIRECT}, {XDP_PASS})
    before = cached_router.counters()
    cached_router.grant(KEYS[key])
    with cached_router.ns.entered():
        ifindex = cached_router.indexes["in0"]
        outcome = {n: cached_router.dataplane.test_run(frame[:n], ifindex) for n in _prefixes(frame)}
    assert outcome == {n: (XDP_PASS, frame[:n]) for n in _prefixes(frame)}
    (counted,) = rise(before, cached_router.counters()).values()
    assert sum(traffic.packets for traffic in counted.ingress.values()) == len(_prefixes(frame))
    assert counted.cache_hits == 0
    assert counted.fib_codes == {}
