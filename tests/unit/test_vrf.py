# SPDX-License-Identifier: GPL-2.0-only
"""Numbers of VRFs: kept with the name while it exists, also over a restart."""

import ctypes as ct

from controlplane.source import limits
from controlplane.vrf import Vrfs


class Owner(ct.Structure):
    _fields_ = [("name", ct.c_char * 16)]


class Table(dict):
    """As BCC's arrays: every index is there."""

    Leaf = Owner

    def items(self):
        return [(ct.c_int(index), leaf) for index, leaf in super().items()]


class Count(ct.Structure):
    _fields_ = [("packets", ct.c_uint64), ("bytes", ct.c_uint64)]


class Counters(ct.Structure):
    _fields_ = [("forwarded", Count), ("passed", Count), ("dropped", Count)]


def tables() -> dict[bytes, Table]:
    size = limits()["MAX_VRFS"]
    return {
        b"vrf_owners": Table({index: Owner() for index in range(size)}),
        b"vrf_counters": Table({index: (Counters * 2)() for index in range(size)}),
    }


def test_a_name_keeps_its_number_while_the_vrf_exists():
    made = tables()
    vrfs = Vrfs(made)
    vrfs.sync(["red", "blue"], ["red", "blue"])
    assert vrfs.numbers == {"red": 1, "blue": 2}
    made[b"vrf_counters"][2][1].forwarded.packets = 7
    vrfs.sync(["blue", "green"], ["green"])
    assert vrfs.numbers == {"blue": 2, "green": 1}
    again = Vrfs(made)
    assert again.numbers == vrfs.numbers
    assert again.traffic("blue").forwarded.packets == 7
    assert again.traffic("unknown").forwarded.packets == 0


def test_a_number_is_given_again_with_counters_at_zero():
    made = tables()
    vrfs = Vrfs(made)
    vrfs.sync(["red"], ["red"])
    made[b"vrf_counters"][1][0].passed.packets = 7
    vrfs.sync([], [])
    vrfs.sync(["red"], ["red"])
    assert vrfs.traffic("red").passed.packets == 0


def test_more_vrfs_than_numbers():
    names = [f"v{number}" for number in range(limits()["MAX_VRFS"] + 3)]
    vrfs = Vrfs(tables())
    vrfs.sync(names, names)
    assert sorted(vrfs.numbers.values()) == list(range(1, limits()["MAX_VRFS"]))
