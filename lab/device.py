"""Devices that a node makes on top of its ports: VLANs, bonds, bridges, VRFs; and how a topology file declares them.

    [nodes.r1.devices]                                     # made in this order
    red = { table = 10 }                                   # a VRF
    lan = { bridge = ["lan1", "lan2"], addresses = ["192.168.1.1/24"] }
    core = { bond = ["p1", "p2"], mode = "802.3ad", mtu = 9000 }
    core10 = { vlan = 10, on = "core", vrf = "red", addresses = ["10.1.0.1/24"] }
    core5 = { svlan = 5, on = "core" }                     # 802.1ad
    core57 = { vlan = 7, on = "core5" }

Any of them but a VRF itself may be in a VRF, as any port may; and all may have addresses (those on a VRF are its
loopback's), a MAC and an MTU.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lab.strict import StrictReader, nearest

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

MAX_INTERFACE_NAME = 15  # the kernel's IFNAMSIZ without the closing NUL
MTU_RANGE = range(68, 65536)
VID_RANGE = range(1, 4095)  # IEEE 802.1Q: 0 and 4095 are no VLANs
TABLE_RANGE = range(1, 1 << 32)
MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
"""Of bonds, each at the place that is its number in the kernel's API (linux/if_bonding.h)"""
KINDS = ("vlan", "svlan", "bond", "bridge", "table")
"""The key that says what a device is"""

_PORT_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# Locally or globally administered, but never a group address.
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class Device:
    """`kind` is one of KINDS; what does not belong to it is left empty."""

    name: str
    kind: str
    number: int = 0
    """VID of a vlan or svlan (802.1ad), routing table of a VRF (kind `table`)"""
    on: str = ""
    """The device that a vlan or svlan is on"""
    members: tuple[str, ...] = ()
    """Of a bond or bridge"""
    mode: str = ""
    """Of a bond: one of MODES"""
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    vrf: str = ""

    @property
    def world(self) -> str:
        """The VRF that its addresses belong to."""
        return self.name if self.kind == "table" else self.vrf


class DeviceReader(StrictReader):
    """Reads what ports and other devices have in common, and the table `devices` of a node."""

    def devices(self, table: dict[str, Any], where: str, ports: Collection[str]) -> tuple[Device, ...]:
        """`ports` are the node's link ends: devices stand on them and on those declared before."""
        made: dict[str, Device] = {}
        for name, value in table.items():
            self.device_name(name, where)
            if name in ports:
                self.fail(f"{where}.{name}", "is a port's name already")
            made[name] = self.device(name, self.typed(value, dict, f"{where}.{name}"), f"{where}.{name}")
            self._check_lower(made[name], f"{where}.{name}", [*ports, *list(made)[:-1]], made)
        return tuple(made.values())

    def device(self, name: str, table: dict[str, Any], where: str) -> Device:
        kinds = [kind for kind in KINDS if kind in table]
        if len(kinds) != 1:
            self.fail(where, f"must have one of {', '.join(KINDS)}, to say what it is")
        (kind,) = kinds
        more = {"vlan": ("on",), "svlan": ("on",), "bond": ("mode",)}.get(kind, ())
        optional = ("addresses", "mac", "mtu") if kind == "table" else ("addresses", "mac", "mtu", "vrf")
        self.keys(table, where, required=(kind, *more), optional=optional)
        mode = self.typed(table.get("mode", ""), str, f"{where}.mode")
        if kind == "bond" and mode not in MODES:
            self.fail(f"{where}.mode", f"unknown mode {mode!r}; {nearest(mode, MODES)}")
        allowed = {"vlan": VID_RANGE, "svlan": VID_RANGE, "table": TABLE_RANGE}.get(kind)
        return Device(
            name=name,
            kind=kind,
            number=self.number(table[kind], allowed, f"{where}.{kind}") if allowed else 0,
            on=self.typed(table.get("on", ""), str, f"{where}.on"),
            members=() if allowed else self.strings(table, kind, where),
            mode=mode,
            addresses=self.addresses(table, "addresses", where),
            mac=self.mac(table, where),
            mtu=self.number(table["mtu"], MTU_RANGE, f"{where}.mtu") if "mtu" in table else None,
            vrf=self.typed(table.get("vrf", ""), str, f"{where}.vrf"),
        )

    def _check_lower(self, device: Device, where: str, below: list[str], made: dict[str, Device]) -> None:
        """What a device stands on is there before it, and a member of nothing else."""
        for key, names in (("on", [device.on] if device.on else []), (device.kind, device.members)):
            for name in names:
                if name not in below:
                    self.fail(f"{where}.{key}", f"unknown device {name!r}; {nearest(name, below)}")
        for other in made.values():
            for member in device.members:
                if other is not device and member in other.members:
                    self.fail(f"{where}.{device.kind}", f"{member} is a member of {other.name} already")
        self.check_vrf(device.vrf, where, made.values())

    def check_vrf(self, vrf: str, where: str, devices: Collection[Device]) -> None:
        vrfs = [device.name for device in devices if device.kind == "table"]
        if vrf and vrf not in vrfs:
            self.fail(f"{where}.vrf", f"unknown VRF {vrf!r}; {nearest(vrf, vrfs)}")

    def device_name(self, name: str, where: str) -> None:
        if len(name) > MAX_INTERFACE_NAME:
            self.fail(where, f"{name!r} is {len(name)} characters long, {MAX_INTERFACE_NAME} are allowed")
        if not _PORT_NAME.fullmatch(name) or name in (".", "..", "lo", "all", "default"):
            self.fail(where, f"{name!r} cannot name an interface")

    def mac(self, table: dict[str, Any], where: str) -> str | None:
        mac = table.get("mac")
        if mac is not None and not _MAC.fullmatch(self.typed(mac, str, f"{where}.mac")):
            self.fail(f"{where}.mac", f"{mac!r} is not a unicast MAC such as 02:00:00:00:01:01")
        return mac

    def addresses(self, table: dict[str, Any], key: str, where: str) -> tuple[Address, ...]:
        texts = self.strings(table, key, where)
        for text in texts:
            if "/" not in text:
                self.fail(f"{where}.{key}", f"{text!r} has no prefix length")
        return tuple(self.parsed(ipaddress.ip_interface, text, f"{where}.{key}") for text in texts)
