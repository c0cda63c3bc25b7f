# SPDX-License-Identifier: GPL-2.0-only
"""What a reload changes, and at which line a file is wrong."""

import pytest

from xdprouter.config import Config, PortConfig
from xdprouter.config_lines import line_of
from xdprouter.reload import RESTART, difference

A, B = PortConfig("a"), PortConfig("b", "generic")


def test_nothing_is_different():
    found = difference(Config(port=(A,)), Config(port=(A,)))
    assert (found.removed, found.wished, found.changed, found.restart) == ([], {}, [], [])


def test_ports_come_go_and_change_their_mode():
    found = difference(Config(port=(A, B)), Config(port=(PortConfig("b"), PortConfig("c"))))
    assert found.removed == ["a"]
    assert found.wished == {"b": "native", "c": "native"}


def test_the_mode_of_all_ports_is_that_of_those_without_their_own():
    found = difference(Config(port=(A, B)), Config(mode="generic", port=(A, B)))
    assert found.wished == {"a": "generic"}
    assert found.changed == ["mode native -> generic"]


def test_what_needs_a_restart_is_not_in_force():
    old = Config(port=(A,))
    found = difference(old, Config(cache_entries=0, netlink_receive_buffer=4096, metrics="127.0.0.1:1", port=(A,)))
    assert found.restart == ["cache_entries 262144 -> 0", "netlink_receive_buffer 33554432 -> 4096"]
    assert found.changed == ["metrics none -> 127.0.0.1:1"] and found.keys == {"metrics"}
    assert all(getattr(found.new, key) == getattr(old, key) for key in RESTART)
    assert found.new.metrics == "127.0.0.1:1"


TEXT = """# comment
mode = "native"
[[port]]
name = "mode"

[[port]]
name = '''x
y'''
mode = 'z'
"""


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (("mode",), 2),
        (("port",), 3),
        (("port", 0, "name"), 4),
        (("port", 1), 6),
        (("port", 1, "name"), 8),
        (("port", 1, "mode"), 9),
        (("port", 2), None),
        (("guard",), None),
        ((), None),
    ],
)
def test_the_line_of_a_value(at, line):
    assert line_of(TEXT, at) == line
