# SPDX-License-Identifier: GPL-2.0-only
r"""The network that is measured in: a namespace of its own with veth pairs and neighbours.

The generator runs as if on in0, so in0p stays silent but for mirrored frames; the sink is on both far ends.

    in0p === in0 [ router ] out0 === out0p
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lab import namespace
from lab.errors import LabError
from lab.network import make_ready_for_xdp, write_sysctls
from lab.wait import wait_until

ROUTER_MAC, EGRESS_MAC = "02:00:00:00:00:01", "02:00:00:00:01:01"
HOST_MAC, NEXT_HOP_MAC = "02:00:00:00:00:02", "02:00:00:00:01:02"
SOURCE = {4: "10.0.0.2", 6: "fd00:0:0:1::2"}
ADDRESSES = {"in0": ("10.0.0.1/24", "fd00:0:0:1::1/64"), "out0": ("10.0.1.1/24", "fd00:0:0:2::1/64")}
MTU = 1500
INGRESS_VID, EGRESS_VID = 10, 20
"""of frames with a tag: that they bear on in0, and shall bear on out0"""

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


def next_hops(family: int, count: int) -> list[str]:
    """Their addresses; all have NEXT_HOP_MAC, which is what the sink looks for."""
    return [f"10.0.1.{n}" if family == 4 else f"fd00:0:0:2::{n:x}" for n in range(2, 2 + count)]


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


def add_pair(ns: str, port: str, mac: str = "", peer_mac: str = "", queues: int = 1) -> None:
    """A veth pair PORT, PORTp with this many queues each way, fit for native XDP, up."""
    number = f"numtxqueues {queues} numrxqueues {queues}"
    own, far = (f"address {address}" if address else "" for address in (mac, peer_mac))
    ip(ns, f"link add {port} {own} {number} type veth peer name {port}p {far} {number}")
    for end in (port, f"{port}p"):  # before set up: only then does a veth work out that it has NAPI
        make_ready_for_xdp(ns, end)
    ip(ns, f"link set {port} up", f"link set {port}p up")


def build(ns: str, queues: int = 1, hops: int = 1) -> None:
    """The two ports of the router, with addresses and permanent neighbours."""
    add_pair(ns, "in0", ROUTER_MAC, HOST_MAC, queues)
    add_pair(ns, "out0", EGRESS_MAC, NEXT_HOP_MAC, queues)
    for port, addresses in ADDRESSES.items():
        ip(ns, *(f"addr add {address} dev {port}" for address in addresses))
    neighbours = [hop for family in (4, 6) for hop in next_hops(family, hops)]
    ip(ns, *(f"neigh add {hop} dev out0 lladdr {NEXT_HOP_MAC} nud permanent" for hop in neighbours))
    for port in ADDRESSES:
        wait_until(lambda: _is_up(ns, port), _UP_TIMEOUT_S, f"{port} to come up")  # noqa: B023


def use_queues(ns: str, cpus: list[int], queues: int) -> None:
    """One queue for each CPU that forwards, and its own, of the `queues` that the ports were made with.

    Redirected frames take the queue of their CPU anyhow; of the stack's, as on a NIC, XPS makes it so.
    """
    if queues == 1:
        return
    # An end with XDP never has fewer queues to receive with than its peer has to send with: one queue to
    # send with first, those to receive with, then the rest.
    number = str(len(cpus))
    for way, count in (("tx", "1"), ("rx", number), ("tx", number)):
        for port in ("in0", "in0p", "out0", "out0p"):
            _channels(ns, port, way, count)
    lines = [f"echo {1 << cpu:x} > /sys/class/net/out0/queues/tx-{queue}/xps_cpus" for queue, cpu in enumerate(cpus)]
    # /sys shows the namespace it was mounted in, so a mount of our own, seen by this command alone.
    script = "set -e; mount -t sysfs sysfs /sys; " + "; ".join(lines)
    done = namespace.run(ns, ["unshare", "--mount", "sh", "-c", script])
    if done.returncode != 0:
        raise LabError(f"{ns}: cannot give each CPU its own queue of out0: {done.stderr.strip()}")


def _channels(ns: str, port: str, way: str, number: str) -> None:
    done = namespace.run(ns, ["ethtool", "-L", port, way, number])
    if done.returncode != 0 and "no change" not in (done.stderr + done.stdout):
        raise LabError(f"{ns}: {port}: ethtool -L {way} {number}: {done.stderr.strip()}")


def _is_up(ns: str, port: str) -> bool:
    return " state UP " in namespace.run(ns, ["ip", "-oneline", "link", "show", port]).stdout


def ip(ns: str, *lines: str) -> None:
    """`ip -batch`; the first line that fails stops it and raises LabError."""
    done = namespace.run(ns, ["ip", "-batch", "-"], input="\n".join(lines) + "\n")
    if done.returncode != 0:
        raise LabError(f"ip -batch in {ns}: {done.stderr.strip()}")


def ifindex(ns: str, port: str) -> int:
    with namespace.entered(ns):
        return socket.if_nametoindex(port)
