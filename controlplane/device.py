# SPDX-License-Identifier: GPL-2.0-only
"""Network devices as their drivers describe them: what must be right before XDP is attached, and while it is.

Only asks: nothing here changes a device. pyroute2 reads links and ethtool's answers; the driver's name is
ETHTOOL_GDRVINFO of include/uapi/linux/ethtool.h, namespace ids are RTM_GETNSID.
"""

import ctypes as ct
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.ethtool import Ethtool
from pyroute2.netlink.exceptions import NetlinkError as Refused

from controlplane.bpf_query import program_name, xdp_link_id
from controlplane.errors import ControlPlaneError, NetlinkError
from controlplane.link import Link
from controlplane.monitor import read_links
from controlplane.namespace import in_namespace
from controlplane.netdev import NetdevSocket
from controlplane.netlink import HEADER, NetlinkSocket, attribute, attributes

_SIOCETHTOOL, _GDRVINFO = 0x8946, 0x00000003
_RTM_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NAMED, _PROC = Path("/run/netns"), Path("/proc")

TX_VLAN, GRO = "tx-vlan-hw-insert", "rx-gro"
"""As the kernel names these offloads"""


@dataclass(frozen=True, slots=True)
class Channels:
    """Queues in use. A device has combined ones, or rx and tx ones."""

    rx: int
    tx: int
    combined: int
    max_combined: int


@dataclass(frozen=True, slots=True)
class AttachedProgram:
    id: int
    name: str
    mode: str
    """native, generic or offloaded"""
    link_id: int
    """of the bpf_link that holds it; 0: none, it was attached over netlink"""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth."""

    name: str
    """empty if it cannot be found out"""
    namespace: str
    """a file that stands for its namespace; empty: the same one"""
    mtu: int = 0
    """0: unknown"""
    channels: Channels | None = None
    tags_ahead: bool | None = None
    """it hands a VLAN tag over beside the frame (txvlan); None: unknown"""
    napi: bool | None = None
    """it can take redirected frames: gro is on, or it has an XDP program; None: unknown"""


@dataclass(frozen=True)
class Device:
    link: Link
    driver: str = ""
    xdp_features: int | None = None
    """bits of include/uapi/linux/netdev.h; None: the kernel does not tell"""
    channels: Channels | None = None
    speed: int | None = None
    """Mbit/s"""
    offloads: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    """name -> (on, can be changed)"""
    program: AttachedProgram | None = None
    peer: Peer | None = None
    vlans: tuple[str, ...] = ()
    """VLAN devices on it"""


def read(names: Iterable[str]) -> tuple[list[Link], dict[str, Device]]:
    """(every link, name -> device of those that exist), in the caller's network namespace."""
    features = _xdp_features()
    with IPRoute() as ipr, Ethtool() as ethtool:
        messages = {message["index"]: message for message in ipr.get_links()}
        links = read_links()
        names = set(names)
        devices = {
            link.name: _device(link, messages[link.ifindex], links, features, ethtool)
            for link in links
            if link.name in names and link.ifindex in messages
        }
    return links, devices


def _device(link: Link, message, links: list[Link], features: dict[int, int] | None, ethtool: Ethtool) -> Device:
    return Device(
        link=link,
        driver=_driver(link.name),
        xdp_features=None if features is None else features.get(link.ifindex, 0),
        channels=_channels(ethtool, link.name),
        speed=_speed(ethtool, link.name),
        offloads=_offloads(ethtool, link.name),
        program=_program(link, message),
        peer=_peer(message, links, ethtool) if link.kind == "veth" else None,
        vlans=tuple(other.name for other in links if other.kind == "vlan" and other.lower == link.ifindex),
    )


def _xdp_features() -> dict[int, int] | None:
    netdev = NetdevSocket()
    with netdev.socket:
        return netdev.dump() if netdev.available else None


def _driver(name: str) -> str:
    """Empty when it has none."""
    info = ct.create_string_buffer(struct.pack("=I", _GDRVINFO), 196)  # struct ethtool_drvinfo
    request = struct.pack("16sP16x", name.encode(), ct.addressof(info))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return ""
    return info.raw[4:36].split(b"\0")[0].decode(errors="replace")


def _ask(question, name: str):
    """None if the driver does not answer this question."""
    try:
        return question(name)
    except Exception:  # pyroute2 has an exception of its own for each of its two ways, and OSError
        return None


def _channels(ethtool: Ethtool, name: str) -> Channels | None:
    found = _ask(ethtool.get_channels, name)
    if found is None:
        return None
    return Channels(found.rx_count, found.tx_count, found.combined_count, found.max_combined)


def _speed(ethtool: Ethtool, name: str) -> int | None:
    found = _ask(ethtool.get_link_mode, name)
    return found.speed if found is not None and found.speed and 0 < found.speed < 1 << 31 else None


def _offloads(ethtool: Ethtool, name: str) -> dict[str, tuple[bool, bool]]:
    found = _ask(ethtool.get_features, name)
    if found is None:
        return {}
    return {
        offload: (bool(feature.enable), bool(feature.available))
        for offload, feature in found.features.items()
        if offload
    }


def _program(link: Link, message) -> AttachedProgram | None:
    xdp = message.get_attr("IFLA_XDP")
    number = xdp.get_attr("IFLA_XDP_PROG_ID") if xdp else None
    if not number:
        return None
    return AttachedProgram(number, program_name(number), link.xdp or "native", xdp_link_id(link.ifindex, number))


# --- the other end of a veth ----------------------------------------------------------------------


def _peer(message, links: list[Link], ethtool: Ethtool) -> Peer | None:
    ifindex = message.get_attr("IFLA_LINK")
    nsid = message.get_attr("IFLA_LINK_NETNSID")
    if not ifindex:
        return None
    if nsid is None:
        found = next((link for link in links if link.ifindex == ifindex), None)
        return _peer_as_seen(found, "", ethtool) if found else None
    namespace = _namespace(nsid)

    def look() -> Peer | None:
        found = next((link for link in read_links() if link.ifindex == ifindex), None)
        if found is None:
            return Peer("", "")
        with Ethtool() as there:
            return _peer_as_seen(found, namespace, there)

    try:
        return in_namespace(Path(namespace), look) if namespace else Peer("", "")
    except (OSError, ControlPlaneError, Refused):  # it has just gone
        return Peer("", "")


def _peer_as_seen(link: Link, namespace: str, ethtool: Ethtool) -> Peer:
    offloads = _offloads(ethtool, link.name)
    tags_ahead, gro = (offloads[name][0] if name in offloads else None for name in (TX_VLAN, GRO))
    napi = True if link.xdp == "native" else gro
    return Peer(link.name, namespace, link.mtu, _channels(ethtool, link.name), tags_ahead, napi)


def _namespace(nsid: int) -> str:
    """A file of the namespace that has this number in the caller's: a named one first, else some process's."""
    for path in _namespace_files():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # gone, or not ours to see
            continue
        try:
            if _nsid(fd) == nsid:
                return str(path)
        finally:
            os.close(fd)
    return ""


def _namespace_files() -> Iterator[Path]:
    if _NAMED.is_dir():
        yield from sorted(_NAMED.iterdir())
    seen = set()
    for process in _PROC.glob("[0-9]*"):
        path = process / "ns" / "net"
        try:
            inode = path.stat().st_ino
        except OSError:
            continue
        if inode not in seen:
            seen.add(inode)
            yield path


def _nsid(fd: int) -> int:
    """-1: it has none here."""
    with NetlinkSocket() as sock:
        try:
            answer = sock.request(_RTM_GETNSID, bytes(4) + attribute(_NETNSA_FD, struct.pack("=I", fd)))[0]
        except NetlinkError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # not a network namespace
                return -1
            raise
    (value,) = struct.unpack("=i", dict(attributes(answer[HEADER.size + 4 :])).get(_NETNSA_NSID, b"\xff" * 4))
    return value
