# SPDX-License-Identifier: GPL-2.0-only
"""Devices between a router's links and its addresses: VLANs, bonds, bridges, a VRF.

A port with layers is called `out0p`, and what stands on top has the port's own name, MAC and addresses: routes, neighbours
and sysctls are those of topology.py. What comes out of it bears tags, which wire.py puts on and takes off.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lab import namespace
from lab.errors import LabError
from tests.conformance.topology import HOSTS, MTU, NUMBERS, ip, mac
from tests.vlan_tag import DOT1AD, DOT1Q

VRF, VRF_TABLE = "red", 10
LEARNED = HOSTS[::2]
"""Hosts that a bridge has learned; the others it has to flood to."""
_ROOM = 8
"""Of two tags: the far ends take what the router's own rules let out"""


@dataclass(frozen=True)
class Links:
    """`layers`: port -> what stands on it, the lowest first: `vlan VID`, `svlan VID` (802.1ad), `bond MODE`, `bridge`."""

    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vrf: tuple[str, ...] = ()
    """Ports that are in the VRF"""
    mtu: int = 1500

    @property
    def is_plain(self) -> bool:
        """Nothing stands between ports and addresses."""
        return not self.layers and not self.vrf

    def accelerated(self, port: str) -> str:
        """The device that xdprouter is to run on: the bond, or the link itself."""
        for name, _, layer in self._devices(port):
            if layer.startswith("bond"):
                return name
        return lowest(port) if self.layers.get(port) else port

    def tags(self) -> dict[str, bytes]:
        """Port -> the tags of its frames, as on the wire."""
        found = {}
        for port, layers in self.layers.items():
            found[port] = b"".join(
                struct.pack("!HH", DOT1Q if kind == "vlan" else DOT1AD, int(vid))
                for kind, _, vid in (layer.partition(" ") for layer in layers)
                if kind in ("vlan", "svlan")
            )
        return found

    def mtu_of(self, port: str) -> int:
        return MTU.get(port, self.mtu)

    def far_mtu(self, port: str) -> int:
        return self.mtu_of(port) + (_ROOM if self.layers else 0)

    def stack(self, ns: str) -> None:
        """Make the devices, all but the top ones up. Raises LabError."""
        if self.vrf:
            ip(ns, f"link add {VRF} type vrf table {VRF_TABLE}", f"link set {VRF} up")
        for port in self.layers:
            self._off(ns, port)
            ip(ns, f"link set {port} name {lowest(port)}")
            for name, below, layer in self._devices(port):
                ip(ns, *_lines(name, below, layer, mac(port), self.mtu_of(port)))
            names = [lowest(port), *(name for name, _, _ in self._devices(port))]
            ip(ns, *(f"link set {name} up" for name in names[:-1]))
        ip(ns, *(f"link set {port} master {VRF}" for port in self.vrf))

    def _devices(self, port: str) -> Iterator[tuple[str, str, str]]:
        """(name, name of the one below, layer)"""
        below, layers = lowest(port), self.layers.get(port, ())
        for number, layer in enumerate(layers, 1):
            name = port if number == len(layers) else f"{lowest(port)}{number}"
            yield name, below, layer
            below = name

    def _off(self, ns: str, port: str) -> None:
        """Tags are in the frame, where XDP sees them."""
        argv = ["ethtool", "-K", port]
        for feature in ("rxvlan", "txvlan", "rx-vlan-stag-hw-parse", "tx-vlan-stag-hw-insert"):
            argv += [feature, "off"]
        done = namespace.run(ns, argv)
        if done.returncode != 0:
            raise LabError(f"{ns}: {' '.join(argv)}: {done.stderr.strip()}")

    def teach(self, ns: str) -> None:
        """The bridges, once they are up, where some hosts are."""
        lines = "".join(
            f"fdb replace {mac(port, host)} dev {lowest(port)} master dynamic\n"
            for port, layers in self.layers.items()
            if "bridge" in layers
            for host in LEARNED
        )
        done = namespace.run(ns, ["bridge", "-batch", "-"], input=lines)
        if done.returncode != 0:
            raise LabError(f"{ns}: bridge fdb: {done.stderr.strip()}")


def lowest(port: str) -> str:
    return f"{port}p"


def _lines(name: str, below: str, layer: str, address: str, mtu: int) -> list[str]:
    kind, _, what = layer.partition(" ")
    if kind in ("vlan", "svlan"):
        protocol = "802.1Q" if kind == "vlan" else "802.1ad"
        return [f"link add link {below} name {name} type vlan protocol {protocol} id {what}"]
    if kind == "bridge":
        return [f"link add {name} address {address} type bridge", f"link set {below} master {name}"]
    return [
        f"link add {name} address {address} mtu {mtu} type bond mode {what} miimon 100",
        f"link set {below} down",
        f"link set {below} master {name}",
    ]


def needs(links: Links) -> tuple[str, ...]:
    """Names of tests/features.py."""
    layers = " ".join(layer for layers in links.layers.values() for layer in layers)
    words = {"svlan": "8021ad", "vlan": "8021q", "bond": "bonding", "bridge": "bridge"}
    found = [feature for word, feature in words.items() if word in layers.replace("svlan", "svlan vlan")]
    return tuple([*found, *(["vrf"] if links.vrf else [])])


_ALL = tuple(NUMBERS)
_VLANS = {"in0": ("vlan 10",), "in1": ("vlan 20",), "out0": ("vlan 30",), "out1": ("svlan 40",), "small0": ("vlan 50",)}
LINKS: dict[str, tuple[str, Links]] = {
    "links: vlan": ("a tag in, another out, one of them 802.1ad", Links(_VLANS)),
    "links: vlan and none": ("a tag in and none out, and the other way", Links({"in0": ("vlan 10",), "out1": ("vlan 4094",)})),
    "links: qinq": ("two tags, in all four orders", Links({
        "in0": ("svlan 100", "vlan 10"), "in1": ("vlan 100", "vlan 10"), "out0": ("vlan 200", "vlan 20"),
        "out1": ("svlan 200", "svlan 20")})),
    "links: vrf": ("every port in one VRF", Links(vrf=_ALL)),
    "links: vlans in a vrf": ("VLANs in a VRF, the ports below are not", Links(_VLANS, vrf=_ALL)),
    **{
        f"links: bond, {mode}": ("bonds on both sides", Links({"in0": (f"bond {mode}",), "out0": (f"bond {mode}",)}))
        for mode in ("active-backup", "802.3ad", "balance-xor")
    },
    "links: bridge": ("bridges with addresses on both sides", Links({"in0": ("bridge",), "out0": ("bridge",), "small0": ("bridge",)})),
    "links: vlan on bridge": ("VLANs on bridges", Links({"in0": ("bridge", "vlan 10"), "out0": ("bridge", "vlan 20")})),
    "links: one of each": ("another kind at each port", Links(
        {"in0": ("bridge", "vlan 10"), "in1": ("svlan 20",), "out0": ("bond active-backup", "vlan 30"),
         "out1": ("vlan 200", "svlan 20"), "small0": ("bridge",)})),
    "links: vlan on bond in vrf, jumbo": ("MTU 9000", Links(
        {"in0": ("bond 802.3ad", "vlan 10"), "in1": ("vlan 7",), "out0": ("bond active-backup", "vlan 20"),
         "out1": ("bond balance-xor", "svlan 5", "vlan 6")}, vrf=_ALL, mtu=9000)),
}  # fmt: skip
