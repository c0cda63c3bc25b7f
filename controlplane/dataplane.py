# SPDX-License-Identifier: GPL-2.0-only
"""The XDP program and its maps in the kernel.

Everything it makes is pinned, so the kernel keeps forwarding when this process is gone; a second
`Dataplane` over the same pins takes over the maps and replaces the program in place.
"""

import ctypes as ct
import errno
import os
import struct
from collections.abc import Iterable

from controlplane import compiler, libbpf, next_hop, source
from controlplane.cache import HZ, Cache
from controlplane.census import RouteDump
from controlplane.counters import PortCounters
from controlplane.errors import AttachError, ControlPlaneError, DataplaneError, NetlinkError
from controlplane.interface import Interface
from controlplane.libbpf import XdpMd
from controlplane.memory import Memory
from controlplane.netlink import NetlinkSocket, attribute
from controlplane.next_hop import NextHop, Use
from controlplane.note_maps import NoteMaps
from controlplane.notes import RouteNotes
from controlplane.pins import PinDirectory
from controlplane.reconcile import (
    Actual,
    Attach,
    Detach,
    DropInterface,
    Mode,
    Operation,
    SetInterface,
    StopTransmit,
    Transmit,
)

_MODE_FLAGS = {Mode.NATIVE: libbpf.XDP_FLAGS_DRV_MODE, Mode.GENERIC: libbpf.XDP_FLAGS_SKB_MODE}
RTM_SETLINK, IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS = 19, 43, 1, 3
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
_GUARD_CHANGES, _GUARD_EXAMINED, _GUARD_ENFORCED = range(3)
"""enum guard_entry in bpf/maps.h"""


class Dataplane:
    """Compiles, loads, and carries operations out.

    `defines` are extra compiler definitions, for tests that need a program with a changed constant.
    Raises MissingDependency without BCC, DataplaneError when the kernel refuses something.
    """

    def __init__(self, pins: PinDirectory, defines: tuple[str, ...] = (), cache_sets: int = 0):
        self._pins = pins
        pins.open()
        self._lib = compiler.libbpf_of_bcc()
        cpus = table_cpus()
        self._memory = Memory(self._lib, pins.maps, cpus, cache_sets)
        own = (f'-DPIN_DIR="{pins.maps}"', f"-DCPUS={cpus}", f"-DCACHE_SETS={cache_sets}", f"-DHZ={HZ}")
        try:
            self._bcc = compiler.compiled("router.c", (*defines, *own, *self._memory.defines))
            self._program = self._load(libbpf.BPF_PROG_TYPE_XDP, "router")
        except DataplaneError:
            self._memory.close()
            raise
        self.route_filter_fd = self._load(libbpf.BPF_PROG_TYPE_SOCKET_FILTER, "route_event")
        self._census_filter_fd = self._load(libbpf.BPF_PROG_TYPE_SOCKET_FILTER, "route_dump")
        self._bcc[b"census_calls"][0] = ct.c_int(self._census_filter_fd)
        self.route_dump = RouteDump(self._census_filter_fd, self._memory.view("route_census"))
        self.guard_filter_fds = {
            name: self._load(libbpf.BPF_PROG_TYPE_SOCKET_FILTER, name)
            for name in ("nftables_event", "traffic_control_event", "xfrm_event")
        }
        """Name of the program in bpf/guard_events.h -> fd; GuardWatch attaches them."""
        self._coherence_filter_fds = {
            name: self._load(libbpf.BPF_PROG_TYPE_SOCKET_FILTER, name)
            for name in ("neighbour_event", "setting_event", "tell_time")
        }
        self.cache = Cache(self._bcc, self._memory, cache_sets, cpus, self._coherence_filter_fds, self._jiffies)
        self._guard = (ct.c_uint64 * 3).from_buffer(self._memory.view("guard"))
        self._tracepoint = self._lib.raw_tracepoint_open(
            "xdp_redirect_err", self._load(libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, "redirect_failed")
        )
        # LLVM's working memory, 20 MB, which glibc would keep for nothing.
        ct.CDLL(None).malloc_trim(0)
        self._counters = self._bcc[b"counters"]
        self._interfaces = self._bcc[b"interfaces"]
        count = source.limits()["LOW_IFINDEXES"]
        self._low_interfaces = (self._interfaces.Leaf * count).from_buffer(self._memory.view("low_interfaces"))
        self._owners = self._bcc[b"slot_owners"]
        self._tx_ports = self._bcc[b"tx_ports"]
        self.notes = NoteMaps(self._bcc, self._memory)
        settings = self._bcc[b"settings"]
        settings[0] = settings.Leaf(self._lib.object_id(self._tx_ports.map_fd))
        self._slots = {leaf.name.decode(): key.value for key, leaf in self._owners.items() if leaf.name}
        self._modes: dict[int, Mode] = {}
        self._updated: set[int] = set()

    # --- what is there --------------------------------------------------------------------------

    def actual(self, modes: dict[int, str | None]) -> Actual:
        """The state as the kernel has it. `modes`: ifindex -> how XDP is attached, from netlink; used
        for links made by an earlier process."""
        out = Actual()
        for ifindex in self._pins.link_ifindexes():
            if self._link_alive(ifindex):
                known = self._modes.get(ifindex) or modes.get(ifindex)
                out.attached[ifindex] = Mode.GENERIC if known == Mode.GENERIC else Mode.NATIVE
            else:
                out.dead.add(ifindex)
        for key, leaf in self._interfaces.items():
            mac = ":".join(f"{byte:02x}" for byte in leaf.mac)
            out.interfaces[key.value] = Interface(leaf.slot, leaf.mtu, mac, leaf.flags, leaf.ipv6_mtu, leaf.narrow_mtu)
        out.transmitting = self.transmitting()
        return out

    def transmitting(self) -> dict[int, int]:
        """Slot -> ifindex, of the ports that packets can leave by."""
        found = {slot: self._transmitting(slot) for slot in self._slots.values()}
        return {slot: ifindex for slot, ifindex in found.items() if ifindex}

    def owners(self) -> dict[str, int]:
        """Port name -> slot, for every slot that has an owner."""
        return dict(self._slots)

    def assign(self, name: str) -> int:
        """The slot of a port name: its old one, or a free one with counters at zero.

        Raises DataplaneError when all slots are taken.
        """
        if name in self._slots:
            return self._slots[name]
        taken = set(self._slots.values())
        free = next((slot for slot in range(1, source.limits()["MAX_PORTS"]) if slot not in taken), None)
        if free is None:
            raise DataplaneError(
                f"no slot left for {name}: at most {source.limits()['MAX_PORTS'] - 1} ports are possible"
            )
        cpus = self._counters[free]
        self._counters[free] = type(cpus)()
        self._owners[free] = self._owners.Leaf(name.encode())
        self._slots[name] = free
        return free

    def release(self, name: str) -> None:
        """Forget a port's slot and its counters."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            self._owners[slot] = self._owners.Leaf(b"")

    def counters(self, slot: int) -> PortCounters:
        return PortCounters.from_cpus(self._counters[slot])

    def route_changes(self) -> tuple[int, float]:
        """Routes announced since the pins were made, and the CLOCK_MONOTONIC second of the last."""
        leaf = self._bcc[b"route_changes"][0]
        return leaf.count, leaf.last_ns / 1e9

    def guard_changes(self) -> int:
        """Firewall changes counted so far. While it differs from what `guard_examined` was told last, every
        packet goes to the kernel."""
        return self._guard[_GUARD_CHANGES]

    def next_hops(self) -> dict[NextHop, Use]:
        """What carries traffic, or did and was not forgotten, and how much."""
        # The shared map last: who is pushed out between the two is counted twice for a moment, and not missed.
        recent = self._memory.view("adjacencies")[:]
        totals = self._lib.map_content(
            self._bcc[b"next_hops"].map_fd,
            next_hop.HOP.size,
            next_hop.TRAFFIC.size,
            source.limits()["MAX_NEXT_HOPS"],
        )
        return next_hop.uses(*totals, recent)

    def forget_next_hops(self, hops: Iterable[NextHop]) -> None:
        """Make room. What a CPU still has in its own small table stays there."""
        for hop in hops:
            self._lib.map_delete(self._bcc[b"next_hops"].map_fd, next_hop.key(hop))

    # --- what is to be done ---------------------------------------------------------------------

    def guard_examined(self, changes: int) -> None:
        """Let the fast path go on: the firewall was looked at after `guard_changes` had returned `changes`."""
        self._guard[_GUARD_EXAMINED] = changes

    def guard_enforce(self, enforced: bool) -> None:
        """Whether a firewall change stops the fast path at once. Switching it off lets go of what waits."""
        self._guard[_GUARD_ENFORCED] = enforced
        if not enforced:
            self.guard_examined(self.guard_changes())

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
                self._attach(name, ifindex, mode)
            case Detach(ifindex):
                if self._link_alive(ifindex):
                    with _closing(self._lib.get(str(self._pins.link(ifindex)))) as link:
                        self._lib.link_detach(link)
                self._pins.link(ifindex).unlink()
                self._modes.pop(ifindex, None)
                self._updated.discard(ifindex)
            case SetInterface(ifindex, interface):
                mac = (ct.c_ubyte * 6)(*bytes.fromhex(interface.mac.replace(":", "")))
                leaf = self._interfaces.Leaf(
                    interface.slot, interface.mtu, interface.ipv6_mtu, interface.narrow_mtu, mac, interface.flags
                )
                # The hash last: it is what `actual` reads, so a write cut in two is made again.
                if ifindex < len(self._low_interfaces):
                    self._low_interfaces[ifindex] = leaf
                self._interfaces[ct.c_uint(ifindex)] = leaf
            case DropInterface(ifindex):
                if ifindex < len(self._low_interfaces):
                    self._low_interfaces[ifindex] = self._interfaces.Leaf()
                del self._interfaces[ct.c_uint(ifindex)]
            case Transmit(slot, ifindex):
                self._tx_ports[ct.c_uint(slot)] = ct.c_int(ifindex)
            case StopTransmit(slot):
                self._tx_ports.__delitem__(ct.c_uint(slot))

    def take_over_links(self) -> None:
        """Put this process's program in the place of an earlier one's, port by port, losing no packet."""
        for ifindex in self._pins.link_ifindexes():
            if ifindex in self._updated or not self._link_alive(ifindex):
                continue
            with _closing(self._lib.get(str(self._pins.link(ifindex)))) as link:
                self._lib.link_update(link, self._program)
            self._updated.add(ifindex)

    def test_run(self, frame: bytes, ifindex: int, *, repeat: int = 1) -> tuple[int, bytes]:
        """Run the program on one frame as if it had come in on `ifindex`: (XDP action, frame after)."""
        context = XdpMd(data_end=len(frame), ingress_ifindex=ifindex)
        return self._lib.run_on(self._program, frame, context, repeat)

    @property
    def program_fd(self) -> int:
        return self._program

    @property
    def program_id(self) -> int:
        return self._lib.object_id(self._program)

    def close(self) -> None:
        """Let go of this process's handles; what is pinned goes on."""
        filters = (*self.guard_filter_fds.values(), *self._coherence_filter_fds.values(), self._census_filter_fd)
        for fd in (self._program, self.route_filter_fd, *filters, self._tracepoint):
            os.close(fd)
        self.cache.close()
        self.route_dump.close()
        del self._guard, self._low_interfaces
        self.notes.close()
        self._memory.close()
        self._bcc.cleanup()

    # --- inside ---------------------------------------------------------------------------------

    def _load(self, kind: int, name: str) -> int:
        code = self._bcc.dump_func(name.encode())
        if kind != libbpf.BPF_PROG_TYPE_XDP:
            return self._lib.load(kind, name, code)
        return self._lib.load(kind, name, code, flags=libbpf.BPF_F_XDP_HAS_FRAGS, attach_type=libbpf.BPF_ATTACH_XDP)

    def _jiffies(self) -> int:
        frame = bytes(14)  # a socket filter is not run on less
        return self._lib.run_on(self._coherence_filter_fds["tell_time"], frame)[0]

    def _link_alive(self, ifindex: int) -> bool:
        with _closing(self._lib.get(str(self._pins.link(ifindex)))) as link:
            return self._lib.link_ifindex(link) == ifindex

    def _transmitting(self, slot: int) -> int:
        try:
            return self._tx_ports[ct.c_uint(slot)].value
        except KeyError:
            return 0

    def _attach(self, name: str, ifindex: int, mode: Mode) -> None:
        try:
            link = self._lib.link_create(self._program, ifindex, _MODE_FLAGS[mode])
        except DataplaneError as error:
            raise AttachError(self._why_refused(name, ifindex, mode, error), error.errno) from error
        with _closing(link):
            self._lib.pin(link, str(self._pins.link(ifindex)))
        self._modes[ifindex] = mode
        self._updated.add(ifindex)

    def _why_refused(self, name: str, ifindex: int, mode: Mode, error: DataplaneError) -> str:
        if error.errno in (errno.EBUSY, errno.EEXIST):  # EEXIST: it is there in the other mode
            return f"{name} already carries another XDP program, which was left alone: remove it, then attach again"
        reason = self._driver_reason(ifindex, mode) or os.strerror(error.errno)
        advice = "; mode generic works on any device, slowly" if mode is Mode.NATIVE else ""
        return f"{name} refused the program in {mode} mode: {reason}{advice}"

    def _driver_reason(self, ifindex: int, mode: Mode) -> str:
        """The driver's own words. A bpf_link attach cannot carry them, the same attach over netlink can;
        should it succeed after all, it is undone."""
        flags = _MODE_FLAGS[mode]
        with NetlinkSocket() as sock:
            try:
                sock.request(RTM_SETLINK, _set_xdp(ifindex, self._program, flags | XDP_FLAGS_UPDATE_IF_NOEXIST))
            except NetlinkError as refused:
                return str(refused)
            sock.request(RTM_SETLINK, _set_xdp(ifindex, -1, flags))
        return ""


def _set_xdp(ifindex: int, program_fd: int, flags: int) -> bytes:
    """An RTM_SETLINK payload with IFLA_XDP."""
    nested = attribute(IFLA_XDP_FD, struct.pack("=i", program_fd))
    nested += attribute(IFLA_XDP_FLAGS, struct.pack("=I", flags))
    return struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0) + attribute(IFLA_XDP, nested)


class _closing:
    """An fd for the length of a with block."""

    def __init__(self, fd: int):
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_) -> None:
        os.close(self._fd)


def table_cpus() -> int:
    """How many CPUs tables of one for each CPU are made for: a power of two. Raises MissingDependency."""
    return 1 << (compiler.libbpf_of_bcc().possible_cpus() - 1).bit_length()
