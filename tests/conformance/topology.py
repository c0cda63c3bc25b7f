# SPDX-License-Identifier: GPL-2.0-only
r"""The network of one router under comparison; the other router has the same, to the last byte.

      hosts --- in0    [        ] out0   --- next hops      ports of xdprouter
      hosts --- in1    [ router ] out1   --- next hops
                       [        ] small0 --- next hop       MTU 1280
                       [        ] side0  --- next hop       no port of xdprouter

Port number K has MAC 02:00:00:00:KK:01 and the addresses 10.0.K.1/24, 2001:db8:0:K::1/64 and fe80::1/64. Behind
it, most hosts have permanent neighbour entries: 10.0.K.H and 2001:db8:0:K::H at 02:00:00:00:KK:HH. Nobody is there in
truth: the far ends of the links are in a namespace without addresses, which never says a word of its own.
"""

import os
from collections.abc import Callable
from pathlib import Path

from lab import namespace
from lab.errors import LabError
from lab.network import write_sysctls

NUMBERS = {"in0": 0, "in1": 1, "out0": 2, "out1": 3, "small0": 4, "side0": 5}
ACCELERATED = ("in0", "in1", "out0", "out1", "small0")
MTU = {"small0": 1280}
HOSTS = (*range(2, 90), *range(100, 251))
"""Hosts 90 to 99 answer to nobody."""
PROBE_HOST = 250
"""Host of each link that asks "are you done?"; see wire.py."""
ANYIP = ("10.34.0.5", "2001:db8:34::5")
"""In networks that are the router's own, by a route of type local."""

SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "1",
    "net.ipv4.conf.default.send_redirects": "1",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.addr_gen_mode": "1",
    "net.ipv6.conf.default.router_solicitations": "0",
    # Every ICMP error must be seen: no rate limits.
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv4.icmp_ratemask": "0",
    "net.ipv4.icmp_msgs_per_sec": "1000000",
    "net.ipv4.icmp_msgs_burst": "1000000",
    "net.ipv6.icmp.ratelimit": "0",
    "net.ipv6.icmp.ratemask": "\n",  # none
    # The same flow must hash to the same leg in both routers: 0 would be a random seed for each.
    "net.ipv4.fib_multipath_hash_seed": "20240229",
    # Random in each packet that the router itself makes.
    "net.ipv6.auto_flowlabels": "0",
}

LATE = {"net.ipv4.fib_multipath_hash_seed"}
"""Not in the oldest kernels that are tested, whose seed is the machine's."""


def mac(port: str, host: int = 1) -> str:
    return f"02:00:00:00:{NUMBERS[port]:02x}:{host:02x}"


def address(port: str, family: int, host: int = 1) -> str:
    return f"10.0.{NUMBERS[port]}.{host}" if family == 4 else f"2001:db8:0:{NUMBERS[port]}::{host:x}"


def build(router: str, far: str, mtu: Callable[[str], int], far_mtu: Callable[[str], int]) -> None:
    """Make the links between two namespaces that are there and empty; `mtu` of a port, `far_mtu` of its far end."""
    write_sysctls(far, {"net.ipv6.conf.default.disable_ipv6": "1", "net.ipv4.ip_forward": "0"})
    write_sysctls(router, {name: value for name, value in SYSCTLS.items() if name not in LATE or has_sysctl(name)})
    ip(
        router,
        "link set lo up",
        *(
            f"link add {port} address {mac(port)} mtu {mtu(port)} type veth "
            f"peer name {port} mtu {far_mtu(port)} netns {far}"
            for port in NUMBERS
        ),
    )
    for ns in (router, far):
        for port in NUMBERS:
            # tx off: no checksum left to the device. gro off: nothing merged, on either side.
            _checked(ns, ["ethtool", "-K", port, "tx", "off", "gro", "off"])


def bring_up(router: str, far: str) -> None:
    """Once the far ends can take redirected frames: a port learns that when it comes up."""
    ip(far, *(f"link set {port} arp off up" for port in NUMBERS))
    ip(router, *(f"link set {port} up" for port in NUMBERS))
    for family in (4, 6):
        length = "24" if family == 4 else "64 nodad"
        lines = [f"addr add {address(port, family)}/{length} dev {port}" for port in NUMBERS]
        if family == 6:
            lines += [f"addr add fe80::1/64 nodad dev {port}" for port in NUMBERS]
        lines += [
            f"neigh add {address(port, family, host)} dev {port} lladdr {mac(port, host)} nud permanent"
            for port in NUMBERS
            for host in HOSTS
        ]
        ip(router, *lines, family=family)


def ip(ns: str, *lines: str, family: int = 0) -> None:
    """`ip -batch` in a namespace, of a family or of none; the first line that fails raises LabError."""
    if lines:
        _checked(ns, ["ip", *([f"-{family}"] if family else []), "-batch", "-"], input="\n".join(lines) + "\n")


def _checked(ns: str, argv: list[str], **kw) -> None:
    done = namespace.run(ns, argv, **kw)
    if done.returncode != 0:
        raise LabError(f"{ns}: {' '.join(argv)}: {done.stderr.strip()}")


def has_sysctl(name: str) -> bool:
    return os.path.exists(Path("/proc/sys", *name.split(".")))
