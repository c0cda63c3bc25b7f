"""What a topology file declares, parsed strictly: a file that loads can be built.

The shape of a file (everything but `links` ends' `node`, `port` and a node's `kind` may be left out):

    # One line that says what it is.
    #
    #   h1 eth0 --- left r1        an ASCII diagram

    [nodes.r1]
    kind = "router"                            # or "host"
    xdprouter = ["left"]                       # ports to run xdprouter on (routers only)
    loopback = ["10.255.0.1/32"]               # addresses on lo
    routes = [{ to = "default", via = "10.1.0.1" }, { to = "fd02::/64", via = ["fd12::2", "fd13::2"] }]
    sysctl = { "net.ipv4.fib_multipath_hash_policy" = 1 }
    nftables = '''...'''                       # for `nft -f`
    frr = '''...'''                            # frr.conf; or
    bird = '''...'''                           # bird.conf

    [nodes.r1.devices]                         # VLANs, bonds, bridges, VRFs: see device.py
    red = { table = 10 }
    right7 = { vlan = 7, on = "right", vrf = "red", addresses = ["10.7.0.1/24"] }

    [[links]]
    mtu = 1500
    queues = 1
    a = { node = "h1", port = "eth0", addresses = ["10.1.0.2/24", "fd01::2/64"] }
    b = { node = "r1", port = "left", mac = "02:00:00:00:01:01", vrf = "red", addresses = ["10.1.0.1/24"] }

A route may have a `vrf`, too. A host with `vrf = "red"` is in no VRF itself, but where it may have the addresses
of hosts outside.

This module needs no privileges and nothing outside the standard library.
"""

import ipaddress
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.device import MTU_RANGE, Address, Device, DeviceReader
from lab.errors import TopologyError
from lab.strict import nearest

QUEUES_RANGE = range(1, 65)
KINDS = ("host", "router")
_CONFIGURATIONS = ("frr", "bird", "nftables")

# A node's namespace is "<lab>-<node>": without "-" in node names no two labs can share one.
_NODE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True)
class Route:
    """A static route: `to` is "default" or a prefix; more than one `via` makes it ECMP."""

    to: str
    via: tuple[str, ...]
    vrf: str = ""

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.via[0]).version


@dataclass(frozen=True)
class Node:
    """A host or a router; `frr`, `bird` and `nftables` are the text of their configuration, or None."""

    name: str
    kind: str
    xdprouter: tuple[str, ...] = ()
    loopback: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctl: tuple[tuple[str, str], ...] = ()
    frr: str | None = None
    bird: str | None = None
    nftables: str | None = None
    devices: tuple[Device, ...] = ()
    vrf: str = ""

    @property
    def members(self) -> frozenset[str]:
        """Of its bonds and bridges."""
        return frozenset(member for device in self.devices for member in device.members)

    @property
    def is_router(self) -> bool:
        return self.kind == "router"


@dataclass(frozen=True)
class Endpoint:
    """One end of a link: device `port` of `node`, with its addresses."""

    node: str
    port: str
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    vrf: str = ""


@dataclass(frozen=True)
class Link:
    """A veth pair. `queues` holds for both directions of both ends."""

    a: Endpoint
    b: Endpoint
    mtu: int = 1500
    queues: int = 1


@dataclass(frozen=True)
class Topology:
    """Nodes by name, and the links between them. `text` is the file as it was read."""

    name: str
    path: Path
    description: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]
    text: str

    def ports(self, node: str) -> list[Endpoint]:
        """The link ends at a node, in the file's order."""
        ends = (end for link in self.links for end in (link.a, link.b))
        return [end for end in ends if end.node == node]

    def address(self, node: str, version: int, port: str | None = None) -> str:
        """A node's first address of IP version 4 or 6 (on `port`, a port or other device, if named), without prefix
        length."""
        having = [(end.port, end.addresses) for end in self.ports(node)]
        having += [(device.name, device.addresses) for device in self.nodes[node].devices]
        for name, addresses in having:
            for address in addresses:
                if address.version == version and port in (None, name):
                    return str(address.ip)
        raise TopologyError(f"{self.path.name}: {node} has no IPv{version} address on {port or 'any port'}")


def names() -> list[str]:
    """The shipped topologies. They lie next to this file, in a checkout as in an installed wheel."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def load(name_or_path: str | Path) -> Topology:
    """Load a shipped topology by name, or any by the path of its TOML file. Raises TopologyError."""
    given = str(name_or_path)
    if given.endswith(".toml") or "/" in given:
        path = Path(given)
    elif given in names():
        path = Path(__file__).parent / f"{given}.toml"
    else:
        raise TopologyError(f"no topology {given!r}; {nearest(given, names())}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"{path}: cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Topology:
    """Parse a topology's text; `path` gives its name and is what error messages name."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"{path.name}: not TOML: {error}") from error
    return _Parser(path.name).topology(document, text, path)


def diagram(topology: Topology) -> str:
    """The comment that the file begins with: description, empty line, ASCII diagram."""
    lines = []
    for line in topology.text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" ").rstrip())
    return "\n".join(lines).strip("\n")


class _Parser(DeviceReader):
    """Turns tables into dataclasses."""

    def topology(self, document: dict[str, Any], text: str, path: Path) -> Topology:
        self.keys(document, "the file", required=("nodes", "links"))
        tables = self.typed(document["nodes"], dict, "nodes")
        for name in tables:
            if not _NODE_NAME.fullmatch(name):
                self.fail(f"nodes.{name}", "a node's name is lower-case letters, digits and _, a letter first")
        links = tuple(
            self.link(self.typed(table, dict, f"links[{i}]"), f"links[{i}]", tables)
            for i, table in enumerate(self.typed(document["links"], list, "links"))
        )
        ends = [end for link in links for end in (link.a, link.b)]
        nodes = {
            name: self.node(name, self.typed(table, dict, f"nodes.{name}"), [e.port for e in ends if e.node == name])
            for name, table in tables.items()
        }
        first_line = text.splitlines()[0] if text else ""
        if not first_line.startswith("#"):
            self.fail("line 1", "must be a comment that says what the topology is")
        topology = Topology(path.stem, path, first_line.lstrip("# ").rstrip(), nodes, links, text)
        self.check_whole(topology)
        return topology

    def node(self, name: str, table: dict[str, Any], ports: list[str]) -> Node:
        where = f"nodes.{name}"
        optional = ("xdprouter", "loopback", "routes", "sysctl", "devices", "vrf", *_CONFIGURATIONS)
        self.keys(table, where, required=("kind",), optional=optional)
        kind = self.typed(table["kind"], str, f"{where}.kind")
        if kind not in KINDS:
            self.fail(f"{where}.kind", f"unknown kind {kind!r}; {nearest(kind, KINDS)}")
        for key in ("xdprouter", *_CONFIGURATIONS):
            if key in table and kind != "router":
                self.fail(f"{where}.{key}", "only a router can have it")
        if "frr" in table and "bird" in table:
            self.fail(where, "has both frr and bird; two daemons would fight over one FIB")
        if "vrf" in table and kind != "host":
            self.fail(f"{where}.vrf", "only a host can have it; a router's ports and devices are in VRFs")
        routes = self.typed(table.get("routes", []), list, f"{where}.routes")
        devices = self.typed(table.get("devices", {}), dict, f"{where}.devices")
        sysctl = self.typed(table.get("sysctl", {}), dict, f"{where}.sysctl")
        return Node(
            name=name,
            kind=kind,
            xdprouter=self.strings(table, "xdprouter", where),
            loopback=self.addresses(table, "loopback", where),
            routes=tuple(self.route(r, f"{where}.routes[{i}]") for i, r in enumerate(routes)),
            sysctl=tuple(self.sysctl(key, value, where) for key, value in sysctl.items()),
            **{key: self.typed(table[key], str, f"{where}.{key}") for key in _CONFIGURATIONS if key in table},
            devices=self.devices(devices, f"{where}.devices", ports),
            vrf=self.typed(table.get("vrf", ""), str, f"{where}.vrf"),
        )

    def route(self, table: Any, where: str) -> Route:
        self.keys(self.typed(table, dict, where), where, required=("to", "via"), optional=("vrf",))
        via = [table["via"]] if isinstance(table["via"], str) else table["via"]
        hops = [self.parsed(ipaddress.ip_address, hop, f"{where}.via") for hop in self.typed(via, list, f"{where}.via")]
        versions = {hop.version for hop in hops}
        if table["to"] != "default":
            versions.add(self.parsed(ipaddress.ip_network, table["to"], f"{where}.to").version)
        if not hops or len(versions) != 1:
            self.fail(where, "needs next hops of one family, the destination's")
        vrf = self.typed(table.get("vrf", ""), str, f"{where}.vrf")
        return Route(table["to"], tuple(str(hop) for hop in hops), vrf)

    def sysctl(self, key: str, value: Any, where: str) -> tuple[str, str]:
        # Only net.* belongs to a namespace: anything else would change the machine.
        if not _SYSCTL.fullmatch(key):
            self.fail(f"{where}.sysctl", f"{key!r} is not a net.* sysctl")
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.fail(f"{where}.sysctl.{key}", "must be an integer or a string")
        return key, str(value)

    def link(self, table: dict[str, Any], where: str, nodes: Collection[str]) -> Link:
        self.keys(table, where, required=("a", "b"), optional=("mtu", "queues"))
        return Link(
            a=self.endpoint(table["a"], f"{where}.a", nodes),
            b=self.endpoint(table["b"], f"{where}.b", nodes),
            mtu=self.number(table.get("mtu", 1500), MTU_RANGE, f"{where}.mtu"),
            queues=self.number(table.get("queues", 1), QUEUES_RANGE, f"{where}.queues"),
        )

    def endpoint(self, table: Any, where: str, nodes: Collection[str]) -> Endpoint:
        table = self.typed(table, dict, where)
        self.keys(table, where, required=("node", "port"), optional=("addresses", "mac", "vrf"))
        node = self.typed(table["node"], str, f"{where}.node")
        if node not in nodes:
            self.fail(f"{where}.node", f"unknown node {node!r}; {nearest(node, nodes)}")
        port = self.typed(table["port"], str, f"{where}.port")
        self.device_name(port, f"{where}.port")
        vrf = self.typed(table.get("vrf", ""), str, f"{where}.vrf")
        return Endpoint(node, port, self.addresses(table, "addresses", where), self.mac(table, where), vrf)

    def check_whole(self, topology: Topology) -> None:
        """What only shows when all nodes and links are known."""
        seen: dict[Any, str] = {}
        for i, link in enumerate(topology.links):
            for side, end in (("a", link.a), ("b", link.b)):
                where, node = f"links[{i}].{side}", topology.nodes[end.node]
                self.once(seen, (end.node, end.port), f"{where}.port", f"interface {end.port!r} of {end.node}")
                self.addresses_once(seen, end.vrf or node.vrf, end.addresses, f"{where}.addresses")
                self.check_vrf(end.vrf, where, node.devices)
        for node in topology.nodes.values():
            where = f"nodes.{node.name}"
            self.addresses_once(seen, node.vrf, node.loopback, f"{where}.loopback")
            for device in node.devices:
                self.addresses_once(
                    seen, device.world or node.vrf, device.addresses, f"{where}.devices.{device.name}.addresses"
                )
            for i, route in enumerate(node.routes):
                self.check_vrf(route.vrf, f"{where}.routes[{i}]", node.devices)
            ports = [end.port for end in topology.ports(node.name)]
            ports += [device.name for device in node.devices if device.kind == "bond"]
            for port in node.xdprouter:
                if port not in ports:
                    self.fail(f"{where}.xdprouter", f"unknown port {port!r}; {nearest(port, ports)}")

    def addresses_once(self, seen: dict[Any, str], vrf: str, addresses: tuple[Address, ...], where: str) -> None:
        """Only another VRF may have the same."""
        for address in addresses:
            self.once(seen, (vrf, address.ip), where, f"address {address.ip}")

    def once(self, seen: dict[Any, str], key: Any, where: str, what: str) -> None:
        if key in seen:
            self.fail(where, f"{what} is already in {seen[key]}")
        seen[key] = where
