# SPDX-License-Identifier: GPL-2.0-only
r"""A router with a real daemon, and three ways out.

                              out0 --- 10.0.1.2, fd00:0:0:2::2   way A; at another MAC: way C
(generator) in0  [ router ]
                              out1 --- 10.0.2.2, fd00:0:0:3::2   way B
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from controlplane.netlink import NetlinkSocket
from lab import instance, namespace
from lab.network import write_sysctls
from lab.process import Process, end
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.instance import Instance

A, B, C = 1, 2, 3
"""Ways out: the last byte of the next hop's MAC"""
WAYS = 8
PORTS = ("in0", "out0", "out1")
NEXT_HOP = {(4, A): "10.0.1.2", (4, B): "10.0.2.2", (6, A): "fd00:0:0:2::2", (6, B): "fd00:0:0:3::2"}
PORT_OF = {A: "out0", B: "out1"}
_ADDRESSES = {
    "in0": ("10.0.0.1/24", "fd00:0:0:1::1/64"),
    "out0": ("10.0.1.1/24", "fd00:0:0:2::1/64"),
    "out1": ("10.0.2.1/24", "fd00:0:0:3::1/64"),
}
_OWN_MACS = {"in0": network.ROUTER_MAC, "out0": "02:00:00:00:01:01", "out1": "02:00:00:00:02:01"}
_SYSCTLS = {
    "net.ipv6.conf.default.keep_addr_on_down": "1",
    "net.ipv6.conf.all.keep_addr_on_down": "1",
    # A replaced nexthop object announces itself alone, and not all of its routes besides.
    "net.ipv4.nexthop_compat_mode": "0",
}
READY_S = 10.0


def mac(way: int) -> str:
    return f"02:00:00:00:0a:{way:02x}"


class Router:
    """`cached`: with the cache as it comes, or with cache_entries = 0. Made by `router`."""

    def __init__(self, ns: str, directory: Path, cached: bool):
        self.ns = ns
        self.cached = cached
        usable = sorted(os.sched_getaffinity(0))
        self.cpus = usable[0], usable[-1]
        """where the traffic is, and where the changes are made"""
        self._directory = directory
        self._config = directory / "xdprouter.toml"
        self._config.write_text("" if cached else "cache_entries = 0\n")
        self.daemon: subprocess.Popen | None = None
        with namespace.entered(ns):
            self.netlink = NetlinkSocket()
        self.ifindexes = {port: network.ifindex(ns, port) for port in PORTS}

    def start(self) -> None:
        """The daemon; returns when every port transmits."""
        self.daemon = instance.start(self.ns, PORTS, self._directory, ["-c", str(self._config)])
        wait_until(lambda: all(port["transmitting"] for port in self.status()["ports"]), READY_S, "the ports")

    def status(self) -> dict:
        return client.ask(Instance(self.ns), api.StatusRequest())

    def process(self) -> Process:
        """The daemon, to send signals to."""
        found = Process.of(self.daemon.pid)
        assert self.daemon.poll() is None and found, "the daemon has ended"
        return found

    def write_sysctl(self, name: str, value: str) -> None:
        write_sysctls(self.ns, {name: value})

    def restore(self) -> None:
        """The ways that a link that was down has lost."""
        network.ip(self.ns, *(f"neigh replace {NEXT_HOP[family, way]} dev {PORT_OF[way]} lladdr {mac(way)} nud permanent"
                              for family in (4, 6) for way in (A, B)))  # fmt: skip

    def close(self) -> None:
        self.netlink.close()
        if self.daemon is not None and self.daemon.poll() is None:
            end([self.process()])
            self.daemon.wait()


@contextmanager
def router(cached: bool) -> Iterator[Router]:
    """With its network and its daemon running; nothing of them stays behind."""
    with ExitStack() as stack:
        ns = stack.enter_context(network.network(f"coherence-{'cached' if cached else 'plain'}"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xdprouter-coherence-")))
        write_sysctls(ns, _SYSCTLS)
        for port in PORTS:
            network.add_pair(ns, port, _OWN_MACS[port])
        for port, addresses in _ADDRESSES.items():
            network.ip(ns, *(f"addr add {address} dev {port}" for address in addresses))
            wait_until(lambda: network._is_up(ns, port), READY_S, f"{port} to come up")  # noqa: B023
        stack.callback(instance.remove_state, ns)
        made = Router(ns, directory, cached)
        stack.callback(made.close)
        made.restore()
        made.start()
        yield made
