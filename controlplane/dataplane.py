# SPDX-License-Identifier: GPL-2.0-only
"""The maps in the kernel, and the program over them.

Everything it makes is pinned, so the kernel keeps forwarding when this process is gone; a second
`Dataplane` over the same pins takes over the maps and replaces the program in place.
"""

import ctypes as ct
from collections.abc import Iterable
from contextlib import ExitStack, closing

from controlplane import compiler, layout, next_hop, source, trial
from controlplane.attachment import Attachments
from controlplane.cache import HZ, Cache
from controlplane.census import RouteDump
from controlplane.churn import ChurnMeter
from controlplane.errors import ControlPlaneError, DataplaneError
from controlplane.explain import Explainer
from controlplane.fdb import Fdb
from controlplane.features import NONE, Feature, definitions
from controlplane.gate import Gate
from controlplane.heritage import Heritage
from controlplane.interface_maps import InterfaceMaps
from controlplane.memory import Memory
from controlplane.next_hop import NextHop, Use
from controlplane.note_maps import NoteMaps
from controlplane.notes import RouteNotes
from controlplane.pins import LAYOUT_VERSION, PinDirectory
from controlplane.program import Program
from controlplane.reconcile import (
    Actual,
    Attach,
    Detach,
    DropInterface,
    DropTagged,
    Operation,
    SetInterface,
    SetTagged,
    StopTransmit,
    Transmit,
)
from controlplane.slots import Slots
from controlplane.swap import Swap, Swapper
from controlplane.vrf import Vrfs


class Dataplane:
    """Makes the maps and the program, and carries operations out.

    `defines` are extra compiler definitions, for tests that need a program with a changed constant; `features`: what
    the program is compiled with at first (bpf/features.h), to which `adopt` adds.
    Raises MissingDependency without BCC, DataplaneError when the kernel refuses something.
    """

    def __init__(
        self,
        pins: PinDirectory,
        defines: tuple[str, ...] = (),
        cache_sets: int = 0,
        features: frozenset[Feature] = NONE,
    ):
        pins.open()
        self._lib = compiler.libbpf_of_bcc()
        cpus = table_cpus()
        with ExitStack() as stack:
            self._attachments = Attachments(self._lib, pins)
            self._heritage = Heritage(self._lib, pins, self._attachments)
            stack.callback(self._heritage.close)
            self._memory = stack.enter_context(closing(Memory(self._lib, pins.maps, cpus, cache_sets)))
            sizes = (f"-DCPUS={cpus}", f"-DCACHE_SETS={cache_sets}", f"-DHZ={HZ}")
            self._definitions = (f'-DPIN_DIR="{pins.maps}"', *sizes, *self._memory.defines)
            """What a program is compiled with to have these maps"""
            self._defines = defines
            self.features = features
            """What the program that ports get is compiled with"""
            self._running = self._program = self.compile(features)
            stack.callback(self._close_programs)
            self._tables = self._program.tables
            described = layout.describe(LAYOUT_VERSION, self._tables, self._memory.sizes)
            earlier = layout.read(pins.description(pins.maps.name))
            if earlier and (name := layout.contradiction(earlier, described)):
                raise DataplaneError(f"{pins.maps}/{name} is laid out differently: LAYOUT_VERSION must go up")
            described.write(pins.description(pins.maps.name))
            self._heritage.copy(self._program, self._tables, described, memoryview(self._memory.view("coherence")))
            self.slots = Slots(self._tables)
            settings = self._tables[b"settings"]  # of the errors of all devmaps, ours are counted
            settings[0] = settings.Leaf(self._lib.object_id(self._tables[b"tx_ports"].map_fd))
            self._program.trace("redirect_failed", "xdp_redirect_err")
            self._swapper = Swapper(self._lib, self._attachments, self.slots.losses)
            stack.callback(self._swapper.close)

            self.route_filter_fd = self._program.filter("route_event")
            self.guard_filter_fds = self._filters("nftables_event", "traffic_control_event", "xfrm_event")
            """Name of the program in bpf/guard_events.h -> fd; GuardWatch attaches them."""
            self.gate = stack.enter_context(closing(Gate(self._memory.view("guard"))))
            self._coherence_filter_fds = self._filters("neighbour_event", "setting_event", "tell_time")
            census_fd = self._program.filter("route_dump")
            self._tables[b"census_calls"][0] = ct.c_int(census_fd)

            self.route_dump = stack.enter_context(closing(RouteDump(census_fd, self._memory.view("route_census"))))
            self.churn = ChurnMeter(self._memory.view("route_churn"))
            self.cache = Cache(
                self._lib, self._tables, self._memory, cache_sets, cpus, self._coherence_filter_fds, self._jiffies
            )
            stack.enter_context(closing(self.cache))
            self._interfaces = stack.enter_context(closing(InterfaceMaps(self._lib, self._tables, self._memory)))
            self.vrfs = Vrfs(self._tables)
            self.fdb = Fdb(self._lib, self._tables, self._jiffies)
            self.notes = stack.enter_context(closing(NoteMaps(self._tables, self._memory)))
            self._undo = stack.pop_all()

    def close(self) -> None:
        """Let go of this process's handles; what is pinned goes on."""
        self._undo.close()

    def _filters(self, *names: str) -> dict[str, int]:
        return {name: self._program.filter(name) for name in names}

    def _close_programs(self) -> None:
        # The first one owns tables and filters.
        if self._running is not self._program:
            self._running.close()
        self._program.close()

    # --- what is there --------------------------------------------------------------------------

    def actual(self, modes: dict[int, str | None]) -> Actual:
        """The state as the kernel has it. `modes`: ifindex -> how XDP is attached, from netlink; used
        for links made by an earlier process."""
        return Actual(
            *self._attachments.read(modes),
            interfaces=self._interfaces.interfaces(),
            transmitting=self.slots.transmitting(),
            tagged=self._interfaces.tagged(),
        )

    def route_changes(self) -> tuple[int, float]:
        """Routes announced since the pins were made, and the CLOCK_MONOTONIC second of the last."""
        leaf = self._tables[b"route_changes"][0]
        return leaf.count, leaf.last_ns / 1e9

    def next_hops(self) -> dict[NextHop, Use]:
        """What carries traffic, or did and was not forgotten, and how much."""
        # The shared map last: who is pushed out between the two is counted twice for a moment, and not missed.
        recent = self._memory.view("adjacencies")[:]
        totals = self._lib.map_content(
            self._tables[b"next_hops"].map_fd,
            next_hop.HOP.size,
            next_hop.TRAFFIC.size,
            source.limits()["MAX_NEXT_HOPS"],
        )
        return next_hop.uses(*totals, recent)

    def forget_next_hops(self, hops: Iterable[NextHop]) -> None:
        """Make room. What a CPU still has in its own small table stays there."""
        for hop in hops:
            self._lib.map_delete(self._tables[b"next_hops"].map_fd, next_hop.key(hop))

    # --- what is to be done ---------------------------------------------------------------------

    def apply(self, operation: Operation) -> None:
        """Carry out one operation. Raises AttachError or DataplaneError; nothing is half done."""
        try:
            self._apply(operation)
        except ControlPlaneError:
            raise
        except Exception as error:  # BCC's tables raise bare Exception and KeyError
            raise DataplaneError(f"{operation}: {error}", ct.get_errno()) from error

    def sync_notes(self, notes: RouteNotes) -> None:
        """Make the tries hold these routes of note. Raises DataplaneError."""
        try:
            self.notes.sync(notes)
        except Exception as error:  # as above
            raise DataplaneError(f"noting routes: {error}", ct.get_errno()) from error

    def _apply(self, operation: Operation) -> None:
        match operation:
            case Attach(name, ifindex, mode):
                self._attachments.attach(self._running, name, ifindex, mode)
            case Detach(ifindex):
                self._attachments.detach(ifindex)
            case SetInterface(ifindex, interface):
                self._interfaces.set(ifindex, interface)
            case DropInterface(ifindex):
                self._interfaces.drop(ifindex)
            case SetTagged(device, tags, ifindex):
                self._interfaces.tag(device, tags, ifindex)
            case DropTagged(device, tags):
                self._interfaces.untag(device, tags)
            case Transmit(slot, ifindex):
                self.slots.transmit(slot, ifindex)
            case StopTransmit(slot):
                self.slots.stop_transmitting(slot)

    def take_over_links(self, settled: bool = False) -> None:
        """Put this process's program in the place of an earlier one's, port by port, losing no packet and no count.
        `settled`: all ports are active. Raises DataplaneError, with the links as they were, if it fails its trial."""
        self._try(self._running, settled)
        self._swap_in()

    def _swap_in(self) -> None:
        self._swapper.begin(self._running.id)
        self._attachments.replace(self._running)
        self._heritage.take()
        if not self._swapper.watching:
            self._heritage.drop()

    def watch_swap(self) -> None:
        """Twice a second: see how the last swap goes."""
        if self._swapper.watch():
            self._heritage.drop()

    @property
    def last_swap(self) -> Swap | None:
        return self._swapper.last

    @property
    def taken_back(self) -> str:
        """Why the program before is in the links again; empty if it is not."""
        return self._swapper.taken_back

    @property
    def inherits(self) -> bool:
        """Whether the links have a program of another version, with maps of its own."""
        return self._heritage.pending

    def compile(self, features: Iterable[Feature]) -> Program:
        """A program over the same maps, attached nowhere yet; takes some tenths of a second. May run in a thread, one
        at a time. Raises MissingDependency, DataplaneError."""
        return Program(self._lib, (*self._defines, *definitions(features), *self._definitions))

    def adopt(self, program: Program, features: frozenset[Feature], settled: bool = False) -> None:
        """Let this program, compiled with these features, take the place of the one that runs, losing no packet. Raises
        DataplaneError, with everything as it was, if it fails its trial."""
        if self._swapper.taken_back:
            raise DataplaneError(self._swapper.taken_back)
        self._try(program, settled)
        before, self._running, self.features = self._running, program, features
        self._swap_in()
        self.cache.invalidate()
        if before is not self._program:
            before.close()

    def test_run(self, frame: bytes, ifindex: int, *, repeat: int = 1) -> tuple[int, bytes]:
        """Run the program on one frame as if it had come in on `ifindex`: (XDP action, frame after)."""
        return self._running.run(frame, ifindex, repeat)

    @property
    def program(self) -> Program:
        """The one that ports are attached to."""
        return self._running

    def explainer(self) -> Explainer:
        """Shows how packets fare in the program, leaving no trace in the maps. The caller closes it."""
        return Explainer(self._lib)

    @property
    def program_fd(self) -> int:
        return self._running.fd

    @property
    def program_id(self) -> int:
        return self._running.id

    # --- inside ---------------------------------------------------------------------------------

    def _try(self, program: Program, settled: bool) -> None:
        """Three times, since routes and neighbours may change between two answers."""
        for _ in range(3):
            reason = self._swapper.refusal(program.fd, self._trial_frames(), settled)
            if not reason:
                return
        self._swapper.refuse(program.id, reason)
        raise DataplaneError(f"the new program was not taken, the running one stays: {reason}")

    def _trial_frames(self) -> dict[int, list[trial.Frame]]:
        hops = sorted(self.next_hops())
        out = {}
        for ifindex, interface in self._interfaces.interfaces().items():
            near = [hop for hop in hops if hop.ifindex == ifindex and len(hop.address) == 4]
            source = str(near[0]) if near else "198.51.100.7"
            far = [(hop.family, hop.address) for hop in hops if hop.ifindex != ifindex]
            out[ifindex] = trial.frames(bytes.fromhex(interface.mac.replace(":", "")), source, far)
        return out

    def _jiffies(self) -> int:
        frame = bytes(14)  # a socket filter is not run on less
        return self._lib.run_on(self._coherence_filter_fds["tell_time"], frame)[0]


def table_cpus() -> int:
    """How many CPUs tables of one for each CPU are made for: a power of two. Raises MissingDependency."""
    return 1 << (compiler.libbpf_of_bcc().possible_cpus() - 1).bit_length()
