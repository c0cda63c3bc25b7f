# SPDX-License-Identifier: GPL-2.0-only
"""The metrics endpoint alone, before an engine that a test plays: what it answers, and whom it does not let hold it up."""

import asyncio
import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, closing

import pytest

from lab import namespace
from lab.wait import wait_until
from tests.unit.test_metrics import port, status
from xdprouter import exporter
from xdprouter.errors import XdprouterError
from xdprouter.exporter import CLIENTS, Exporter

ADDRESS = ("127.0.0.1", 9474)
URL = "http://127.0.0.1:9474"


@pytest.fixture
def home(office):
    with open(namespace.path(office), "rb") as file:
        yield file.fileno()


class Engine:
    """A loop in a thread, as the daemon has one. `hold` stops it as a long dump would."""

    def __init__(self):
        self.taken = 0
        self.broken = False
        self._free = threading.Event()
        self._free.set()
        self._held = threading.Event()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def take(self):
        self.taken += 1
        if self.broken:
            raise RuntimeError("no status today")
        return status(port())

    def serve(self, served: Exporter) -> None:
        async def begin() -> None:
            served.serve(self.take)

        asyncio.run_coroutine_threadsafe(begin(), self.loop).result()

    def hold(self) -> None:
        def wait() -> None:
            self._held.set()
            self._free.wait()

        self._free.clear()
        self.loop.call_soon_threadsafe(wait)
        self._held.wait()

    def free(self) -> None:
        self._free.set()

    def close(self) -> None:
        self.free()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def engine():
    with closing(Engine()) as made:
        yield made


@pytest.fixture
def served(home, engine):
    with Exporter(ADDRESS, home) as made:
        engine.serve(made)
        yield made


def get(ns: str, path: str = "/metrics", method: str = "GET", timeout: float = 30.0):
    """(status, body)"""
    with namespace.entered(ns):
        try:
            with urllib.request.urlopen(urllib.request.Request(URL + path, method=method), timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def connect(ns: str) -> socket.socket:
    with namespace.entered(ns):
        return socket.create_connection(ADDRESS, timeout=30)


def ask(ns: str, request: bytes) -> bytes:
    """Everything that comes back, up to the end of the connection."""
    with connect(ns) as sock:
        sock.sendall(request)
        out = b""
        try:
            while data := sock.recv(65536):
                out += data
        except ConnectionResetError:
            pass
        return out


def test_it_answers_in_its_namespace_and_nowhere_else(served, office):
    code, body = get(office)
    assert code == 200 and b"xdprouter_in_sync 1.0" in body
    assert get(office, "/metrics?x=1")[0] == 200
    assert get(office, method="HEAD") == (200, b"")
    with pytest.raises(OSError), socket.create_connection(ADDRESS, timeout=5):
        pass


def test_before_the_engine_is_ready_it_says_so(office, home):
    with Exporter(ADDRESS, home):
        assert get(office)[0] == 503


def test_it_goes_without_a_trace_and_comes_back(office, home):
    before = threading.active_count()
    for _ in range(3):
        with Exporter(ADDRESS, home):
            assert get(office)[0] == 503
        assert threading.active_count() == before
        with pytest.raises(ConnectionRefusedError):
            connect(office)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n: \r\n\xff\xfe\r\nAccept\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nAccept: " + b"a/b;q=x," * 500 + b"\r\n\r\n", b"200"),
    ],
)
def test_every_request_gets_an_answer(served, office, request_, code):
    assert ask(office, request_).startswith(b"HTTP/1.1 " + code)


@pytest.mark.parametrize(
    "request_", [b"", b"\r\n", b"x" * 100_000, b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 20_000]
)
def test_what_is_no_request_is_closed(served, office, monkeypatch, request_):
    monkeypatch.setattr(exporter, "PATIENCE_S", 0.5)
    assert ask(office, request_) == b""
    assert get(office)[0] == 200


def test_clients_that_do_not_read_or_write_hold_up_nobody_for_long(served, office, monkeypatch):
    monkeypatch.setattr(exporter, "PATIENCE_S", 1.0)
    with ExitStack() as stack:
        for _ in range(5 * CLIENTS):
            stack.enter_context(connect(office)).sendall(b"GET /met")
        wait_until(lambda: _answers(office), 30, "an answer")


def _answers(ns: str) -> bool:
    try:
        return get(ns)[0] == 200
    except OSError:
        return False


def test_the_engine_is_asked_at_most_once_in_a_while(served, office, engine, monkeypatch):
    monkeypatch.setattr(exporter, "FRESH_S", 3600.0)
    assert [get(office)[0] for _ in range(20)] == [200] * 20
    assert engine.taken == 1
    monkeypatch.setattr(exporter, "FRESH_S", 0.0)
    get(office)
    assert engine.taken == 2


def test_while_the_engine_is_busy_the_last_snapshot_serves(served, office, engine, monkeypatch):
    monkeypatch.setattr(exporter, "FRESH_S", 0.0)
    monkeypatch.setattr(exporter, "ENGINE_S", 0.05)
    first = get(office)
    assert first[0] == 200
    engine.hold()
    assert [get(office)[0] for _ in range(5)] == [200] * 5
    monkeypatch.setattr(exporter, "OLD_S", 0.0)
    assert get(office)[0] == 503, "that it hangs must show in the end"
    engine.free()
    wait_until(lambda: get(office)[0] == 200, 30, "a new snapshot")
    assert engine.taken <= 4, "questions do not pile up"


def test_a_status_that_fails_is_no_end(served, office, engine):
    engine.broken = True
    assert get(office)[0] == 503
    engine.broken = False
    assert get(office)[0] == 200


@pytest.mark.parametrize(
    ("address", "says"),
    [(ADDRESS, "Address already in use"), (("192.0.2.1", 9474), "Cannot assign requested address")],
)
def test_an_address_that_cannot_be_had_is_one_line(served, home, address, says):
    before = threading.active_count()
    with pytest.raises(XdprouterError) as caught, Exporter(address, home):
        pass
    assert str(caught.value) == f"metrics: cannot listen on {address[0]}:9474: {says}"
    assert caught.value.exit_code == 1
    assert threading.active_count() == before


def test_ipv6(office, home):
    with Exporter(("::1", 9474), home), namespace.entered(office), socket.create_connection(("::1", 9474), timeout=30):
        pass
