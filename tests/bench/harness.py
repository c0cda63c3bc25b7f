# SPDX-License-Identifier: GPL-2.0-only
"""Generator, contenders and sink, all in one process; one call measures one contender once."""

import ctypes as ct
import ipaddress
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane import libbpf, source
from controlplane.dataplane import Dataplane
from controlplane.interface import Interface, InterfaceFlag
from controlplane.libbpf import Libbpf, TestRunOpts, XdpMd
from controlplane.pins import PinDirectory
from controlplane.reconcile import SetInterface, Transmit
from lab import namespace
from lab.errors import LabTimeout
from lab.wait import wait_until
from tests.bench import network

STATIC, ROUTER, LINUX = "static", "xdprouter", "linux"
CONTENDERS = (STATIC, ROUTER, LINUX)
DESTINATIONS = 4096  # a power of two; small, or the generator would measure its own cache misses
FRAME_LEN = 64
MTU = 1500
TTL = 64
BATCH = 64
MAX_LOSS = 0.001
_DRAIN_TIMEOUT_S = 0.5


class Loss(Exception):
    """Frames went missing, so the rate would mean nothing."""


@dataclass(frozen=True)
class Run:
    sent: int
    arrived: int
    seconds: float

    @property
    def mpps(self) -> float:
        return self.arrived / self.seconds / 1e6

    @property
    def loss(self) -> float:
        return 1 - self.arrived / self.sent


class Harness:
    """Works in the namespace that the thread is in while it is made and used."""

    def __init__(self, pins: PinDirectory, in_ifindex: int, out_ifindex: int, sink_ifindex: int, stack: ExitStack):
        bcc = _bcc()
        self._lib = Libbpf(bcc.lib)
        self._in_ifindex = in_ifindex
        sources = {name: _compile(bcc, name, stack) for name in ("generator", "static", "sink")}
        self._dataplane = Dataplane(pins)
        stack.callback(self._dataplane.close)
        for name, ifindex, mac in (("in0", in_ifindex, network.ROUTER_MAC), ("out0", out_ifindex, network.EGRESS_MAC)):
            slot = self._dataplane.assign(name)
            self._dataplane.apply(SetInterface(ifindex, Interface(slot, MTU, mac, InterfaceFlag.TX_MULTI_BUFFER, MTU)))
            self._dataplane.apply(Transmit(slot, ifindex))

        generator = sources["generator"]
        self._cursor, self._destinations = generator["cursor"], generator["destinations"]
        self._generators = {family: self._load(generator, f"generate{family}", stack) for family in (4, 6)}
        sources["static"]["egress"][ct.c_int(0)] = ct.c_int(out_ifindex)
        contenders = generator["contenders"]
        contenders[ct.c_int(CONTENDERS.index(STATIC))] = ct.c_int(self._load(sources["static"], "static_route", stack))
        contenders[ct.c_int(CONTENDERS.index(ROUTER))] = ct.c_int(self._dataplane.program_fd)
        self._arrivals = sources["sink"]["arrivals"]
        link = self._lib.link_create(
            self._load(sources["sink"], "sink", stack), sink_ifindex, libbpf.XDP_FLAGS_DRV_MODE
        )
        stack.callback(os.close, link)

    def aim(self, family: int, destinations: list[int]) -> None:
        """Addresses as whole numbers; of IPv6 the upper half."""
        width = 4 if family == 4 else 8
        for index, address in enumerate(destinations):
            self._destinations[ct.c_int(index)] = ct.c_ulonglong(_in_memory_order(address.to_bytes(width, "big")))

    def measure(self, contender: str, family: int, packets: int) -> Run:
        """Raises Loss when more than MAX_LOSS of the packets did not arrive, forwarded, at the sink."""
        start_at = self._cursor.sLeaf(0, CONTENDERS.index(contender))
        self._cursor[ct.c_int(0)] = self._cursor.Leaf(*[start_at] * self._cursor.total_cpu)
        frame = ct.create_string_buffer(FRAME_LEN)
        context = XdpMd(data_end=FRAME_LEN, ingress_ifindex=self._in_ifindex)
        options = TestRunOpts(
            data_in=ct.addressof(frame), data_size_in=FRAME_LEN,
            ctx_in=ct.addressof(context), ctx_size_in=ct.sizeof(context),
            repeat=packets, flags=libbpf.BPF_F_TEST_XDP_LIVE_FRAMES, batch_size=BATCH,
        )  # fmt: skip
        before = self._arrived()
        start = time.perf_counter()
        self._lib.test_run(self._generators[family], options)
        seconds = time.perf_counter() - start
        try:
            wait_until(lambda: self._arrived() - before >= packets, _DRAIN_TIMEOUT_S, "the last frames")
        except LabTimeout:
            pass  # what is missing now is the loss
        run = Run(packets, self._arrived() - before, seconds)
        if run.loss > MAX_LOSS:
            raise Loss(f"{contender}, IPv{family}: {run.arrived} of {run.sent} frames arrived ({run.loss:.2%} lost)")
        return run

    def _arrived(self) -> int:
        return sum(self._arrivals[ct.c_int(0)])

    def _load(self, compiled, name: str, stack: ExitStack) -> int:
        """With the router's flags: programs that share a prog array or a devmap must agree on them."""
        code = compiled.dump_func(name.encode())
        fd = self._lib.load(
            libbpf.BPF_PROG_TYPE_XDP, name, code, flags=libbpf.BPF_F_XDP_HAS_FRAGS, attach_type=libbpf.BPF_ATTACH_XDP
        )
        stack.callback(os.close, fd)
        return fd


@contextmanager
def harness(ns: str) -> Iterator[Harness]:
    """A harness over a namespace that network.build() made; the thread is inside for the with block."""
    indexes = [network.ifindex(ns, port) for port in ("in0", "out0", "out0p")]
    directory = Path(tempfile.mkdtemp(prefix="xdprouter-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        pins = PinDirectory(directory)
        stack.callback(_remove, pins)
        stack.enter_context(namespace.entered(ns))
        yield Harness(pins, *indexes, stack)


def _remove(pins: PinDirectory) -> None:
    if pins.mount_point.exists():
        pins.remove()


def _bcc():
    os.environ["BCC_KERNEL_SOURCE"] = str(source.SOURCE_DIR)
    import bcc

    return bcc


def _compile(bcc, name: str, stack: ExitStack):
    constants = {
        "FRAME_LEN": FRAME_LEN,
        "TTL": TTL,
        "DESTINATIONS": DESTINATIONS,
        "SOURCE4": f"{_in_memory_order(ipaddress.ip_address(network.SOURCE[4]).packed):#x}U",
        "SOURCE6": f"{_in_memory_order(ipaddress.ip_address(network.SOURCE[6]).packed[:8]):#x}ULL",
    }
    for mac in ("ROUTER_MAC", "HOST_MAC", "EGRESS_MAC", "NEXT_HOP_MAC"):
        constants[mac] = f"{_in_memory_order(bytes.fromhex(getattr(network, mac).replace(':', ''))):#x}ULL"
    flags = ["-I/usr/include", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
    flags += [f"-D{key}={value}" for key, value in constants.items()]
    text = (Path(__file__).parent / f"{name}.c").read_bytes()
    compiled = bcc.BPF(text=text, cflags=flags)
    stack.callback(compiled.cleanup)
    return compiled


def _in_memory_order(data: bytes) -> int:
    """The number that a little-endian machine stores as these bytes."""
    return int.from_bytes(data, "little")
