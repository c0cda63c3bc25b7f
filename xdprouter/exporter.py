# SPDX-License-Identifier: GPL-2.0-only
"""The metrics endpoint: GET /metrics, from a thread of its own, so that no scraper holds up the engine.

The thread lives in the network namespace that the daemon was *started* in. With `--netns NAME` that is where the operator, his
Prometheus and a loopback that is up are, and nothing listens inside the router; a daemon started inside a namespace listens there.

Bounded: CLIENTS at once, PATIENCE_S each, one small request each; the engine is asked at most once in FRESH_S.
"""

import asyncio
import ctypes
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from xdprouter import api
from xdprouter.config import metrics_address
from xdprouter.errors import UsageError, XdprouterError
from xdprouter.metrics import METRICS

log = logging.getLogger("xdprouter.exporter")

CLIENTS = 16
PATIENCE_S = 10.0
FRESH_S = 1.0
ENGINE_S = 3.0
"""So long an answer of the engine is waited for; an older one, if there is one, is given then."""
OLD_S = 60.0
"""Older ones are not: that the daemon hangs must show."""
_REQUEST_BYTES = 16 << 10
_CLONE_NEWNET = 0x40000000

_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class _Snapshot:
    """Of one `status`, as prometheus_client wants to collect it."""

    def __init__(self, status: api.Status):
        self._status = status

    def collect(self):
        for metric in METRICS:
            family = _KINDS[metric.kind](metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(self._status):
                family.add_metric(labels, value)
            yield family


def render(status: api.Status, accept: str = "") -> tuple[bytes, str]:
    """(body, content type) in the format that an Accept header asks for: OpenMetrics, or Prometheus's own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(status))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Exporter:
    """A context manager: serves from `start` until `close`.

    `address`: as config.metrics_address() gives it. `home`: fd of the network namespace to listen in.
    """

    def __init__(self, address: tuple[str, int], home: int):
        self._address = address
        self._home = home
        self._take: Callable[[], api.Status] | None = None
        self._asked: asyncio.Task | None = None
        self._status: api.Status | None = None
        self._status_at = float("-inf")
        self._rendered: dict[str, tuple[float, bytes, str]] = {}
        self._clients = 0
        self._bound = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> "Exporter":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self) -> None:
        """Raises XdprouterError if the address cannot be had. Until `serve`, clients get 503."""
        self._thread.start()
        self._bound.wait()
        if self._error:
            self._thread.join()
            raise XdprouterError(f"metrics: cannot listen on {name(self._address)}: {self._error.strerror}")

    def serve(self, take: Callable[[], api.Status]) -> None:
        """From now on ask `take`, in the calling thread's running loop."""
        self._engine = asyncio.get_running_loop()
        self._take = take

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except OSError as error:
            self._error = error
        finally:
            self._bound.set()

    async def _listen(self) -> None:
        _enter(self._home)  # this thread alone
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(self._address)
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(self._client, sock=sock, limit=_REQUEST_BYTES, backlog=CLIENTS)
            self._bound.set()
            await self._stop.wait()
            server.close()  # asyncio.run() cancels whoever is still being served

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._clients >= CLIENTS:
                return
            self._clients += 1
            try:
                async with asyncio.timeout(PATIENCE_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(request))
                    await writer.drain()
            finally:
                self._clients -= 1
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            # Who does not read his answer must not keep it in our memory.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        line, *headers = request.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", b"this is not HTTP/1\n")
        method, target = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"only GET and HEAD\n")
        if target != "/metrics":
            return _response("404 Not Found", b"metrics are at /metrics\n", body=method == "GET")
        fields = {key.strip().lower(): value.strip() for key, _, value in (header.partition(":") for header in headers)}
        try:
            text, kind = await self._metrics(fields.get("accept", ""))
        except TimeoutError:
            return _response("503 Service Unavailable", b"the daemon is busy\n", body=method == "GET")
        return _response("200 OK", text, kind, body=method == "GET")

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        """Raises TimeoutError when there is nothing to tell."""
        await self._refresh()
        if self._status is None:
            raise TimeoutError
        _, key = choose_encoder(accept)
        found = self._rendered.get(key)
        if found is None or found[0] != self._status_at:
            found = self._rendered[key] = (self._status_at, *render(self._status, accept))
        return found[1:]

    async def _refresh(self) -> None:
        if self._take is None or time.monotonic() - self._status_at < FRESH_S:
            return
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask())
        try:
            await asyncio.wait_for(asyncio.shield(self._asked), ENGINE_S)
        except TimeoutError:
            if time.monotonic() - self._status_at > OLD_S:
                raise

    async def _ask(self) -> None:
        """One question under way at a time, however many clients wait for it."""
        take = self._take
        assert take is not None

        async def status() -> api.Status:
            return take()

        try:
            found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(status(), self._engine))
        except Exception:
            log.exception("no snapshot for the metrics")
            return
        self._status, self._status_at = found, time.monotonic()


class Exporters:
    """The one exporter that there is or is not, as configured; a context manager. `text`: as in the configuration."""

    def __init__(self, text: str, home: int):
        self._text = text
        self._home = home
        self._take: Callable[[], api.Status] | None = None
        self._now: Exporter | None = None

    def __enter__(self) -> "Exporters":
        self._now = self._started(self._text)
        return self

    def __exit__(self, *_) -> None:
        if self._now:
            self._now.close()

    def serve(self, take: Callable[[], api.Status]) -> None:
        """As Exporter.serve, also of those to come."""
        self._take = take
        if self._now:
            self._now.serve(take)

    def change(self, text: str) -> None:
        """Listen elsewhere. Raises UsageError, and listens where it did, if that address cannot be had."""
        if text == self._text:
            return
        before, same_port = self._now, text and text.rpartition(":")[2] == self._text.rpartition(":")[2]
        if before and same_port:  # as from 127.0.0.1 to 0.0.0.0, which exclude each other
            before.close()
        try:
            after = self._started(text)
        except XdprouterError as error:
            if before and same_port:
                self._now = self._started(self._text)
            raise UsageError(str(error)) from None
        if before:
            before.close()
        self._now, self._text = after, text

    def _started(self, text: str) -> Exporter | None:
        if not text:
            return None
        made = Exporter(metrics_address(text), self._home)
        made.start()
        if self._take:
            made.serve(self._take)
        return made


def name(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def here() -> int:
    """An fd of the network namespace that the calling thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(netns: int) -> None:
    """Move the calling thread there, if it is not there already: that much needs no capability."""
    if os.path.samestat(os.fstat(netns), os.stat("/proc/thread-self/ns/net")):
        return
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(netns, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _response(status: str, content: bytes, kind: str = "text/plain; charset=utf-8", body: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (content if body else b"")
