# SPDX-License-Identifier: GPL-2.0-only
"""What is measured: each contender is a program (or none, for the kernel) that a frame is handed to."""

import enum
import errno
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from controlplane import libbpf
from controlplane.cache import RENEW_S, cache_sets
from controlplane.cache_key import Key
from controlplane.dataplane import Dataplane
from controlplane.errors import DataplaneError
from controlplane.interface import Interface, InterfaceFlag
from controlplane.libbpf import Libbpf
from controlplane.netlink import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, NetlinkSocket
from controlplane.pins import PinDirectory
from controlplane.reconcile import SetInterface, SetTagged, Transmit
from xdprouter.bench import network
from xdprouter.bench.results import PLAIN, ROUTER, VLAN
from xdprouter.errors import UsageError, XdprouterError

_VIDS = {"in0": network.INGRESS_VID, "out0": network.EGRESS_VID}
SEEDS = ("drop", "mirror", "redirect", "pass")


class Arrival(enum.IntEnum):
    """Where a frame must be seen to count. The first three: enum arrival of bpf/bench/sink.c."""

    FORWARDED = 0
    UNTOUCHED = 1
    MIRRORED = 2
    DROPPED = 3
    """by the program `drop`"""
    OTHER_HOST = 4
    """by the stack's IP layer, as addressed to another machine"""


@dataclass(frozen=True)
class Contender:
    name: str
    program_fd: int | None
    """None: the kernel alone"""
    arrival: Arrival = Arrival.FORWARDED
    remembers: bool = False
    """is slower with destinations that it has not seen yet, so must see all before it is measured"""
    tagged: bool = False
    """gets its frames with a tag"""


def make_dataplane(contender: str, pins: PinDirectory, cache_entries: int) -> Dataplane:
    """The router's program as a contender is to have it: `plain` asks the FIB about every packet,
    `xdprouter` is as shipped, `vlan` as shipped for a machine with VLANs."""
    defines = ("-DFEATURE_VLAN=1",) if contender == VLAN else ()
    return Dataplane(pins, defines, cache_sets=0 if contender == PLAIN else cache_sets(cache_entries))


class Router:
    """This product as a contender: its program, with the two ports in its maps as the daemon writes them.

    `vlan`: its maps say that the two devices, which the routes name, are VLAN interfaces over themselves, so that
    it needs no kernel with such devices and has the other contenders' routes.

    What a daemon does for its program while that forwards is done, in the namespace, between `start` and
    `stop`, in threads of this process. They go around everything: the routes too change between them.
    """

    def __init__(self, name: str, directory: Path, ports: dict[str, int], cache_entries: int, stack: ExitStack):
        self.name = name
        pins = PinDirectory(directory)
        stack.callback(_remove, pins)
        self._dataplane = make_dataplane(name, pins, cache_entries)
        stack.callback(self._dataplane.close)
        self._routes = NetlinkSocket(receive_buffer=4096)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        for port, mac in (("in0", network.ROUTER_MAC), ("out0", network.EGRESS_MAC)):
            slot = self._dataplane.slots.assign(port)
            vid = _VIDS[port] if name == VLAN else 0
            interface = Interface(slot, network.MTU, mac, InterfaceFlag.TX_MULTI_BUFFER, network.MTU, tags=vid)
            self._dataplane.apply(SetInterface(ports[port], interface))
            self._dataplane.apply(Transmit(slot, ports[port]))
            if vid:
                self._dataplane.apply(SetTagged(ports[port], vid, ports[port]))

    def start(self) -> None:
        """Be the daemon, as far as the program needs one: routes that change make its cache void, and its lease
        is renewed."""
        cache = self._dataplane.cache
        self._routes.attach_filter(self._dataplane.route_filter_fd)
        for group in (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE):
            self._routes.join(group)
        cache.__enter__()
        cache.configure(Key())
        cache.settle(cache.changes)
        self._thread.start()

    def stop(self) -> None:
        """See `start`."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()
        self._dataplane.cache.__exit__()
        self._routes.close()

    def _live(self) -> None:
        while not self._stopped.wait(RENEW_S):
            cache = self._dataplane.cache
            cache.settle(cache.changes)

    @property
    def contender(self) -> Contender:
        return Contender(self.name, self._dataplane.program_fd, remembers=self.name != PLAIN, tagged=self.name == VLAN)


def routers(directory: Path, ports: dict[str, int], cache_entries: int, vlan: bool, stack: ExitStack) -> list[Router]:
    """The ways of the product, each with pins of its own under `directory`."""
    out = []
    for name in (PLAIN, ROUTER, VLAN) if vlan else (PLAIN, ROUTER):
        out.append(Router(name, directory / name, ports, cache_entries, stack))
        stack.callback(out[-1].stop)
        out[-1].start()
    return out


def other_program(number: int, lib: Libbpf, stack: ExitStack) -> Contender:
    """A loaded program of somebody else's. It forwards with the benchmark's own routes and ports.

    Raises UsageError if there is no such XDP program, and XdprouterError if it has a devmap with devices:
    the benchmark's frames would leave by those, to who knows where.
    """
    try:
        fd = lib.program_by_id(number)
    except DataplaneError as error:
        reason = "there is no such program" if error.errno == errno.ENOENT else os.strerror(error.errno)
        raise UsageError(f"--program {number}: {reason} (`bpftool prog` lists what is loaded)") from error
    stack.callback(os.close, fd)
    info = lib.program_info(fd)
    name = info.name.decode(errors="replace") or "unnamed"
    if info.type != libbpf.BPF_PROG_TYPE_XDP:
        raise UsageError(f"--program {number}: {name} is not an XDP program")
    for map_id in lib.map_ids(fd):
        map_fd = lib.map_by_id(map_id)
        try:
            devmap = lib.map_type(map_fd) in (libbpf.BPF_MAP_TYPE_DEVMAP, libbpf.BPF_MAP_TYPE_DEVMAP_HASH)
            if devmap and lib.devmap_holds_a_device(map_fd):
                raise XdprouterError(
                    f"--program {number}: {name} redirects by devmap {map_id}, which leads to ports of this machine: "
                    "the benchmark's frames would leave there; only programs that redirect by ifindex can be measured"
                )
        finally:
            os.close(map_fd)
    return Contender(f"{name}/{number}", fd)


def _remove(pins: PinDirectory) -> None:
    if pins.mount_point.exists():
        pins.remove()
