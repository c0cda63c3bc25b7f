# SPDX-License-Identifier: GPL-2.0-only
"""One packet through the running program's code, over its live maps, and how it fared (bpf/explain.h).

The variant that is run counts nothing and remembers nothing. It is compiled when it is first asked for, and again
when the running program has changed.
"""

import enum
import mmap
import os
import socket
import threading
from ctypes import Structure, c_int32, c_ubyte, c_uint16, c_uint32, c_uint64, sizeof
from dataclasses import dataclass

from controlplane import source
from controlplane.errors import DataplaneError
from controlplane.interface import InterfaceFlag
from controlplane.libbpf import Libbpf
from controlplane.next_hop import NextHop
from controlplane.program import Program

SHORTEST_FRAME = 14
"""An Ethernet header: BPF_PROG_TEST_RUN takes no less"""
LARGEST_FRAME = 14 + 65_535
ACTIONS = {0: "aborted", 1: "drop", 2: "pass", 3: "tx", 4: "redirect"}
"""enum xdp_action"""


class Step(enum.IntFlag):
    """enum explained_step of bpf/explain.h"""

    CACHE, LEASED, FOUND, HIT, FIB, WAY, REVERSE = (1 << bit for bit in range(7))


class NextHopLayout(Structure):
    _fields_ = [("ifindex", c_uint32), ("family", c_uint32), ("address", c_ubyte * 16)]  # fmt: skip

    def read(self) -> NextHop | None:
        if not self.ifindex:
            return None
        address = bytes(self.address)
        return NextHop(self.ifindex, self.family, address if self.family == socket.AF_INET6 else address[:4])


class AdjacencyLayout(Structure):
    """struct adjacency of bpf/maps.h"""

    _fields_ = [
        ("hop", NextHopLayout), ("packets", c_uint64), ("bytes", c_uint64), ("dmac", c_ubyte * 6),
        ("smac", c_ubyte * 6), ("version", c_uint32), ("slot", c_uint16), ("flags", c_uint16), ("tags", c_uint32),
    ]  # fmt: skip


class ExplanationLayout(Structure):
    """struct explanation of bpf/explain.h"""

    _fields_ = [
        ("cpu", c_uint32), ("plain", c_uint32), ("steps", c_uint32), ("verdict", c_uint32), ("slot", c_uint32),
        ("ifindex", c_uint32), ("flags", c_uint32), ("frame_len", c_uint32), ("datagram_len", c_uint32),
        ("tags", c_uint32), ("version", c_uint32), ("protocol", c_uint32), ("vrf", c_uint32), ("mtu", c_uint32),
        ("sport", c_uint16), ("dport", c_uint16), ("fib_code", c_int32), ("fib_mtu", c_uint32), ("_pad", c_uint32),
        ("fib_hop", NextHopLayout), ("reverse_code", c_int32), ("reverse_ifindex", c_uint32),
        ("way", AdjacencyLayout), ("made", AdjacencyLayout),
    ]  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a packet leaves."""

    hop: NextHop
    slot: int
    smac: str
    dmac: str
    tags: int
    """as in bpf/tags.h"""
    mtu: int
    """of the path and of the egress, whichever is smaller"""


@dataclass(frozen=True)
class Trace:
    """What the program did with a packet."""

    steps: Step
    verdict: str
    action: str
    slot: int
    ifindex: int
    """of the interface that the frame belongs to; 0: it did not come so far"""
    flags: InterfaceFlag
    frame_len: int
    datagram_len: int
    """0: it did not come so far, or there is none; so `version`"""
    tags: int
    """as in bpf/tags.h, as far as they were read"""
    vrf: int
    """its place in vrf_counters; 0: none"""
    version: int
    protocol: int
    sport: int
    dport: int
    fib_code: int | None
    """of bpf_fib_lookup; None: not asked"""
    fib_mtu: int
    """of the path, where the FIB says that the packet exceeds it; 0: none"""
    fib_hop: NextHop | None
    """as far as the FIB came: also one that is not resolved"""
    reverse_code: int | None
    """of the lookup for rp_filter; None: not asked"""
    reverse_ifindex: int
    way: Way | None
    frame: bytes
    """afterwards"""

    @property
    def hop(self) -> NextHop | None:
        """Of its way, or as far as the FIB came."""
        return self.way.hop if self.way else self.fib_hop


@dataclass(frozen=True)
class Traces:
    plain: Trace
    """without the cache"""
    cached: dict[int, Trace]
    """CPU -> as a packet fares there; each CPU has a cache of its own"""

    @property
    def recalled(self) -> dict[int, Trace]:
        """Those where the cache answers."""
        return {cpu: trace for cpu, trace in self.cached.items() if Step.HIT in trace.steps}

    @property
    def live(self) -> Trace:
        """As a packet fares now: where the cache answers if it does anywhere."""
        return next(iter(self.recalled.values()), self.plain)

    @property
    def differ(self) -> bool:
        """Whether the cache answers otherwise than the FIB would."""

        def outcome(trace: Trace) -> tuple:
            return trace.verdict, trace.way, trace.frame

        return any(outcome(trace) != outcome(self.plain) for trace in self.recalled.values())


class Explainer:
    """May be used from any thread; a packet is run in the network namespace of the thread. Close it at the end."""

    def __init__(self, lib: Libbpf):
        self._lib = lib
        self._lock = threading.Lock()
        self._fd = lib.create_array("explanation", sizeof(ExplanationLayout))
        self._view = mmap.mmap(self._fd, sizeof(ExplanationLayout))
        self._program: Program | None = None
        self._of: tuple[str, ...] = ()

    def close(self) -> None:
        with self._lock:
            if self._program:
                self._program.close()
                self._program = None
            self._view.close()
            os.close(self._fd)

    def run(self, running: Program, frame: bytes, ifindex: int) -> Traces:
        """The frame as if it had just come in on `ifindex`. Takes a second if `running` is another program than
        the last time. Raises DataplaneError."""
        if not SHORTEST_FRAME <= len(frame) <= LARGEST_FRAME:
            raise DataplaneError(
                f"a frame of {len(frame)} bytes cannot be tried: from {SHORTEST_FRAME} to {LARGEST_FRAME} can"
            )
        with self._lock:
            program = self._variant_of(running)
            cpus = range(self._lib.possible_cpus())
            cached = {cpu: self._trace(program, frame, ifindex, cpu, plain=False) for cpu in cpus}
            return Traces(self._trace(program, frame, ifindex, 0, plain=True), cached)

    def _variant_of(self, running: Program) -> Program:
        if self._program is None or self._of != running.definitions:
            if self._program:
                self._program.close()
                self._program = None
            more = ("-DFEATURE_EXPLAIN=1", f"-DFD_explanation={self._fd}")
            self._program = Program(self._lib, (*running.definitions, *more))
            self._of = running.definitions
        return self._program

    def _trace(self, program: Program, frame: bytes, ifindex: int, cpu: int, plain: bool) -> Trace:
        unknown = list(source.verdicts()).index("pass_unknown_port")
        self._view[:] = bytes(ExplanationLayout(cpu=cpu, plain=plain, verdict=unknown))
        action, after = program.run(frame, ifindex)
        return _read(ExplanationLayout.from_buffer_copy(self._view[:]), ACTIONS[action], after)


def _read(of: ExplanationLayout, action: str, frame: bytes) -> Trace:
    steps = Step(of.steps)
    hop = of.way.hop.read()
    way = None
    if Step.WAY in steps and hop:
        way = Way(hop, of.way.slot, _mac(of.way.smac), _mac(of.way.dmac), of.way.tags, of.mtu)
    return Trace(
        steps=steps,
        verdict=list(source.verdicts())[of.verdict],
        action=action,
        slot=of.slot,
        ifindex=of.ifindex,
        flags=InterfaceFlag(of.flags),
        frame_len=of.frame_len,
        datagram_len=of.datagram_len,
        tags=of.tags,
        vrf=of.vrf,
        version=of.version,
        protocol=of.protocol,
        sport=socket.ntohs(of.sport),
        dport=socket.ntohs(of.dport),
        fib_code=of.fib_code if Step.FIB in steps else None,
        fib_mtu=of.fib_mtu if Step.FIB in steps and of.fib_code == 8 else 0,
        fib_hop=of.fib_hop.read() if Step.FIB in steps and of.fib_code in _WITH_NEXT_HOP else None,
        reverse_code=of.reverse_code if Step.REVERSE in steps else None,
        reverse_ifindex=of.reverse_ifindex,
        way=way,
        frame=frame,
    )


_WITH_NEXT_HOP = {0, 7}
"""BPF_FIB_LKUP_RET_SUCCESS and _NO_NEIGH: with others the kernel leaves what it was given"""


def _mac(octets) -> str:
    return bytes(octets).hex(":")
