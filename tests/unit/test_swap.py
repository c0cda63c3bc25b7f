# SPDX-License-Identifier: GPL-2.0-only
"""What is held and what is let go of when one program takes another's place."""

import asyncio
import os

import pytest

from controlplane.errors import DataplaneError
from controlplane.swap import JUMP, Swapper
from controlplane.upgrade import Upgrade

OLD, NEW = 7, 8


class Links:
    """Attachments of which a test says which programs they have."""

    def __init__(self, **programs: int):
        self.of = {int(name[1:]): number for name, number in programs.items()}
        self.ids: dict[int, int] = {}
        """fd -> id of the program"""

    def hold(self) -> dict[int, int]:
        held = {ifindex: os.open("/dev/null", os.O_RDONLY) for ifindex in self.of}
        self.ids |= {fd: self.of[ifindex] for ifindex, fd in held.items()}
        return held

    def put(self, ifindex: int, fd: int) -> None:
        self.of[ifindex] = self.ids[fd]

    def object_id(self, fd: int) -> int:
        return self.ids[fd]


@pytest.fixture
def links():
    return Links(p3=OLD, p4=OLD)


@pytest.fixture
def counts():
    return [0, 0]


@pytest.fixture
def swapper(links, counts):
    before = _open_files()
    made = Swapper(links, links, lambda: tuple(counts))
    yield made
    made.close()
    assert _open_files() == before


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_has_the_new_program_already_is_not_held(swapper, links):
    links.of[4] = NEW
    before = _open_files()
    swapper.begin(NEW)
    assert (swapper.watching, _open_files() - before) == (True, 1)
    assert (swapper.last.before, swapper.last.after) == (OLD, NEW)


def test_a_second_look_does_not_end_the_watch_over_the_first(swapper, links, counts):
    swapper.begin(NEW)
    links.of = {3: NEW, 4: NEW}
    swapper.begin(NEW)
    counts[0] = JUMP
    swapper.watch()
    assert swapper.last.result == "taken back"
    assert links.of == {3: OLD, 4: OLD}


def test_links_without_a_program_before_are_no_swap(swapper, links):
    links.of.clear()
    swapper.begin(NEW)
    assert (swapper.watching, swapper.last) == (False, None)


class Compiled:
    closed = False

    def close(self) -> None:
        self.closed = True


class Refusing:
    """A data plane that takes no other program."""

    features = frozenset()
    taken_back = ""
    program = None

    def __init__(self):
        self.compiled: list[Compiled] = []

    def compile(self, features) -> Compiled:
        self.compiled.append(Compiled())
        return self.compiled[-1]

    def adopt(self, program, features, settled) -> None:
        raise DataplaneError("it failed its trial")


def _need(dataplane: Refusing) -> Upgrade:
    async def ask() -> Upgrade:
        upgrade = Upgrade(dataplane, lambda: None, lambda: True)
        upgrade.need(frozenset({"vlan"}))
        await upgrade.stop()
        return upgrade

    return asyncio.run(ask())


def test_a_refused_program_is_let_go_of():
    dataplane = Refusing()
    assert _need(dataplane).reason == "the program with vlan was refused: it failed its trial"
    assert [program.closed for program in dataplane.compiled] == [True]


def test_nothing_is_compiled_that_could_not_be_swapped_in():
    dataplane = Refusing()
    dataplane.taken_back = "program 7 is back"
    assert _need(dataplane).reason == "the program with vlan was refused: program 7 is back"
    assert dataplane.compiled == []
