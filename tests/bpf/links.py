# SPDX-License-Identifier: GPL-2.0-only
r"""The network of the tables of links: ports, and above and below them devices that bear addresses.

The kernel that tests run on need not have VLAN, VRF or bond devices: a veth stands in for each, bears its addresses,
routes and neighbours, and the data plane is told that it is one. The bridge is real.

    HOST --- p0 [ router ] p1 --- next hops       ports; v.., q.. and w.. are VLAN interfaces on them
           big0 [        ] big1                   MTU 9000, take multi-buffer frames
         e0, e1 [ bond0  ]                        members of a bond, which is a port itself
     m0, m1, m2 [ br0    ]                        members of a bridge, which are ports

Interface number N has the addresses 10.0.N.1 and 2001:db8:0:N::1, the neighbour ...2 and the routes 10.(100 + N).0.0/16
and 2001:db8:(100 + N)::/48 (N in decimal, as if it were hexadecimal).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.counters import Traffic
from controlplane.interface import Interface, InterfaceFlag
from controlplane.reconcile import SetInterface, SetTagged, Transmit
from tests import packets
from tests.bpf.network import Namespace, Router


class Tag(NamedTuple):
    vid: int
    protocol: int = 0x8100
    pcp: int = 0
    dei: int = 0

    @property
    def number(self) -> int:
        """As in bpf/tags.h."""
        return self.vid | (0x1000 if self.protocol == 0x88A8 else 0)


def ad(vid: int, pcp: int = 0, dei: int = 0) -> Tag:
    """An 802.1ad tag."""
    return Tag(vid, 0x88A8, pcp, dei)


def tags_number(tags: tuple[Tag, ...]) -> int:
    """As in bpf/tags.h."""
    return sum(tag.number << 16 * place for place, tag in enumerate(tags))


@dataclass(frozen=True)
class Device:
    number: int = 0
    """0: bears no addresses"""
    port: str = ""
    """that frames leave by; empty: it is one. Of a bridge any, since the FDB tells"""
    tags: tuple[Tag, ...] = ()
    mtu: int = 1500
    usable_mtu: int = 0
    """What the data plane is told, if it is less"""
    flags: int = InterfaceFlag.TX_MULTI_BUFFER
    upper: str = ""
    bridge: str = ""
    vrf: int = 0
    known: bool = True
    """to the data plane"""
    transmits: bool = True

    @property
    def is_port(self) -> bool:
        return not self.port and self.known


TX = InterfaceFlag.TX_MULTI_BUFFER
QINQ_MTU = 1496
"""Of two tags on a port of MTU 1500: a port takes four bytes more than its MTU"""
DEVICES = {
    "p0": Device(1),
    "p1": Device(2),
    "big0": Device(3, mtu=9000),
    "big1": Device(4, mtu=9000),
    "idle0": Device(5, transmits=False),
    "v10": Device(10, "p0", (Tag(10),), vrf=1),
    "v20": Device(11, "p0", (Tag(20),), vrf=2),
    "s10": Device(12, "p0", (ad(10),)),
    "q5": Device(13, "p0", (ad(100), Tag(5)), usable_mtu=QINQ_MTU),
    "q6": Device(14, "p0", (Tag(100), Tag(6)), usable_mtu=QINQ_MTU),
    "q7": Device(15, "p0", (ad(100), ad(7)), usable_mtu=QINQ_MTU),
    "q8": Device(16, "p0", (Tag(100), ad(8)), usable_mtu=QINQ_MTU),
    "w10": Device(17, "p1", (Tag(10),)),
    "w4094": Device(18, "p1", (Tag(4094),)),
    "wq5": Device(19, "p1", (ad(100), Tag(5)), usable_mtu=QINQ_MTU),
    "j10": Device(20, "big0", (Tag(10),), mtu=9000),
    "jq": Device(21, "big1", (ad(100), Tag(9)), mtu=9000, usable_mtu=8996),
    "narrow": Device(22, "p1", (Tag(40),), mtu=1400),
    "strict": Device(23, "p0", (Tag(51),), flags=TX | InterfaceFlag.REVERSE_PATH_STRICT),
    "loose": Device(24, "p0", (Tag(52),), flags=TX | InterfaceFlag.REVERSE_PATH_LOOSE),
    "guarded": Device(25, "p0", (Tag(53),), flags=TX | InterfaceFlag.GUARDED),
    "hairpin": Device(26, "p0", (Tag(54),), flags=TX | InterfaceFlag.HAIRPIN_IPV4),
    "idle10": Device(27, "idle0", (Tag(10),)),
    "plain10": Device(28, "big1", (Tag(10),), mtu=9000, flags=0),
    "bond0": Device(30),
    "b10": Device(31, "bond0", (Tag(10),)),
    "bq5": Device(32, "bond0", (ad(100), Tag(5)), usable_mtu=QINQ_MTU),
    "e0": Device(port="bond0", upper="bond0"),
    "e1": Device(port="bond0", upper="bond0"),
    "eguarded": Device(port="bond0", upper="bond0", flags=InterfaceFlag.GUARDED),
    "elost": Device(port="bond0", upper="lost"),
    "bond1": Device(33, flags=TX | InterfaceFlag.GUARDED),
    "bg10": Device(34, "bond1", (Tag(10),)),
    "f0": Device(port="bond1", upper="bond1"),
    "lost": Device(35, "bond0", known=False),
    "br0": Device(40, "m0", bridge="br0"),
    "bv40": Device(41, "m0", (Tag(40),), bridge="br0"),
    "bvq": Device(42, "m0", (ad(100), Tag(5)), bridge="br0"),
    "m0": Device(upper="br0"),
    "m1": Device(upper="br0"),
    "m2": Device(upper="br0", mtu=1400),
    "mplain": Device(upper="br0", flags=0),
    "midle": Device(upper="br0", transmits=False),
    "mforeign": Device(upper="br0", known=False),
}
MEMBERS = [name for name, device in DEVICES.items() if device.upper == "br0"]
ELSEWHERE_MAC = "02:00:00:00:ee:02"
"""Of a host that br0 has learned on another member than the tables' sender"""
HOSTS = {  # number of a host behind br0, bv40 and bvq: the member that its bridge has learned it on
    2: "m1", 4: "m2", 5: "mforeign", 6: "m0", 7: "mplain", 8: "midle",
}  # fmt: skip
POLICY_INGRESS = "v20"
"""A rule for what comes in here leads POLICY_DESTINATION into a blackhole."""
POLICY_DESTINATION = {4: "10.90.0.5", 6: "2001:db8:90::5"}


def index(name: str) -> int:
    return list(DEVICES).index(name) + 1


def mac(name: str) -> str:
    """A VLAN interface's is not that of its port."""
    return f"02:00:00:00:{index(name):02x}:01"


def next_hop_mac(name: str, host: int = 2) -> str:
    return f"02:00:00:00:{index(name):02x}:{host:02x}"


def address(name: str, family: int, host: int = 1) -> str:
    number = DEVICES[name].number
    return f"10.0.{number}.{host}" if family == 4 else f"2001:db8:0:{number}::{host}"


def destination(name: str, family: int, last: int = 5) -> str:
    """Behind the neighbour of an interface."""
    number = 100 + DEVICES[name].number
    return f"10.{number}.0.{last}" if family == 4 else f"2001:db8:{number}::{last}"


@contextmanager
def network() -> Iterator[Namespace]:
    """A namespace with everything that this file describes; gone after the block."""
    ns = Namespace()
    try:
        _build(ns)
        ns.keep_neighbours()
        yield ns
    finally:
        ns.delete()


def _build(ns: Namespace) -> None:
    ns.sysctl(
        ipv6__conf__default__accept_dad=0,
        ipv6__conf__default__addr_gen_mode=1,
        ipv4__ip_forward=1,
        ipv6__conf__all__forwarding=1,
    )
    for name, device in DEVICES.items():
        if name == "br0":
            ns.ip(f"link add br0 address {mac(name)} mtu 1500 type bridge ageing_time 30000", "link set br0 up")
            continue
        ns.ip(
            f"link add {name} address {mac(name)} mtu {device.mtu} type veth peer name {name}p mtu {device.mtu}",
            f"link set {name} up",
            f"link set {name}p up",
        )
    ns.ip(*(f"link set {member} master br0" for member in MEMBERS), "link set br0 mtu 1500")
    ns.sysctl(**{f"ipv6__conf__{member}p__disable_ipv6": 1 for member in MEMBERS})  # so that only tests send
    for family in (4, 6):
        addressed = [name for name, device in DEVICES.items() if device.number]
        ns.ip(*(line for name in addressed for line in _interface(name, family)), family=family)
        ns.ip(
            f"route add {POLICY_DESTINATION[family]} via {address('w10', family, 2)} dev w10",
            f"route add blackhole {POLICY_DESTINATION[family]} table 100",
            f"rule add pref 100 iif {POLICY_INGRESS} lookup 100",
            f"route add blackhole {'10.91.0.0/16' if family == 4 else '2001:db8:91::/48'}",
            family=family,
        )


def _interface(name: str, family: int) -> list[str]:
    suffix = "/24" if family == 4 else "/64 nodad"
    prefix = destination(name, family, 0).removesuffix("0" if family == 6 else "")
    length = 16 if family == 4 else 48
    hosts = range(2, 9) if DEVICES[name].bridge else (2,)
    return [
        f"addr add {address(name, family)}{suffix} dev {name}",
        *(f"neigh add {address(name, family, host)} dev {name} lladdr {next_hop_mac(name, host)}" for host in hosts),
        f"route add {prefix}/{length} via {address(name, family, 2)} dev {name}",
    ]


class Links(Router):
    """A data plane over `network()`."""

    devices = DEVICES

    def run(self, frame: bytes, ingress: str = "in0") -> tuple[int, bytes]:
        self.beat()
        return super().run(frame, ingress)

    def beat(self) -> None:
        """Listen: without a daemon that does the copy of the FDB is not believed."""
        self.dataplane.cache.renew()

    def describe(self) -> None:
        for name, device in DEVICES.items():
            if device.is_port and not device.bridge:
                self.slots[name] = self.dataplane.slots.assign(name)
                if device.transmits:
                    self.dataplane.apply(Transmit(self.slots[name], self.indexes[name]))
        for name, device in DEVICES.items():
            if device.known:
                self._describe(name, device)

    def _describe(self, name: str, device: Device) -> None:
        mtu = device.usable_mtu or device.mtu
        entry = Interface(
            self.slots.get(device.port or name, 0), mtu, mac(name), device.flags | InterfaceFlag.WIDE_OWN_SOURCES, mtu,
            tags=tags_number(device.tags), upper=self.indexes.get(device.upper, 0),
            bridge=self.indexes.get(device.bridge, 0), vrf=device.vrf,
        )  # fmt: skip
        self.dataplane.apply(SetInterface(self.indexes[name], entry))
        if device.tags:
            below = self.indexes[device.bridge or device.port]
            self.dataplane.apply(SetTagged(below, entry.tags, self.indexes[name]))

    def learn(self, bridge: str, host: str, member: str, ago: int = 0) -> None:
        """Into the copy of the FDB: the bridge saw a frame of this MAC so many jiffies ago."""
        fdb = self.dataplane._tables[b"fdb"]
        fdb[self._fdb_key(bridge, host)] = fdb.Leaf(self.indexes[member], (self.jiffies() - ago) & 0xFFFFFFFF)

    def forget(self) -> None:
        self.dataplane._tables[b"fdb"].clear()

    def learn_hosts(self) -> None:
        """Those of the tables, and no others."""
        self.forget()
        self.learn("br0", packets.HOST_MAC, "m0")
        self.learn("br0", ELSEWHERE_MAC, "m1")
        for host, member in HOSTS.items():
            for name in ("br0", "bv40", "bvq"):
                self.learn("br0", next_hop_mac(name, host), member)

    def learned(self, bridge: str = "br0") -> dict[str, str]:
        """MAC -> member, as the data plane has it."""
        names = {ifindex: name for name, ifindex in self.indexes.items()}
        fdb = self.dataplane._tables[b"fdb"].items()
        return {
            ":".join(f"{byte:02x}" for byte in key.mac): names[leaf.member]
            for key, leaf in fdb
            if key.bridge == self.indexes[bridge]
        }

    def refreshed(self, bridge: str, host: str) -> int:
        return self.dataplane._tables[b"fdb"][self._fdb_key(bridge, host)].refreshed

    def jiffies(self) -> int:
        """In 32 bits."""
        return self.dataplane._jiffies() & 0xFFFFFFFF

    def vrf(self, number: int) -> dict[str, Traffic]:
        """What came in by the interfaces of a VRF."""
        cpus = self.dataplane._tables[b"vrf_counters"][number]
        return {
            name: Traffic(
                sum(getattr(cpu, name).packets for cpu in cpus), sum(getattr(cpu, name).bytes for cpu in cpus)
            )
            for name in ("forwarded", "passed", "dropped")
        }

    def _fdb_key(self, bridge: str, host: str):
        key = self.dataplane._tables[b"fdb"].Key(self.indexes[bridge])
        key.mac[:] = bytes.fromhex(host.replace(":", ""))
        return key
