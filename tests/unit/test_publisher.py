# SPDX-License-Identifier: GPL-2.0-only
"""The event socket between a publisher and its subscribers, in one process and without root."""

import os
import stat
from collections.abc import Iterator

import pytest
import zmq

from lab.wait import wait_until
from xdprouter import events, instance
from xdprouter.errors import NoDaemon, XdprouterError
from xdprouter.instance import Instance
from xdprouter.publisher import QUEUE, Publisher
from xdprouter.subscriber import Subscriber

BOUND_S = 30.0
SLOW = 50


@pytest.fixture
def here(tmp_path, monkeypatch) -> Instance:
    monkeypatch.setattr(instance, "RUN_ROOT", tmp_path)
    monkeypatch.setattr(instance, "NETNS_DIR", tmp_path / "none")
    made = Instance()
    made.directory.mkdir()
    return made


@pytest.fixture
def publisher(here) -> Iterator[Publisher]:
    with Publisher(here, "no such group") as made:
        yield made


def subscribed(publisher: Publisher, subscriber: Subscriber) -> None:
    def in_force() -> bool:
        publisher.publish(events.Alive())
        assert subscriber.next(timeout_ms=10) is None
        return subscriber.in_force

    wait_until(in_force, BOUND_S, "the subscription to be in force")


def heard(subscriber: Subscriber) -> dict:
    event = subscriber.next(timeout_ms=round(1000 * BOUND_S))
    assert event, "no event came"
    return event


def port(number: int) -> events.Port:
    return events.Port(f"p{number}", "active", "", None)


def test_events_arrive_in_order_and_numbered(here, publisher):
    publisher.publish(port(0))
    with Subscriber(here) as subscriber:
        subscribed(publisher, subscriber)
        for number in range(1, 4):
            publisher.publish(port(number))
        found = [heard(subscriber) for _ in range(3)]
    assert [(event["seq"], event["port"], event["pid"]) for event in found] == [
        (number + 1, f"p{number}", os.getpid()) for number in range(1, 4)
    ]


def test_the_socket_is_roots_alone_and_goes_with_the_daemon(here):
    with Publisher(here, "no such group"):
        assert stat.S_IMODE(here.events_socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(here.directory.stat().st_mode) == 0o700
        assert sorted(path.name for path in here.directory.iterdir()) == ["events.sock"]
    assert not list(here.directory.iterdir())


def test_no_subscriber_without_a_daemon(here):
    with pytest.raises(NoDaemon), Subscriber(here):
        pass


def test_who_waits_hears_the_daemon_come_go_and_come_back(here):
    with Subscriber(here, wait=True) as subscriber:
        assert subscriber.next(timeout_ms=50) is None
        for name in ("first", "second"):
            with Publisher(here, "no such group") as publisher:
                assert heard(subscriber)["kind"] == "connected"
                subscribed(publisher, subscriber)
                publisher.publish(events.Daemon("stopping", 1, name))
            assert (heard(subscriber)["text"], heard(subscriber)["kind"]) == (name, "disconnected")


def test_who_does_not_read_holds_up_nobody_and_is_told_what_was_lost(here, publisher):
    """A healthy one beside fifty others gets every event; each of those sees the gap, in the end."""
    context = zmq.Context()
    slow = []
    with Subscriber(here) as healthy:
        for _ in range(SLOW):
            sock = context.socket(zmq.SUB)
            sock.setsockopt(zmq.RCVHWM, 1)
            sock.setsockopt(zmq.RCVBUF, 4096)
            sock.setsockopt(zmq.SUBSCRIBE, b"")
            sock.connect(f"ipc://{here.events_socket}")
            slow.append(sock)
        subscribed(publisher, healthy)
        for sock in slow:
            wait_until(lambda sock=sock: publisher.publish(events.Alive()) or sock.poll(10), BOUND_S, "a subscription")
        sent = 5 * QUEUE
        for number in range(sent):
            publisher.publish(events.Port(f"p{number}", "active", "x" * 400, None))
            assert heard(healthy)["port"] == f"p{number}"
    for sock in slow:
        got = set()
        while sock.poll(50):
            got.add(events.decode(sock.recv_multipart())["seq"])
        assert len(got) < sent, "it kept everything: this test tests nothing"
        assert got, "not even what fits was delivered"
    context.destroy(linger=0)


def test_a_gap_is_told_also_when_it_is_the_last(here, publisher):
    with Subscriber(here) as subscriber:
        subscribed(publisher, subscriber)
        publisher.publish(port(1))
        publisher._seq += 5
        publisher.publish(port(2))
        publisher._seq += 3
        publisher.publish(events.Alive())
        found = [heard(subscriber) for _ in range(4)]
    assert [(event["kind"], event.get("number")) for event in found] == [
        ("port", None), ("lost", 5), ("port", None), ("lost", 3),
    ]  # fmt: skip


def test_garbage_from_a_subscriber_harms_nobody(here, publisher):
    context = zmq.Context()
    rude = context.socket(zmq.XSUB)
    rude.connect(f"ipc://{here.events_socket}")
    with Subscriber(here) as subscriber:
        subscribed(publisher, subscriber)
        for message in (b"", b"\0", b"\1" * 1000, b"\1" * 100_000, b"x" * 100_000, bytes(range(256))):
            rude.send(message)
        for number in range(100):
            publisher.publish(port(number))
            assert heard(subscriber)["port"] == f"p{number}"
    context.destroy(linger=0)


def test_a_reader_that_has_gone_is_noticed_without_an_event(here, publisher):
    ours, theirs = os.pipe()
    try:
        with Subscriber(here) as subscriber:
            assert subscriber.next(timeout_ms=10, until_closed=theirs) is None
            os.close(ours)
            with pytest.raises(BrokenPipeError):
                subscriber.next(timeout_ms=round(1000 * BOUND_S), until_closed=theirs)
    finally:
        os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to become somebody else")
def test_who_may_not_use_the_socket_is_told_so(here, publisher, tmp_path):
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            Subscriber(here, wait=True).__enter__()
        except XdprouterError as error:
            os._exit(0 if "not allowed" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
