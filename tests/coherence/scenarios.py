# SPDX-License-Identifier: GPL-2.0-only
"""The changes that are tested. Each scenario is prepared, and then changes something and changes it back, again and again.

A change that is not measured is there to come back to the beginning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.coherence.changes import LONG, OTHER_TABLE, SHORT, Changes
from tests.coherence.router import A, B, C, Router

AT_ONCE_S = 0.0
"""Nothing that was made after the call returned may go the old way."""
SOON_S = 0.010
"""The kernel announces a deletion before it happens, or only by the link."""


@dataclass(frozen=True)
class Step:
    """One change: after it, what went by `old` goes by `new` (router.A, B, C)."""

    name: str
    change: Callable[[], None]
    old: int
    new: int
    bound_s: float = AT_ONCE_S
    afterwards: Callable[[], None] = lambda: None
    """Puts right what the change has destroyed besides; before the next step"""
    refused_at: str = ""
    """The old way is a port that takes nothing any more, where frames sent in vain are counted"""


@dataclass(frozen=True)
class Scenario:
    """`steps` gives the steps that go round, inside a context that makes and takes away what they need."""

    name: str
    steps: Callable[[Router, Changes, int], Iterator[list[Step]]]
    needs_daemon: bool = False


@contextmanager
def _route_replaced(_: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_route(SHORT[family], A)
    try:
        yield [
            Step("route replaced", lambda: changes.replace_route(SHORT[family], B), A, B),
            Step("route replaced", lambda: changes.replace_route(SHORT[family], A), B, A),
        ]
    finally:
        changes.delete_route(SHORT[family])


@contextmanager
def _more_specific(_: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_route(SHORT[family], A)
    try:
        yield [
            Step("more specific route added", lambda: changes.replace_route(LONG[family], B), A, B),
            Step("route deleted", lambda: changes.delete_route(LONG[family]), B, A, SOON_S),
        ]
    finally:
        changes.delete_route(SHORT[family])


@contextmanager
def _neighbour(_: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_route(SHORT[family], A)
    try:
        yield [
            Step("neighbour's MAC changed", lambda: changes.set_mac(A, C), A, C),
            Step("neighbour's MAC changed", lambda: changes.set_mac(A, A), C, A),
        ]
    finally:
        changes.set_mac(A, A)
        changes.delete_route(SHORT[family])


@contextmanager
def _rule(_: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_route(SHORT[family], A)
    changes.replace_route(SHORT[family], B, table=OTHER_TABLE)
    try:
        yield [
            Step("rule added", lambda: changes.add_rule(SHORT[family]), A, B),
            Step("rule deleted", lambda: changes.delete_rule(SHORT[family]), B, A),
        ]
    finally:
        changes.delete_route(SHORT[family], OTHER_TABLE)
        changes.delete_route(SHORT[family])


@contextmanager
def _nexthop(_: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_nexthop(A)
    changes.replace_route_by_nexthop(SHORT[family])
    try:
        yield [
            Step("nexthop replaced", lambda: changes.replace_nexthop(B), A, B),
            Step("nexthop replaced", lambda: changes.replace_nexthop(A), B, A),
        ]
    finally:
        changes.delete_nexthop()  # and with it the route


@contextmanager
def _link_down(router: Router, changes: Changes, family: int) -> Iterator[list[Step]]:
    changes.replace_route(SHORT[family], B)
    changes.replace_route(LONG[family], A)

    def up_again() -> None:
        changes.set_link("out0", True)
        changes.set_mac(A, A)

    try:
        yield [
            Step("link down", lambda: changes.set_link("out0", False), A, B, SOON_S, up_again, "out0"),
            Step("", lambda: changes.replace_route(LONG[family], A), B, A),
        ]
    finally:
        up_again()
        changes.replace_route(LONG[family], A)  # so that it is there, wherever a failure has ended the rounds
        changes.delete_route(LONG[family])
        changes.delete_route(SHORT[family])
        router.restore()


SCENARIOS = [
    Scenario("routes", _route_replaced),
    Scenario("prefixes", _more_specific),
    Scenario("neighbours", _neighbour),
    Scenario("rules", _rule),
    Scenario("nexthops", _nexthop),
    Scenario("links", _link_down, needs_daemon=True),
]
