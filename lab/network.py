"""The network of one namespace: veth pairs, the devices on top of them, addresses, routes, sysctls.

Every function takes the name of an existing namespace and works only inside it; the machine's own
network is never touched. Errors of the kernel come out as LabError with the device's or route's name.
"""

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lab import namespace
from lab.device import MODES, Device
from lab.errors import LabError
from lab.topology import Address, Endpoint, Link, Node, Route
from lab.wait import wait_until

USABLE_TIMEOUT_S = 20.0
SCOPE_LINK = 253  # RT_SCOPE_LINK

_VLAN_OFFLOADS = ("txvlan", "rxvlan", "tx-vlan-stag-hw-insert", "rx-vlan-stag-hw-parse")
_MIIMON_MS = 50
_ETH_P_8021Q, _ETH_P_8021AD = 0x8100, 0x88A8
_AD_RATE_FAST = 1  # linux/if_bonding.h
_XMIT_HASH_ENCAP34 = 4
"""Layer 3+4 would not look behind a VLAN tag that is in the frame, and send all of a VLAN by one member."""

# Set before the first device exists, so that each is born with them.
_EVERYWHERE = {
    # The greater of "all" and the device's own value counts, for both.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # An address must be usable at once: duplicate detection takes a second or two.
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    # Link down would take the IPv6 addresses away, and nobody would put them back.
    "net.ipv6.conf.all.keep_addr_on_down": "1",
    "net.ipv6.conf.default.keep_addr_on_down": "1",
}
_ROUTERS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
}


def prepare(ns: str, node: Node) -> None:
    """What a namespace needs before it gets ports: sysctls, and lo up with its addresses."""
    sysctls = _EVERYWHERE | (_ROUTERS if node.is_router else {})
    write_sysctls(ns, sysctls | dict(node.sysctl))
    with _kernel(ns, "lo") as ipr:
        ipr.link("set", index=1, state="up")
    add_addresses(ns, "lo", node.loopback)


def write_sysctls(ns: str, sysctls: dict[str, str]) -> None:
    """Set net.* sysctls of a namespace (dotted names). Raises LabError naming the one that failed."""
    # /proc/sys/net shows the namespace of whoever opens a file, so open it from inside.
    with namespace.entered(ns):
        for name, value in sysctls.items():
            try:
                Path("/proc/sys", *name.split(".")).write_text(value)
            except OSError as error:
                raise LabError(f"{ns}: sysctl {name} = {value}: {os.strerror(error.errno)}") from error


def connect(link: Link, ns_a: str, ns_b: str) -> None:
    """Make a link: its veth pair, with addresses, up, and fit for native XDP at both ends."""
    queues = {"num_tx_queues": link.queues, "num_rx_queues": link.queues, "mtu": link.mtu}
    with open(namespace.path(ns_b), "rb") as there, _kernel(ns_a, link.a.port) as ipr:
        peer = {"ifname": link.b.port, "net_ns_fd": there.fileno(), **queues, **_mac(link.b)}
        ipr.link("add", ifname=link.a.port, kind="veth", peer=peer, **queues, **_mac(link.a))
    ends = ((ns_a, link.a), (ns_b, link.b))
    # Both before either is up: a veth works out whether it can take redirected frames when it comes up,
    # from its peer's gro at that moment, and gro switched on at a peer that is down does not correct it.
    for ns, end in ends:
        make_ready_for_xdp(ns, end.port)
    for ns, end in ends:
        add_addresses(ns, end.port, end.addresses)
        set_state(ns, end.port, "up")


def make_ready_for_xdp(ns: str, port: str) -> None:
    """Let a veth end take redirected frames, and send none that native XDP would spoil.

    gro on gives the end NAPI, without which every frame redirected to it is lost. tx off makes local
    senders (hosts' TCP, routers' own BGP) compute checksums: a redirect loses the promise to do it later.
    VLAN tags are in the frame, as on a wire, not beside it.
    """
    features = ["gro", "on", "tx", "off", *(word for name in _VLAN_OFFLOADS for word in (name, "off"))]
    done = namespace.run(ns, ["ethtool", "-K", port, *features])
    if done.returncode != 0:
        raise LabError(f"{ns}: {port}: ethtool: {done.stderr.strip()}")


def add_devices(ns: str, node: Node, ends: Iterable[Endpoint]) -> None:
    """Make a node's VLANs, bonds, bridges and VRFs on its ports, which are up, and put the ports in their VRFs."""
    for device in node.devices:
        with _kernel(ns, device.name) as ipr:
            _add_device(ipr, ns, device)
        set_state(ns, device.name, "up")
    for name, vrf in (*((end.port, end.vrf) for end in ends), *((device.name, device.vrf) for device in node.devices)):
        if vrf:
            set_master(ns, name, vrf)
    for device in node.devices:
        add_addresses(ns, device.name, device.addresses)


def set_master(ns: str, name: str, master: str | None) -> None:
    """Put a device in a VRF, bond or bridge; None takes it out of what it is in. Bonds want it down beforehand."""
    with _kernel(ns, name) as ipr:
        ipr.link("set", index=_index(ns, name, ipr), master=_index(ns, master, ipr) if master else 0)


def _add_device(ipr: IPRoute, ns: str, device: Device) -> None:
    what: dict[str, Any] = {"address": device.mac} if device.mac else {}
    if device.kind in ("vlan", "svlan"):
        protocol = _ETH_P_8021Q if device.kind == "vlan" else _ETH_P_8021AD
        what |= {"kind": "vlan", "link": _index(ns, device.on, ipr), "vlan_id": device.number}
        what |= {"vlan_protocol": protocol}
    elif device.kind == "table":
        what |= {"kind": "vrf", "vrf_table": device.number}
    elif device.kind == "bridge":
        what |= {"kind": "bridge"}
    else:
        what |= {"kind": "bond", "bond_mode": MODES.index(device.mode), "bond_miimon": _MIIMON_MS}
        if device.mode == "802.3ad":
            what |= {"bond_ad_lacp_rate": _AD_RATE_FAST}
        if device.mode in ("802.3ad", "balance-xor"):
            what |= {"bond_xmit_hash_policy": _XMIT_HASH_ENCAP34}
    ipr.link("add", ifname=device.name, **what)
    index = _index(ns, device.name, ipr)
    for member in device.members:
        member_index = _index(ns, member, ipr)
        ipr.link("set", index=member_index, state="down")
        ipr.link("set", index=member_index, master=index)
        ipr.link("set", index=member_index, state="up")
    if device.mtu:
        ipr.link("set", index=index, mtu=device.mtu)


def add_addresses(ns: str, port: str, addresses: Iterable[Address]) -> None:
    with _kernel(ns, port) as ipr:
        index = _index(ns, port, ipr)
        for address in addresses:
            ipr.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)


def set_state(ns: str, port: str, state: str) -> None:
    """Set a device "up" or "down"."""
    with _kernel(ns, port) as ipr:
        ipr.link("set", index=_index(ns, port, ipr), state=state)


def wait_until_usable(ns: str, ports: Iterable[str], members: Collection[str] = ()) -> None:
    """Wait until devices are operational and, `members` of others left out, have their IPv6 link-local address.

    The kernel may tell the stack of a new carrier as much as a second late; a routing daemon that looks
    before that loses seconds more. Raises LabTimeout.
    """
    for port in ports:
        with _kernel(ns, port) as ipr:
            index = _index(ns, port, ipr)
            has_address = port not in members
            wait_until(lambda: _is_usable(ipr, index, has_address), USABLE_TIMEOUT_S, f"{ns}: {port} to come up")  # noqa: B023


def load_nftables(ns: str, rules: str) -> None:
    """`nft -f`. Raises LabError with nft's own words."""
    done = namespace.run(ns, ["nft", "-f", "-"], input=rules)
    if done.returncode != 0:
        raise LabError(f"{ns}: nft: {' '.join(done.stderr.split())}")


def add_routes(ns: str, routes: Iterable[Route]) -> None:
    """Add static routes that are not there yet."""
    for route in routes:
        with _kernel(ns, f"route to {route.to}") as ipr:
            _add_route(ipr, ns, route)


def restore_routes(ns: str, routes: Iterable[Route]) -> None:
    """Put back the static routes that a link's going down has flushed, as far as links are up again."""
    with _kernel(ns, "routes") as ipr:
        for route in routes:
            try:
                _add_route(ipr, ns, route)
            except NetlinkError as error:
                if error.code not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
                    raise


def _add_route(ipr: IPRoute, ns: str, route: Route) -> None:
    hops: dict[str, Any]
    if len(route.via) == 1:
        hops = {"gateway": route.via[0]}
    else:
        hops = {"multipath": [{"gateway": via} for via in route.via]}
    if route.vrf:
        hops["table"] = _table(ns, route.vrf, ipr)
    family = socket.AF_INET if route.version == 4 else socket.AF_INET6
    try:
        ipr.route("add", dst=route.to, family=family, proto="static", **hops)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _is_usable(ipr: IPRoute, index: int, has_address: bool) -> bool:
    (link,) = ipr.get_links(index)
    if link.get("IFLA_OPERSTATE") != "UP":
        return False
    return not has_address or bool(ipr.get_addr(family=socket.AF_INET6, index=index, scope=SCOPE_LINK))


def _table(ns: str, vrf: str, ipr: IPRoute) -> int:
    (link,) = ipr.get_links(_index(ns, vrf, ipr))
    return link.get(("linkinfo", "data", "vrf_table"))


def _mac(end: Endpoint) -> dict[str, str]:
    return {"address": end.mac} if end.mac else {}


def _index(ns: str, port: str, ipr: IPRoute) -> int:
    found = ipr.link_lookup(ifname=port)
    if not found:
        raise LabError(f"{ns} has no device {port}")
    return found[0]


@contextmanager
def _kernel(ns: str, what: str) -> Iterator[IPRoute]:
    """A netlink socket in a namespace; its errors become LabErrors about `what`.

    Opened from inside: pyroute2's `netns=` forks a process for each socket.
    """
    with namespace.entered(ns):
        ipr = IPRoute()
        try:
            yield ipr
        except NetlinkError as error:
            raise LabError(f"{ns}: {what}: {os.strerror(error.code)}") from error
        finally:
            ipr.close()
