# SPDX-License-Identifier: GPL-2.0-only
r"""The network that is measured in: a namespace of its own with veth pairs, neighbours and routes.

The generator runs as if on in0, so in0p stays silent; the sink is on out0p.

    in0p === in0 [ router ] out0 === out0p
"""

import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lab import namespace
from lab.network import make_ready_for_xdp, write_sysctls
from lab.wait import wait_until

ROUTER_MAC, EGRESS_MAC = "02:00:00:00:00:01", "02:00:00:00:01:01"
HOST_MAC, NEXT_HOP_MAC = "02:00:00:00:00:02", "02:00:00:00:01:02"
SOURCE = {4: "10.0.0.2", 6: "fd00:0:0:1::2"}
NEXT_HOP = {4: "10.0.1.2", 6: "fd00:0:0:2::2"}
ADDRESSES = {"in0": ("10.0.0.1/24", "fd00:0:0:1::1/64"), "out0": ("10.0.1.1/24", "fd00:0:0:2::1/64")}

# Per cent of the prefixes by length, about as in the Internet's table.
LENGTHS = {
    4: {24: 60, 22: 11, 23: 10, 21: 5, 20: 5, 19: 3, 16: 3, 18: 2, 17: 1},
    6: {48: 60, 32: 15, 44: 10, 40: 10, 36: 5},
}
_SETTINGS = {
    # Explicit, because a new namespace inherits some of them from the machine.
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.addr_gen_mode": "1",  # no link-local addresses: nobody talks unasked
    "net.ipv6.route.max_size": "4194304",
}
_UP_TIMEOUT_S = 10.0


@contextmanager
def network(purpose: str) -> Iterator[str]:
    """A namespace for the length of a with block, with settings but no devices; its name."""
    ns = f"xdprouter-bench-{purpose}-{os.getpid()}"
    namespace.create(ns)
    try:
        write_sysctls(ns, _SETTINGS)
        yield ns
    finally:
        namespace.delete(ns)


def add_pair(ns: str, port: str, mac: str = "", peer_mac: str = "") -> None:
    """A veth pair PORT, PORTp with one queue each way, fit for native XDP, up."""
    queues = "numtxqueues 1 numrxqueues 1"
    own, far = (f"address {address}" if address else "" for address in (mac, peer_mac))
    ip(ns, f"link add {port} {own} {queues} type veth peer name {port}p {far} {queues}")
    for end in (port, f"{port}p"):  # before set up: only then does a veth work out that it has NAPI
        make_ready_for_xdp(ns, end)
    ip(ns, f"link set {port} up", f"link set {port}p up")


def build(ns: str) -> None:
    """The two ports of the router, with addresses and permanent neighbours."""
    add_pair(ns, "in0", ROUTER_MAC, HOST_MAC)
    add_pair(ns, "out0", EGRESS_MAC, NEXT_HOP_MAC)
    for port, addresses in ADDRESSES.items():
        ip(ns, *(f"addr add {address} dev {port}" for address in addresses))
    for family in (4, 6):
        ip(ns, f"neigh add {NEXT_HOP[family]} dev out0 lladdr {NEXT_HOP_MAC} nud permanent")
    for port in ADDRESSES:
        wait_until(lambda: _is_up(ns, port), _UP_TIMEOUT_S, f"{port} to come up")  # noqa: B023


def _is_up(ns: str, port: str) -> bool:
    return " state UP " in namespace.run(ns, ["ip", "-oneline", "link", "show", port]).stdout


def ip(ns: str, *lines: str, family: int = 0) -> None:
    """`ip -batch`; the first line that fails stops it and raises."""
    option = [f"-{family}"] if family else []
    done = namespace.run(ns, ["ip", *option, "-batch", "-"], input="\n".join(lines) + "\n")
    if done.returncode != 0:
        raise RuntimeError(f"ip -batch in {ns}: {done.stderr.strip()}")


def ifindex(ns: str, port: str) -> int:
    with namespace.entered(ns):
        return socket.if_nametoindex(port)


class RouteTable:
    """Routes of one family that only ever grow: the first is the default route, the next are random
    prefixes, the same in every run."""

    def __init__(self, ns: str, family: int):
        self._ns = ns
        self._family = family
        self._random = random.Random(family)
        self._prefixes: list[tuple[int, int]] = []  # (network, prefix length), without the default route
        self._known: set[tuple[int, int]] = set()

    def grow(self, size: int) -> None:
        """Add routes until there are `size`."""
        lines = []
        if not self._known:
            self._known.add((0, 0))
            lines.append(self._line(0, 0))
        while len(self._known) < size:
            prefix = self._draw()
            if prefix not in self._known:
                self._known.add(prefix)
                self._prefixes.append(prefix)
                lines.append(self._line(*prefix))
        ip(self._ns, *lines, family=self._family)

    def destinations(self, count: int) -> list[int]:
        """Addresses in randomly chosen prefixes; with the default route alone, anywhere."""
        chosen = [self._random.choice(self._prefixes) if self._prefixes else self._draw() for _ in range(count)]
        bits = 32 if self._family == 4 else 64  # IPv6: the lower half is the generator's constant
        width = 32 if self._family == 4 else 128
        return [(network >> (width - bits)) + self._random.getrandbits(bits - length) for network, length in chosen]

    def _draw(self) -> tuple[int, int]:
        lengths = LENGTHS[self._family]
        (length,) = self._random.choices(list(lengths), list(lengths.values()))
        if self._family == 6:  # 2000::/3
            return (1 << (length - 3) | self._random.getrandbits(length - 3)) << (128 - length), length
        while True:
            first = self._random.randrange(1, 224)
            if first not in (10, 127):
                return (first << (length - 8) | self._random.getrandbits(length - 8)) << (32 - length), length

    def _line(self, network: int, length: int) -> str:
        kind = ipaddress.IPv4Address if self._family == 4 else ipaddress.IPv6Address
        return f"route add {kind(network)}/{length} via {NEXT_HOP[self._family]} dev out0"
