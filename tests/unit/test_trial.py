# SPDX-License-Identifier: GPL-2.0-only
"""Which answers to test packets let a new program take an old one's place."""

import socket

import pytest

from controlplane.trial import DROP, PASS, REDIRECT, TX, compare, frames

MAC = bytes.fromhex("020000000001")
FRAMES = frames(MAC, "10.0.0.2", [(socket.AF_INET, bytes([10, 0, 1, 2])), (socket.AF_INET6, bytes(15) + b"\1")])


def right(frame: bytes, ifindex: int) -> tuple[int, bytes]:
    """Redirects what the frames for next hops are, with a byte rewritten."""
    goes = any(sent.data == frame and sent.what.startswith("to ") for sent in FRAMES)
    return (REDIRECT, b"\x99" + frame[1:]) if goes else (PASS, frame)


def verdict(new, settled: bool = True, old=right) -> str:
    return compare({7: FRAMES}, {7: old}, new, settled)


def test_the_same_answers_are_good():
    assert verdict(right) == ""


@pytest.mark.parametrize("action", [0, DROP, TX])
def test_no_other_action(action):
    assert "the running program answers pass, the new one" in verdict(lambda frame, _: (action, frame))


def test_no_other_bytes():
    def spoils(frame: bytes, ifindex: int) -> tuple[int, bytes]:
        action, after = right(frame, ifindex)
        return action, after[:-1] + b"\x01" if action == REDIRECT else after

    assert "redirect with different bytes" in verdict(spoils)


def test_what_is_passed_stays_as_it_is():
    assert verdict(lambda frame, _: (PASS, b"\x01" + frame[1:]))


def test_nothing_goes_that_no_router_forwards():
    assert "(ARP)" in verdict(lambda frame, _: (REDIRECT, frame))


def test_all_passed_is_refused_unless_something_is_not_as_it_should_be():
    def lazy(frame: bytes, ifindex: int) -> tuple[int, bytes]:
        return PASS, frame

    assert "passes all of 2 test packets" in verdict(lazy)
    assert verdict(lazy, settled=False) == ""
    assert verdict(right, old=lazy) == "", "more on the fast path is no fault"


def test_frames_are_whole():
    for frame in FRAMES:
        assert len(frame.data) >= 60
        if frame.what in ("TTL 1", "to 10.0.1.2"):
            words = [int.from_bytes(frame.data[at : at + 2], "big") for at in range(14, 34, 2)]
            total = sum(words)
            assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
