# SPDX-License-Identifier: GPL-2.0-only
"""Generator and sink around the contenders: one call measures one contender once.

BPF_PROG_TEST_RUN with live frames runs the generator over pages of packets and carries out the verdicts:
redirects leave through the devmap, passed frames go up the stack of the namespace that the thread is in.
"""

import ctypes as ct
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from controlplane import libbpf
from controlplane.compiler import libbpf_of_bcc
from controlplane.errors import DataplaneError
from controlplane.libbpf import TestRunOpts, XdpMd
from controlplane.netlink import HEADER, NetlinkSocket, attributes, messages
from lab.errors import LabTimeout
from lab.wait import wait_until
from xdprouter.bench.contenders import SEEDS, Arrival, Contender
from xdprouter.bench.destinations import MIX_LARGE
from xdprouter.bench.programs import LINE_BYTES, Programs
from xdprouter.bench.results import STATIC, Run
from xdprouter.errors import XdprouterError

BATCH = 64
MIXED = "imix"
INTERRUPT = signal.SIGUSR1
_DRAIN_TIMEOUT_S = 0.5
_AGAIN_S = 0.1
_TAG_LEN = 4
_SEED_ARRIVALS = {
    "drop": Arrival.DROPPED, "mirror": Arrival.MIRRORED, "redirect": Arrival.UNTOUCHED, "pass": Arrival.OTHER_HOST,
}  # fmt: skip
_RTM_GETLINK, _IFLA_STATS64 = 18, 23
_RX_OTHERHOST_DROPPED = 24  # index into struct rtnl_link_stats64


class Harness:
    """Works in the namespace that the thread is in while it is made and used.

    `ports`: ifindexes by name. `sequence`: destinations that fit, a power of two. `stack` takes all away.
    """

    def __init__(self, ports: dict[str, int], sequence: int, stack: ExitStack):
        self.lib = libbpf_of_bcc()
        self._in_ifindex = ports["in0"]
        self._generator = Programs("generator", self.lib, stack, sequence)
        self._static = Programs("static", self.lib, stack)
        sink = Programs("sink", self.lib, stack)
        self._cursor = self._generator.table("cursor")
        self._arrivals = sink.table("arrivals")
        self._dropped = self._static.table("dropped")
        self._generators = {
            (family, mixed, tagged): self._generator.load(f"generate{family}" + "_mixed" * mixed + "_tagged" * tagged)
            for family in (4, 6)
            for mixed in (False, True)
            for tagged in (False, True)
        }
        self._static.table("egress")[ct.c_int(0)] = ct.c_int(ports["out0"])
        table = self._generator.table("sequence")
        self._sequence = mmap.mmap(table.map_fd, len(table) * LINE_BYTES)
        stack.callback(self._sequence.close)
        self._mask = 0
        self._places: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        program = sink.load("sink")
        for far in ("in0p", "out0p"):
            stack.callback(os.close, self.lib.link_create(program, ports[far], libbpf.XDP_FLAGS_DRV_MODE))
        self._statistics = NetlinkSocket()
        stack.callback(self._statistics.close)

    def static_contender(self) -> Contender:
        return Contender(STATIC, self._static.load("static_route"))

    def seeds(self) -> list[Contender]:
        return [Contender(name, self._static.load(name), _SEED_ARRIVALS[name]) for name in SEEDS]

    def enter(self, contender: Contender) -> None:
        """Make the contender known to the generator. Raises XdprouterError if the kernel refuses."""
        slot = self._slots.setdefault(contender.name, len(self._slots))
        if contender.program_fd is None:
            return
        try:
            self._generator.table("contenders")[ct.c_int(slot)] = ct.c_int(contender.program_fd)
        except Exception as error:  # BCC's tables raise bare Exception
            raise XdprouterError(
                f"the kernel refuses to call {contender.name} from the benchmark's generator ({os.strerror(ct.get_errno())}): "
                'both must be loaded with BPF_F_XDP_HAS_FRAGS, as SEC("xdp.frags") does, and for the same attach type'
            ) from error

    def aim(self, sequence: bytes, length: int) -> None:
        """From now on `length` destinations (a power of two), as destinations.sequence() has them."""
        self._sequence[: len(sequence)] = sequence
        self._mask = length - 1

    def measure(
        self, contender: Contender, family: int, size: str, packets: int, cpus: Sequence[int],
        updates: Callable[[], int] = lambda: 0,
    ) -> Run:  # fmt: skip
        """`packets` frames, shared out to a thread on each of `cpus`, from where this contender last was in
        the sequence. `updates`: a count of route updates that goes on meanwhile."""
        share = -(-packets // len(cpus))
        length = (MIX_LARGE if size == MIXED else int(size)) + contender.tagged * _TAG_LEN
        self._place(contender, length, cpus, share)
        program = self._generators[family, size == MIXED, contender.tagged]
        counted, updated, began = self._arrived(contender.arrival), updates(), time.monotonic()
        _in_threads(cpus, lambda: self._generate(program, length, share))
        updated, passed = updates() - updated, time.monotonic() - began
        sent = share * len(cpus)
        try:
            wait_until(lambda: self._arrived(contender.arrival) - counted >= sent, _DRAIN_TIMEOUT_S, "the last frames")
        except LabTimeout:
            pass  # what is missing now is the loss
        return Run(sent, self._arrived(contender.arrival) - counted, self._seconds(cpus), updated / passed)

    def _place(self, contender: Contender, frame_len: int, cpus: Sequence[int], share: int) -> None:
        """Set the cursors: each CPU in another part of the sequence."""
        start = self._places.get(contender.name, 0)
        self._places[contender.name] = start + share
        apart = (self._mask + 1) // len(cpus)
        cursors = self._cursor.Leaf()
        for number, cpu in enumerate(cpus):
            at = cursors[cpu]
            at.next, at.left, at.mask = start + number * apart, share, self._mask
            at.contender, at.frame_len, at.mix = self._slots[contender.name], frame_len, number
        self._cursor[ct.c_int(0)] = cursors

    def _seconds(self, cpus: Sequence[int]) -> float:
        """From the first frame of any CPU to the last of any."""
        cursors = [self._cursor[ct.c_int(0)][cpu] for cpu in cpus]
        return (max(at.ended_ns for at in cursors) - min(at.begun_ns for at in cursors)) / 1e9

    def _generate(self, program: int, length: int, packets: int) -> None:
        frame = ct.create_string_buffer(length)
        context = XdpMd(data_end=length, ingress_ifindex=self._in_ifindex)
        options = TestRunOpts(
            data_in=ct.addressof(frame), data_size_in=length,
            ctx_in=ct.addressof(context), ctx_size_in=ct.sizeof(context),
            repeat=packets, flags=libbpf.BPF_F_TEST_XDP_LIVE_FRAMES, batch_size=BATCH,
        )  # fmt: skip
        self.lib.test_run(program, options)

    def _arrived(self, arrival: Arrival) -> int:
        if arrival is Arrival.OTHER_HOST:
            return self._other_host()
        if arrival is Arrival.DROPPED:
            return sum(self._dropped[ct.c_int(0)])
        return sum(self._arrivals[ct.c_int(arrival)])

    def _other_host(self) -> int:
        """rx_otherhost_dropped of in0."""
        for data in self._statistics.request(_RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, self._in_ifindex, 0, 0)):
            for offset, _, _, length in messages(data):
                found = dict(attributes(data[offset + HEADER.size + 16 : offset + length])).get(_IFLA_STATS64, b"")
                if len(found) > 8 * _RX_OTHERHOST_DROPPED:
                    return struct.unpack_from("=Q", found, 8 * _RX_OTHERHOST_DROPPED)[0]
        raise XdprouterError("this kernel does not count frames for other hosts (5.19 does): leave out --seeds")


def _in_threads(cpus: Sequence[int], work: Callable[[], None]) -> None:
    """Run `work` in a thread on each CPU, beginning together.

    The caller's thread only waits, so that it sees a Ctrl-C; then it breaks the others' system calls off
    (INTERRUPT must have a handler for that) and waits for their end.
    """
    ready, released = threading.Barrier(len(cpus)), threading.Event()
    done = [threading.Event() for _ in cpus]
    errors: list[DataplaneError] = []

    def run(number: int) -> None:
        try:
            os.sched_setaffinity(0, {cpus[number]})  # of this thread alone
            ready.wait()
            work()
        except DataplaneError as error:
            errors.append(error)
        finally:
            done[number].set()
            released.wait()  # a signal must not be sent to a thread that is gone

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(cpus))]
    for thread in threads:
        thread.start()
    # Events, not join(): one that is interrupted takes the thread for ended (Python 3.11).
    try:
        for event in done:
            event.wait()
    except BaseException:
        for thread, event in zip(threads, done, strict=True):
            while not event.is_set():
                signal.pthread_kill(thread.ident, INTERRUPT)
                event.wait(_AGAIN_S)
        raise
    finally:
        released.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
