# SPDX-License-Identifier: GPL-2.0-only
"""How long an answer lives, and what is recalled while the FIB is unsettled or nobody listens."""

import pytest

from controlplane import cache as cache_module
from lab.wait import wait_until
from tests import packets
from tests.bpf.cache.cached import ELSEWHERE, FAR, LONG, OUT, SHORT, VIA, Cached, families, keys, now

pytestmark = pytest.mark.usefixtures("one_cpu")


UNSETTLED = cache_module.HZ // 8
UNITS_PER_S = cache_module.HZ


@families
@keys
def test_an_answer_expires(router, family, key):
    packet = packets.udp(OUT[family])
    router.warm(packet, key=key)
    router.state.life = 8
    router.cache.invalidate()
    assert not router.recalls(packet)
    after = now() + 8
    wait_until(lambda: passed(after), 30, "eight units of time")
    router.state.life = FAR
    assert not router.recalls(packet)
    after = now() + 8
    wait_until(lambda: passed(after), 30, "eight units of time")
    assert router.recalls(packet), "with a longer life it is still there"


@families
@pytest.mark.parametrize("where", ["block", "family"])
def test_an_answer_does_not_live_long_while_the_fib_is_unsettled(router, family, where):
    packet, others = packets.udp(OUT[family]), packets.udp(ELSEWHERE[family])
    index = index_of_block(router, family)

    def asked_in_time() -> bool:
        """False on a machine so slow that the time was over."""
        router.calm()
        until = (now() + UNSETTLED) & 0xFFFFFFFF
        if where == "block":
            unsettle_block(router, family, index, until)
        else:
            router.state.unsettled[family == 6] = until
        assert not router.recalls(packet)
        assert not router.recalls(others)
        return not passed(until)

    wait_until(asked_in_time, 30, "two packets within the time")
    after = now() + 1
    wait_until(lambda: passed(after), 30, "a tick")
    assert not router.recalls(packet)
    assert router.recalls(others) is (where == "block")


@families
@pytest.mark.parametrize("where", ["block", "family"])
def test_an_announcement_unsettles_for_a_while(router, family, where):
    prefix = LONG[family] if where == "block" else SHORT[family]
    index = index_of_block(router, family)

    def until() -> int:
        return router.blocks(family)[index][1] if where == "block" else router.state.unsettled[family == 6]

    for command in ("add", "del"):
        before = now()
        router.ns.ip(f"route {command} {prefix} {VIA[family]}", family=family)
        assert before + UNSETTLED <= until() <= now() + UNSETTLED, command


@families
def test_without_a_lease_nothing_is_recalled_or_remembered(router, family):
    packet = packets.udp(OUT[family])
    router.warm(packet)
    for end in (lambda: lapse(router, now()), lambda: router.cache.withdraw("a reason")):
        end()
        assert [router.recalls(packet) for _ in range(3)] == [False] * 3
        router.settle()
        assert router.recalls(packet), "what was remembered before is good still"
    router.cache.invalidate()
    lapse(router, now())
    assert not router.recalls(packet)
    router.settle()
    assert not router.recalls(packet)


@families
def test_times_of_long_ago_are_not_in_the_future(router, family):
    """The clock has 32 bits. A daemon may be gone for months, and a block without a route event for longer."""
    packet = packets.udp(OUT[family])
    router.warm(packet)
    for days in (99, 100, 150, 198):
        long_ago = (now() - round(days * 86400 * UNITS_PER_S)) & 0xFFFFFFFF
        lapse(router, long_ago)
        assert not router.recalls(packet), f"{days} days without a daemon"
        router.settle()
        assert router.recalls(packet)


@families
@pytest.mark.parametrize("days", [99, 100, 150, 198])
def test_what_was_unsettled_long_ago_is_settled(router, family, days):
    packet = packets.udp(OUT[family])
    long_ago = (now() - round(days * 86400 * UNITS_PER_S)) & 0xFFFFFFFF
    unsettle_block(router, family, index_of_block(router, family), long_ago)
    router.state.unsettled[:] = [long_ago] * 2
    assert not router.recalls(packet)
    after = now() + 2
    wait_until(lambda: passed(after), 30, "two ticks")
    assert router.recalls(packet)


def lapse(router: Cached, until: int) -> None:
    """A daemon that is gone, and its last lease."""
    router.alive = False
    router.state.lease = until


def passed(moment: int) -> bool:
    """So that an answer that expired then is no longer valid."""
    return (now() - moment) & 0xFFFFFFFF < 1 << 31


def index_of_block(router: Cached, family: int) -> int:
    """Of the block that OUT lies in: found by what an announcement changes."""
    before = router.blocks(family)
    router.ns.ip(f"route add {LONG[family]} {VIA[family]} metric 77", family=family)
    after = router.blocks(family)
    router.ns.ip(f"route del {LONG[family]} {VIA[family]} metric 77", family=family)
    router.calm()
    (index,) = (number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1])
    return index


def unsettle_block(router: Cached, family: int, index: int, until: int) -> None:
    blocks = router.blocks(family)
    blocks[index] = (blocks[index][0], until)
    router.write_blocks(family, blocks)
