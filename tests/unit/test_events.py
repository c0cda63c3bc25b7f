# SPDX-License-Identifier: GPL-2.0-only
"""Events: declared once, made from what the engine tells, on the wire, and as lines."""

import dataclasses
import json
import socket
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import notices
from controlplane.finding import Finding
from controlplane.next_hop import NextHop
from xdprouter import events
from xdprouter.event_text import line, text
from xdprouter.reporter import event_of

HOP = NextHop(1 << 30, socket.AF_INET, bytes([10, 0, 0, 1]))
MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
NOTICES = [
    (notices.PortChanged("eth0", "down", "no carrier", "active"), "port eth0 is down: no carrier (was active)"),
    (notices.PortChanged("eth0", "active", "", None), "port eth0 is active"),
    (notices.PortForgotten("eth0"), "port eth0 is no port any more"),
    (notices.DeviceChanged("eth0", "mtu", "1500", "9000"), "port eth0 has mtu 9000 (was 1500)"),
    (notices.FindingCame(Finding(None, "a rule")), "guard all ports: found: a rule"),
    (notices.FindingGone(Finding("eth0", "a rule")), "guard eth0: gone: a rule"),
    *(
        (notices.NeighbourChanged(HOP, change, "failed", False, lladdr, MAC), f"neighbour 10.0.0.1 dev #1073741824 {words}")
        for change, lladdr, words in [
            (notices.NeighbourChange.UNRESOLVED, "", "is unresolved (failed): its traffic takes the slow path"),
            (notices.NeighbourChange.RESOLVED, MAC, f"is resolved: {MAC}"),
            (notices.NeighbourChange.MOVED, OTHER_MAC, f"has moved from {MAC} to {OTHER_MAC}"),
            (notices.NeighbourChange.MANAGED, MAC, f"is kept fresh: {MAC}"),
            (notices.NeighbourChange.UNMANAGED, MAC, "is no longer kept fresh by the kernel (failed)"),
            (notices.NeighbourChange.IDLE, "", "is idle and left to itself (failed)"),
        ]
    ),
    (notices.NeighboursOmitted(99), "neighbour: 99 more at the same moment"),
    (notices.NetlinkLost(2, 1), "netlink events were lost (2 overruns); everything is read anew"),
    (
        notices.RouteChurn({"ospf": notices.ChurnRate(0, 2.04), "bgp": notices.ChurnRate(1234.56, 0)}, 1237, 1.04),
        "routes churn: bgp +1234.6/s -0/s, ospf +0/s -2/s; 1237 changes in 1 s",
    ),
    (notices.RouteChurn({}, 12, 3.3), "routes rest: 12 changes in 3.3 s"),
    (notices.CacheGranted(), "cache in use"),
    (notices.CacheWithdrawn("a setting"), "cache not in use: a setting"),
    (notices.ProgramSwapped(8, 7), "program 8 runs instead of 7"),
    (notices.SyncChanged(()), "in sync"),
    (notices.SyncChanged(("a", "b")), "out of sync: a; b"),
]  # fmt: skip


def message(event: events.Event) -> dict:
    """As it comes out at the other end."""
    found = events.decode(events.encode(events.table(event, 1, 1790000000.1234, 42)))
    assert found is not None
    return found


@pytest.mark.parametrize(("notice", "words"), NOTICES, ids=lambda value: type(value).__name__)
def test_what_the_engine_tells_becomes_an_event_and_a_line(notice, words):
    assert text(message(event_of(notice))) == words


def test_every_notice_is_tried_above():
    assert {type(notice) for notice, _ in NOTICES} == set(typing.get_args(notices.Notice))
    changes = {notice.change for notice, _ in NOTICES if isinstance(notice, notices.NeighbourChanged)}
    assert changes == set(notices.NeighbourChange)


def test_kinds_are_unique_and_no_event_has_a_key_of_the_head():
    kinds = [event.KIND for event in (*events.FROM_DAEMON, *events.FROM_CLIENT)]
    assert len(set(kinds)) == len(kinds)
    assert set(typing.get_args(events.Event)) == {*events.FROM_DAEMON, *events.FROM_CLIENT}
    for event in typing.get_args(events.Event):
        assert not {f.name for f in dataclasses.fields(event)} & {"version", "seq", "time", "pid", "kind"}


def test_an_event_on_the_wire():
    kind, body = events.encode(events.table(events.Port("eth0", "down", "no carrier", "active"), 7, 1.23456, 42))
    assert kind == b"port"
    assert json.loads(body) == {
        "version": 1, "seq": 7, "time": 1.235, "pid": 42, "kind": "port",
        "port": "eth0", "state": "down", "reason": "no carrier", "before": "active",
    }  # fmt: skip


GOOD = {"version": 1, "seq": 1, "time": 1.0, "pid": 1, "kind": "port"}


@pytest.mark.parametrize(
    "frames",
    [
        [], [b""], [b"port", b"{"], [b"port", b"[]"], [b"port", b"1"], [b"[" * 100_000],
        *([b"port", json.dumps(GOOD | change).encode()] for change in ({"version": 2}, {"seq": "1"}, {"pid": None}, {"kind": 1})),
        *([b"port", json.dumps({k: v for k, v in GOOD.items() if k != gone}).encode()] for gone in ("version", "seq", "pid", "kind")),
    ],
)  # fmt: skip
def test_what_is_no_event_is_none(frames):
    assert events.decode(frames) is None


@given(st.lists(st.binary(max_size=50), max_size=3))
def test_no_bytes_raise(frames):
    events.decode(frames)


def test_a_kind_of_a_newer_daemon_is_a_line_too():
    assert text(GOOD | {"kind": "meteor", "size": 3}) == "meteor size 3"


def test_names_from_outside_break_neither_line_nor_terminal():
    shown = line(message(events.Port("e\x1b[2Jth", "down", "a\nb\r\u202e", None)))
    assert shown.isprintable()
    assert shown.endswith(" port e?[2Jth is down: a?b??")


def test_a_line_begins_with_the_time_to_the_millisecond():
    assert line(message(events.Cache(True, ""))).split(" ")[1].endswith(":20.123")
