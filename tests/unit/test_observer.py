# SPDX-License-Identifier: GPL-2.0-only
"""What is told of two moments."""

import dataclasses

import pytest

from controlplane.finding import Finding
from controlplane.link import Link
from controlplane.notices import (
    CacheGranted,
    CacheWithdrawn,
    DeviceChanged,
    FindingCame,
    FindingGone,
    NetlinkLost,
    PortChanged,
    PortForgotten,
    ProgramSwapped,
    SyncChanged,
)
from controlplane.observer import Observed, differences

ETH0 = Link(3, "eth0", "02:00:00:00:00:01", 1500, True, True)
RULE, OTHER = Finding(None, "nftables: chain ip t c: drop"), Finding("eth0", "tc: a filter")
START = Observed(
    ports={"eth0": ("active", ""), "eth1": ("absent", "no such device yet")},
    devices={"eth0": ETH0},
    findings=(RULE,),
    program_id=7,
)


def told(**changes) -> list:
    return list(differences(START, dataclasses.replace(START, **changes)))


def test_nothing_is_told_of_the_same_moment():
    assert told() == []


@pytest.mark.parametrize(
    ("changes", "notices"),
    [
        (
            {"ports": {**START.ports, "eth0": ("down", "no carrier")}},
            [PortChanged("eth0", "down", "no carrier", "active")],
        ),
        (
            {"ports": {**START.ports, "eth0": ("active", "cannot transmit")}},
            [PortChanged("eth0", "active", "cannot transmit", "active")],
        ),
        ({"ports": {**START.ports, "eth2": ("active", "")}}, [PortChanged("eth2", "active", "", None)]),
        ({"ports": {"eth0": ("active", "")}}, [PortForgotten("eth1")]),
        ({"findings": ()}, [FindingGone(RULE)]),
        ({"findings": (RULE, OTHER)}, [FindingCame(OTHER)]),
        ({"findings": (OTHER, OTHER)}, [FindingGone(RULE), FindingCame(OTHER)]),
        ({"findings": (RULE, RULE)}, []),
        (
            {"devices": {"eth0": dataclasses.replace(ETH0, mac="02:00:00:00:00:02", mtu=9000)}},
            [
                DeviceChanged("eth0", "mac", "02:00:00:00:00:01", "02:00:00:00:00:02"),
                DeviceChanged("eth0", "mtu", "1500", "9000"),
            ],
        ),
        ({"devices": {"eth0": dataclasses.replace(ETH0, ifindex=9)}}, [DeviceChanged("eth0", "ifindex", "3", "9")]),
        ({"devices": {"eth0": dataclasses.replace(ETH0, carrier=False)}}, []),
        ({"devices": {"eth0": ETH0, "eth1": dataclasses.replace(ETH0, ifindex=9)}}, []),
        ({"cache": "a setting"}, [CacheWithdrawn("a setting")]),
        ({"overruns": 2, "resyncs": 1}, [NetlinkLost(2, 1)]),
        ({"program_id": 8}, [ProgramSwapped(8, 7)]),
        ({"out_of_sync": ("eth1 is absent",)}, [SyncChanged(("eth1 is absent",))]),
    ],
)
def test_what_is_different_is_told(changes, notices):
    assert told(**changes) == notices


def test_what_ends_is_told_as_well():
    worse = dataclasses.replace(START, cache="a setting", out_of_sync=("eth1 is absent",))
    assert list(differences(worse, START)) == [CacheGranted(), SyncChanged(())]


def test_the_first_moment_tells_ports_and_findings_but_no_swap():
    assert list(differences(Observed(), START)) == [
        FindingCame(RULE),
        PortChanged("eth0", "active", "", None),
        PortChanged("eth1", "absent", "no such device yet", None),
    ]
