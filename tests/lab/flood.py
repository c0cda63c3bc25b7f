# SPDX-License-Identifier: GPL-2.0-only
r"""A router with one way through, and 100,000 packets a second on it, each of them counted at the far end.

    in0p === in0 [ router ] out0 === out0p

The frames are made in the kernel (live test runs of bpf/bench/feed.c) and leave by in0p, so that they meet whatever in0 has:
the old program, the new one, or the kernel alone. A frame that the slow path forwards arrives, and counts, like any other.
"""

import ctypes as ct
import errno
import ipaddress
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from controlplane import libbpf
from controlplane.compiler import libbpf_of_bcc
from controlplane.errors import DataplaneError
from controlplane.libbpf import TestRunOpts, XdpMd
from lab import instance, namespace
from lab.process import Process, end
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.bench.programs import Programs
from xdprouter.instance import Instance

RATE = 100_000
FRAME_LEN = 64
PORTS = ("in0", "out0")
DESTINATION = network.next_hops(4, 1)[0]
_BATCH = 64
"""At once in a veth's ring, which holds 256."""
_ROUNDS = 1 << 20
"""Of a test run, some 0.1 s; its end costs 25 ms, for which the next one makes up."""
_FED = struct.Struct("=QQQ")


class Flood:
    """Between `start` and `stop`. Made by `flood`."""

    def __init__(self, ns: str, stack: ExitStack, rate: int = RATE):
        self._ns = ns
        self._lib = libbpf_of_bcc()
        far_end = network.ifindex(ns, "in0p")
        address = int.from_bytes(ipaddress.ip_address(DESTINATION).packed, "little")
        defines = (f"-DFAR_END={far_end}", f"-DDESTINATION4={address:#x}U", f"-DRATE={rate}ULL")
        feed = Programs("feed", self._lib, stack, defines=defines)
        self._feed = feed.load("feed")
        self._fed = mmap.mmap(feed.table("fed").map_fd, mmap.PAGESIZE)
        stack.callback(self._fed.close)
        sink = Programs("sink", self._lib, stack)
        with namespace.entered(ns):
            link = self._lib.link_create(sink.load("sink"), network.ifindex(ns, "out0p"), libbpf.XDP_FLAGS_DRV_MODE)
        stack.callback(os.close, link)
        self._arrivals = sink.table("arrivals")
        self._far_end = far_end
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._final = 0
        self.seconds = 0.0
        """that it took, after `stop`"""
        self._thread = threading.Thread(target=self._run)
        self._began = time.monotonic()
        self._thread.start()
        stack.callback(self.stop)

    @property
    def sent(self) -> int:
        return self._final or _FED.unpack_from(self._fed)[0]

    def arrived(self) -> int:
        return sum(self._arrivals[ct.c_int(0)])

    def lost(self) -> int:
        """To be asked after `stop`."""
        return self.sent - self.arrived()

    def stop(self) -> int:
        """End it, and wait for the last frame. Returns how many were lost."""
        self._stop.set()
        self._thread.join()
        if not self._final:
            self._final, self.seconds = self.sent, time.monotonic() - self._began
        if self._error:
            raise self._error
        deadline = time.monotonic() + 3
        while self.lost() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.lost()

    def carry(self, frames: int) -> None:
        """Wait until so many more have arrived."""
        wanted = self.arrived() + frames
        wait_until(lambda: self._error or self.arrived() >= wanted, 30, f"{frames} more frames")

    def _run(self) -> None:
        frame = ct.create_string_buffer(FRAME_LEN)
        context = XdpMd(data_end=FRAME_LEN, ingress_ifindex=self._far_end)
        try:
            # One CPU for all, which so takes a batch out of the ring before the next one is put in.
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            with namespace.entered(self._ns):
                while not self._stop.is_set():
                    options = TestRunOpts(
                        data_in=ct.addressof(frame), data_size_in=FRAME_LEN, ctx_in=ct.addressof(context),
                        ctx_size_in=ct.sizeof(context), repeat=_ROUNDS, flags=libbpf.BPF_F_TEST_XDP_LIVE_FRAMES,
                        batch_size=_BATCH,
                    )  # fmt: skip
                    try:
                        self._lib.test_run(self._feed, options)
                    except DataplaneError as error:
                        if error.errno != errno.EINTR:
                            raise
        except Exception as error:
            self._error = error


class Site:
    """The router's namespace and its daemon, one at a time. Made by `site`."""

    def __init__(self, ns: str, directory: Path):
        self.ns = ns
        self.directory = directory
        self.config = directory / "xdprouter.toml"
        self.log = directory / "xdprouter.log"
        self.daemon: subprocess.Popen | None = None
        self.instance = Instance(ns)

    def configure(self, text: str) -> None:
        self.config.write_text(text)

    def start(self, root: Path | None = None, ports: Sequence[str] = (), wait: bool = True) -> None:
        """From another source tree, if `root` says so. Returns when all ports transmit."""
        self.daemon = instance.start(self.ns, ports, self.directory, ["-c", str(self.config)], root)
        if wait:
            wait_until(lambda: all(port["transmitting"] for port in self.status()["ports"]), 30, "the ports")

    def kill(self) -> None:
        self.daemon.kill()
        self.daemon.wait()

    def end(self) -> None:
        self.daemon.terminate()
        assert self.daemon.wait(timeout=30) == 0

    def ask(self, request: api.Request) -> dict:
        return client.ask(self.instance, request)

    def status(self) -> dict:
        return self.ask(api.StatusRequest())

    def forwarded(self) -> int:
        return sum(port["ingress"].get("forward", {}).get("packets", 0) for port in self.status()["ports"])

    def close(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            if process := Process.of(self.daemon.pid):
                end([process])
            self.daemon.wait()


@contextmanager
def site(purpose: str) -> Iterator[Site]:
    """With its network, but no daemon yet; nothing of it stays behind."""
    with ExitStack() as stack:
        ns = stack.enter_context(network.network(purpose))
        network.build(ns)
        directory = Path(tempfile.mkdtemp(prefix=f"xdprouter-{purpose}-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(instance.remove_state, ns)
        made = Site(ns, directory)
        made.configure("".join(f'[[port]]\nname = "{port}"\n' for port in PORTS))
        stack.callback(made.close)
        yield made


@contextmanager
def flood(site: Site, rate: int = RATE) -> Iterator[Flood]:
    with ExitStack() as stack:
        made = Flood(site.ns, stack, rate)
        made.carry(1)
        yield made
