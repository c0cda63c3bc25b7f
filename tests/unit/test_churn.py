# SPDX-License-Identifier: GPL-2.0-only
"""Rates of routes, from counters as bpf/route_events.h keeps them."""

import struct

import pytest

from controlplane.churn import PERIOD_S, ChurnMeter
from controlplane.notices import ChurnRate, RouteChurn

BGP, KERNEL, STATIC, FRR_STATIC, UNKNOWN = 186, 2, 4, 196, 77


@pytest.fixture
def memory() -> bytearray:
    made = bytearray(2 * 256 * 8)
    count(made, BGP, added=1000)  # before anybody looked
    return made


@pytest.fixture
def meter(memory) -> ChurnMeter:
    made = ChurnMeter(memory)
    assert made.sample(100.0) is None
    return made


def count(memory: bytearray, protocol: int, added: int = 0, deleted: int = 0) -> None:
    for number, at in ((added, protocol), (deleted, 256 + protocol)):
        (before,) = struct.unpack_from("=Q", memory, 8 * at)
        struct.pack_into("=Q", memory, 8 * at, before + number)


def test_nothing_is_told_while_routes_rest(meter):
    assert [meter.sample(100.0 + second) for second in range(1, 5)] == [None] * 4


def test_rates_are_by_protocol_and_a_second(memory, meter):
    count(memory, BGP, added=500, deleted=20)
    count(memory, UNKNOWN, deleted=1)
    assert meter.sample(102.0) == RouteChurn({"protocol_77": ChurnRate(0, 0.5), "bgp": ChurnRate(250, 10)}, 521, 2)


def test_protocols_of_one_name_are_added_up(memory, meter):
    count(memory, STATIC, added=1)
    count(memory, FRR_STATIC, added=2, deleted=1)
    assert meter.sample(101.0) == RouteChurn({"static": ChurnRate(3, 1)}, 4, 1)


def test_the_end_is_told_once_with_all_changes_and_how_long_it_took(memory, meter):
    count(memory, BGP, added=10)
    meter.sample(101.0)
    count(memory, BGP, deleted=5)
    assert meter.sample(102.0).changes == 15
    assert meter.sample(103.0) == RouteChurn({}, 15, 2.0)
    assert meter.sample(104.0) is None
    count(memory, KERNEL, added=1)
    assert meter.sample(105.0) == RouteChurn({"kernel": ChurnRate(1, 0)}, 1, 1.0), "another churn"


def test_a_sample_too_soon_is_none(memory, meter):
    count(memory, BGP, added=9)
    assert meter.sample(100.0 + PERIOD_S / 2) is None
    assert meter.sample(101.0) == RouteChurn({"bgp": ChurnRate(9, 0)}, 9, 1.0)
