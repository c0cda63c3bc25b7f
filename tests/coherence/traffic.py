# SPDX-License-Identifier: GPL-2.0-only
"""Frames at full rate through the running daemon's own program, on a core of their own; and where they came out."""

import ctypes as ct
import errno
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from controlplane import libbpf
from controlplane.compiler import libbpf_of_bcc
from controlplane.errors import DataplaneError
from controlplane.libbpf import TestRunOpts, XdpMd
from controlplane.pins import PinDirectory
from controlplane.source import limits
from lab import namespace
from lab.errors import LabTimeout
from tests.coherence.router import WAYS, Router
from xdprouter.bench.programs import Programs
from xdprouter.instance import Instance

DESTINATION4, DESTINATION6 = 0x0A100500, bytes.fromhex("fd10000000000005")
DESTINATIONS = 16
BATCH = 64
FRAME_LEN = 80
_AT_A_TIME = 1 << 22
_AIM = struct.Struct("=Q8sIIII")
_WAY = struct.Struct("=QQQ")
_COUNTERS_BYTES = 16 * limits()["MAX_VERDICTS"] + 16 + 8 * limits()["MAX_FIB_CODES"] + 8 + 8
"""struct port_counters of bpf/maps.h; cache_hits is the last"""
_POLL_S = 0.0003
_AGAIN_S = 0.05
INTERRUPT = signal.SIGUSR1


class Way:
    """What a far end has seen of one way: frames, when the youngest was made, when the last arrived (ns)."""

    __slots__ = ("arrived_ns", "frames", "made_ns")

    def __init__(self, values: tuple[int, int, int]):
        self.frames, self.made_ns, self.arrived_ns = values


class Traffic:
    """Made by `traffic`."""

    def __init__(self, router: Router, stack: ExitStack):
        self._router = router
        self._cpu = router.cpus[0]
        self._lib = libbpf_of_bcc()
        self._programs = Programs("stamped", self._lib, stack, defines=(f"-DWAYS={WAYS}",))
        self._generators = {family: self._programs.load(f"generate{family}") for family in (4, 6)}
        sink = self._programs.load("sink")
        for port in ("out0p", "out1p"):
            with namespace.entered(router.ns):
                link = self._lib.link_create(sink, socket.if_nametoindex(port), libbpf.XDP_FLAGS_DRV_MODE)
            stack.callback(os.close, link)
        self._aim, self._ways, self._refused = (self._map(name, stack) for name in ("aim", "ways", "refused"))
        tracepoint = self._programs.load("redirect_failed", libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT)
        stack.callback(os.close, self._lib.raw_tracepoint_open("xdp_redirect_err", tracepoint))
        self._counters = self._lib.get(str(PinDirectory(Instance(router.ns).directory).maps / "counters"))
        stack.callback(os.close, self._counters)
        self._cpus = self._lib.possible_cpus()
        self._program = -1
        stack.callback(lambda: self._program < 0 or os.close(self._program))
        self.adopt()

    def adopt(self) -> None:
        """Test the program that the daemon runs now."""
        status, old = self._router.status(), self._program
        self._slots = {port["name"]: port["slot"] for port in status["ports"]}
        self._program = self._lib.program_by_id(status["program_id"])
        self._programs.table("under_test")[ct.c_int(0)] = ct.c_int(self._program)
        if old >= 0:
            os.close(old)
        for number in self._lib.map_ids(self._program):
            fd = self._lib.map_by_id(number)
            if self._lib.map_type(fd) == libbpf.BPF_MAP_TYPE_DEVMAP:
                self._devmap = number
            os.close(fd)

    def way(self, number: int) -> Way:
        return Way(_WAY.unpack_from(self._ways, number * _WAY.size))

    def refused(self, port: str) -> Way:
        """Frames that were sent to a port in vain."""
        return Way(_WAY.unpack_from(self._refused, self._slots[port] * _WAY.size))

    def hits(self) -> int:
        """Frames whose way was recalled from the cache."""
        key = struct.pack("=I", self._slots["in0"])
        value = self._lib.map_value(self._counters, key, _COUNTERS_BYTES * self._cpus)
        return sum(struct.unpack_from("=Q", value, _COUNTERS_BYTES * cpu - 8)[0] for cpu in range(1, self._cpus + 1))

    def made(self) -> int:
        return _AIM.unpack_from(self._aim)[0]

    @contextmanager
    def flowing(self, family: int, destinations: int = DESTINATIONS, source_ports: int = 1) -> Iterator[None]:
        """Frames of a family for as long as the with block lasts; to so many destinations (a power of two), from
        so many ports (likewise)."""
        made = self.made()
        _AIM.pack_into(self._aim, 0, made, DESTINATION6, DESTINATION4, destinations - 1, source_ports - 1, self._devmap)
        stop, done, released, errors = threading.Event(), threading.Event(), threading.Event(), []

        def generate() -> None:
            try:
                self._generate(family, stop, errors)
            finally:
                done.set()
                released.wait()  # a signal that reached a thread on its way out would meet no handler

        thread = threading.Thread(target=generate)
        handler = signal.signal(INTERRUPT, lambda *_: None)
        thread.start()
        try:
            until(lambda: errors or self.made() > made, 5, "the first frame")
            yield
        finally:
            stop.set()
            while not done.is_set():
                signal.pthread_kill(thread.ident, INTERRUPT)
                done.wait(_AGAIN_S)
            released.set()
            thread.join()
            signal.signal(INTERRUPT, handler)
        if errors:
            raise errors[0]

    def _generate(self, family: int, stop: threading.Event, errors: list[Exception]) -> None:
        frame = ct.create_string_buffer(FRAME_LEN)
        context = XdpMd(data_end=FRAME_LEN, ingress_ifindex=self._router.ifindexes["in0"])
        options = TestRunOpts(
            data_in=ct.addressof(frame), data_size_in=FRAME_LEN, ctx_in=ct.addressof(context),
            ctx_size_in=ct.sizeof(context), repeat=_AT_A_TIME, flags=libbpf.BPF_F_TEST_XDP_LIVE_FRAMES, batch_size=BATCH,
        )  # fmt: skip
        os.sched_setaffinity(0, {self._cpu})
        with namespace.entered(self._router.ns):
            while not stop.is_set():
                try:
                    self._lib.test_run(self._generators[family], options)
                except DataplaneError as error:
                    if error.errno != errno.EINTR:
                        errors.append(error)
                        return

    def _map(self, name: str, stack: ExitStack) -> mmap.mmap:
        table = self._programs.table(name)
        view = mmap.mmap(table.map_fd, mmap.PAGESIZE)
        stack.callback(view.close)
        return view


@contextmanager
def traffic(router: Router) -> Iterator[Traffic]:
    with ExitStack() as stack:
        yield Traffic(router, stack)


def until(predicate: Callable[[], object], timeout_s: float, what: str) -> bool:
    """As lab.wait.wait_until, for what comes within a millisecond."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise LabTimeout(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(_POLL_S)
    return True
