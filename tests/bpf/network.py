# SPDX-License-Identifier: GPL-2.0-only
r"""The network that the packet tests run in: a namespace of its own, with every kind of route.

      HOST --- in0 [ router ] out0 --- next hop, second next hop       ports
                            \ big0    MTU 9000, takes multi-buffer frames
                            \ plain0  MTU 9000, does not take them
                            \ idle0   a port, not in the devmap
                            \ small0  a port whose entry says MTU 1200, the device 1500
                            \ closed0 a port with forwarding switched off
                            \ side0   no port
                            \ strict0, loose0, guarded0, hairpin0, no_six0, narrow_six0, deep0, split0, unsure4, unsure6, rules6
                              ports whose entry carries a flag or an IPv6 MTU

`10.K.0.0/16` and `2001:db8:K::/48` are routed in the way that number K of `ROUTES` says.
"""

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import netns

from controlplane.cache import HZ
from controlplane.cache_key import Key
from controlplane.counters import PortCounters, Traffic
from controlplane.dataplane import Dataplane
from controlplane.interface import Interface, InterfaceFlag
from controlplane.pins import PinDirectory
from controlplane.reconcile import SetInterface, Transmit
from tests.packets import HOST4, HOST6, HOST_MAC, ROUTER_MAC


@dataclass(frozen=True)
class Port:
    number: int
    mtu: int = 1500
    is_port: bool = True
    transmits: bool = True
    tx_multi_buffer: bool = True
    known_mtu: int = 0
    """What the data plane is told, if not the truth"""
    ipv6_mtu: int = 0
    flags: int = 0

    @property
    def mac(self) -> str:
        return f"02:00:00:00:{self.number:02x}:01" if self.number else ROUTER_MAC

    @property
    def next_hop_mac(self) -> str:
        return f"02:00:00:00:{self.number:02x}:02"


PORTS = {
    "in0": Port(0, mtu=9000),
    "out0": Port(1),
    "big0": Port(2, mtu=9000),
    "plain0": Port(3, mtu=9000, tx_multi_buffer=False),
    "idle0": Port(4, transmits=False),
    "side0": Port(5, is_port=False),
    "closed0": Port(6),
    "small0": Port(7, known_mtu=1200),
    "strict0": Port(8, flags=InterfaceFlag.REVERSE_PATH_STRICT),
    "loose0": Port(9, flags=InterfaceFlag.REVERSE_PATH_LOOSE),
    "guarded0": Port(0x21, flags=InterfaceFlag.GUARDED),
    "hairpin0": Port(0x22, flags=InterfaceFlag.HAIRPIN_IPV4),
    "no_six0": Port(0x23, flags=InterfaceFlag.PASS_IPV6),
    "narrow_six0": Port(0x24, ipv6_mtu=1300),
    "deep0": Port(0x25, flags=InterfaceFlag.PASS_IPV6_FRAGMENTS | InterfaceFlag.PASS_ICMPV6),
    "unsure4": Port(0x27, flags=InterfaceFlag.MULTIPATH_UNSURE_IPV4),
    "unsure6": Port(0x28, flags=InterfaceFlag.MULTIPATH_UNSURE_IPV6),
    "rules6": Port(0x29, flags=InterfaceFlag.RULES_UNSURE_IPV6),
    "split0": Port(0x26, flags=InterfaceFlag.IPV6_FRAGMENT_HASHED),
}
SECOND_NEXT_HOP_MAC = "02:00:00:00:01:03"

ROUTES = {  # kind: (number, way); {out} is the next hop behind out0 and so on
    "out": (10, "via {out} dev out0"),
    "big": (11, "via {big} dev big0"),
    "plain": (12, "via {plain} dev plain0"),
    "idle": (13, "via {idle} dev idle0"),
    "side": (14, "via {side} dev side0"),
    "small": (15, "via {small} dev small0"),
    "unresolved": (16, "via {absent} dev out0"),
    "failed": (17, "via {failed} dev out0"),
    "narrow": (18, "via {out} dev out0 mtu lock 1400"),
    "ecmp": (19, "nexthop via {out} dev out0 nexthop via {second} dev out0"),
    "hairpin": (20, "via {in} dev in0"),
    "back": (21, "via {hairpin} dev hairpin0"),
    "six": (22, "via {narrow_six} dev narrow_six0"),
    "blackhole": (30, None),
    "unreachable": (31, None),
    "prohibit": (32, None),
}
POLICY_PORT, POLICY_TOS, POLICY_PROTOCOL = 4444, 0x10, 253
POLICY_SOURCE4, POLICY_SOURCE6 = "10.0.0.66", "2001:db8::66"
"""Packets with one of these meet `ip rule`s whose table is one blackhole."""


ANY_IP = "10.60.0.0/16"
"""A prefix of which every address is the router's own."""


def destination(kind: str, family: int) -> str:
    number = ROUTES[kind][0]
    return f"10.{number}.0.5" if family == 4 else f"2001:db8:{number}::5"


class Namespace:
    """A network namespace of a unique name. The thread is inside only within `with entered()`."""

    _serial = itertools.count()

    def __init__(self):
        self.name = f"xdprouter-packets-{os.getpid()}-{next(self._serial)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            netns.setns(self.name, flags=0)
            try:
                yield
            finally:
                netns.setns(home)
        finally:
            os.close(home)

    def ip(self, *lines: str, family: int = 4) -> None:
        """`ip -batch`; the first line that fails stops it and raises. `family` 0: none in particular."""
        command = ["ip", *([f"-{family}"] if family else []), "-batch", "-"]
        with self.entered():
            done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"ip -batch: {done.stderr.strip()}\n" + "\n".join(lines))

    def sysctl(self, **settings: int) -> None:
        """Names with `__` for each dot."""
        with self.entered():
            for name, value in settings.items():
                with open("/proc/sys/net/" + name.replace("__", "/"), "w") as file:
                    file.write(str(value))

    def keep_neighbours(self) -> None:
        """Of all devices there are, for a day. A minute after the kernel has sent to multicast groups it would collect
        their entries, and announce that, which makes answers void."""
        with self.entered():
            for path in Path("/proc/sys/net").glob("ipv[46]/neigh/*/gc_stale_time"):
                path.write_text("86400")

    def ifindex(self, name: str) -> int:
        with self.entered():
            return socket.if_nametoindex(name)

    def delete(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


@contextmanager
def whole_network() -> Iterator[Namespace]:
    """A namespace with everything that this file describes; gone after the block."""
    ns = Namespace()
    try:
        build_links(ns)
        build_routes(ns)
        ns.keep_neighbours()
        yield ns
    finally:
        ns.delete()


def build_links(ns: Namespace) -> None:
    """Veth pairs with fixed MACs; the peers `NAMEp` are only there so that the ports have carrier."""
    ns.sysctl(
        ipv6__conf__default__accept_dad=0,
        ipv6__conf__default__addr_gen_mode=1,
        ipv4__ip_forward=1,
        ipv6__conf__all__forwarding=1,
    )
    for name, port in PORTS.items():
        ns.ip(
            f"link add {name} address {port.mac} mtu {port.mtu} type veth peer name {name}p mtu {port.mtu}",
            f"link set {name} up",
            f"link set {name}p up",
        )


def build_routes(ns: Namespace) -> None:
    """Addresses, permanent neighbours, ROUTES and policy rules, both families."""
    for family in (4, 6):
        ns.ip(*_addresses(family), *_neighbours(family), *_routes(family), *_rules(family), family=family)
    ns.ip(
        "route add 10.40.0.0/16 via inet6 2001:db8:0:1::2 dev out0",  # RFC 8950
        "route add 10.41.0.0/16 via 10.0.1.2 dev out0 mtu 1000",  # not locked
        f"route add local {ANY_IP} dev lo",
    )
    ns.ip("route add 2001:db8:41::/48 via 2001:db8:0:1::2 dev out0 mtu 1300", family=6)
    ns.sysctl(
        ipv4__fib_multipath_hash_policy=1,
        ipv6__fib_multipath_hash_policy=1,
        ipv4__conf__closed0__forwarding=0,
        ipv6__conf__closed0__forwarding=0,
    )


def _addresses(family: int) -> list[str]:
    suffix = "/24" if family == 4 else "/64 nodad"
    return [f"addr add {_address(port.number, family, 1)}{suffix} dev {name}" for name, port in PORTS.items()]


def _neighbours(family: int) -> list[str]:
    permanent = [
        (_address(port.number, family, 2), name, port.next_hop_mac) for name, port in PORTS.items() if port.number
    ]
    permanent.append((_address(1, family, 3), "out0", SECOND_NEXT_HOP_MAC))
    permanent.append((HOST4 if family == 4 else HOST6, "in0", HOST_MAC))
    lines = [f"neigh add {address} dev {name} lladdr {mac}" for address, name, mac in permanent]
    return [*lines, f"neigh add {_address(1, family, 0x78)} dev out0 nud failed"]


def _routes(family: int) -> list[str]:
    hops = {name.removesuffix("0"): _address(port.number, family, 2) for name, port in PORTS.items()}
    hops["in"] = HOST4 if family == 4 else HOST6
    hops |= {"second": _address(1, family, 3), "absent": _address(1, family, 0x77), "failed": _address(1, family, 0x78)}
    return [
        f"route add {kind if way is None else ''} {_prefix(number, family)} {(way or '').format(**hops)}"
        for kind, (number, way) in ROUTES.items()
    ]


def _rules(family: int) -> list[str]:
    source = POLICY_SOURCE4 if family == 4 else POLICY_SOURCE6
    selectors = (
        f"dport {POLICY_PORT}",
        f"sport {POLICY_PORT}",
        f"tos {POLICY_TOS:#x}",
        f"ipproto {POLICY_PROTOCOL}",
        f"from {source}",
    )
    rules = [f"rule add pref {100 + i} {selector} lookup 100" for i, selector in enumerate(selectors)]
    return ["route add blackhole default table 100", *rules]


def _address(number: int, family: int, host: int) -> str:
    return f"10.0.{number}.{host}" if family == 4 else f"2001:db8:0:{number:x}::{host:x}"


def _prefix(number: int, family: int) -> str:
    return f"10.{number}.0.0/16" if family == 4 else f"2001:db8:{number}::/48"


class Router:
    """A data plane over a namespace, with PORTS as far as they are ports. With `cache_sets` it has a cache, which
    answers nothing before `grant`."""

    devices: Iterable[str] = PORTS

    def __init__(self, ns: Namespace, pins: PinDirectory, defines: tuple[str, ...] = (), cache_sets: int = 0):
        self.ns = ns
        self.indexes = {name: ns.ifindex(name) for name in self.devices}
        self.slots = {"": 0}
        with ns.entered():
            self.dataplane = Dataplane(pins, defines, cache_sets)
            self.dataplane.cache.__enter__()
            self.dataplane.sync_notes(self.dataplane.route_dump.count().notes)
            self.describe()

    def describe(self) -> None:
        """Tells the data plane of the ports."""
        for name, port in PORTS.items():
            if port.is_port:
                self._add(name, port)

    def run(self, frame: bytes, ingress: str = "in0") -> tuple[int, bytes]:
        """(XDP action, the frame afterwards)"""
        with self.ns.entered():
            return self.dataplane.test_run(frame, self.indexes[ingress])

    def beat(self) -> None:
        """What a daemon would have to do now and then."""

    def grant(self, key: Key) -> None:
        """Everything announced so far is in force: packets may be answered from the cache, under this key."""
        cache = self.dataplane.cache
        if cache.sets and cache.key != key:  # at once, where the daemon waits before a narrower one
            cache._key = None
            cache._clear()
        cache.configure(key)
        cache.settle(cache.changes)

    def three_times(self, frame: bytes, ingress: str, key: Key) -> list[tuple[dict[str, PortCounters], int, bytes]]:
        """What was counted, the XDP action and the frame afterwards: by the FIB, then by what was remembered of it, if
        that was of the kind. What the kernel announces meanwhile, or a lease that ran out because the machine is busy,
        makes answers void or short-lived; then all is done again."""
        cache = self.dataplane.cache
        end = time.monotonic() + 30
        while time.monotonic() < end:
            cache.invalidate()
            self.grant(key)
            announced, out, calm = self.announced, [], self._is_settled()
            for _ in range(3):
                before = self.counters()
                self.grant(key)
                action, after = self.run(frame, ingress)
                calm &= cache.lease_ok
                out.append((rise(before, self.counters()), action, after))
            if calm and self.announced == announced:
                return out
        raise AssertionError("never were three packets left in peace")

    @property
    def announced(self) -> int:
        """How often the kernel has announced what makes answers void, also where there is no cache."""
        return self.dataplane.cache._state.invalidations

    def _is_settled(self) -> bool:
        """Nothing was announced so lately that the FIB may be unsettled, and answers short-lived."""
        window, now = max(1, HZ // 8), self.dataplane._jiffies()
        return all((until - now - 1) & 0xFFFFFFFF >= window for until in self.dataplane.cache._state.unsettled)

    def counters(self) -> dict[str, PortCounters]:
        """By port name; the empty name is slot 0, of devices that are no port."""
        return {name: self.dataplane.slots.counters(slot) for name, slot in self.slots.items()}

    def close(self) -> None:
        self.dataplane.cache.__exit__()
        self.dataplane.close()

    def _add(self, name: str, port: Port) -> None:
        slot = self.slots[name] = self.dataplane.slots.assign(name)
        flags = port.flags | InterfaceFlag.WIDE_OWN_SOURCES
        flags |= InterfaceFlag.TX_MULTI_BUFFER if port.tx_multi_buffer else 0
        mtu = port.known_mtu or port.mtu
        interface = Interface(slot, mtu, port.mac, flags, port.ipv6_mtu or mtu, self.dataplane.notes.narrow_mtu)
        self.dataplane.apply(SetInterface(self.indexes[name], interface))
        if port.transmits:
            self.dataplane.apply(Transmit(slot, self.indexes[name]))


def rise(before: dict[str, PortCounters], after: dict[str, PortCounters]) -> dict[str, PortCounters]:
    """What was counted between two readings; only ports where anything was."""
    out = {name: _difference(before[name], after[name]) for name in after}
    return {name: counters for name, counters in out.items() if counters != PortCounters()}


def _difference(before: PortCounters, after: PortCounters) -> PortCounters:
    ingress = {verdict: total - before.ingress.get(verdict, Traffic()) for verdict, total in after.ingress.items()}
    codes = {code: number - before.fib_codes.get(code, 0) for code, number in after.fib_codes.items()}
    return PortCounters(
        ingress={verdict: traffic for verdict, traffic in ingress.items() if traffic != Traffic()},
        egress=after.egress - before.egress,
        fib_codes={code: number for code, number in codes.items() if number},
        redirect_errors=after.redirect_errors - before.redirect_errors,
        cache_hits=after.cache_hits - before.cache_hits,
    )
