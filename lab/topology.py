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
    frr = '''...'''                            # frr.conf; or
    bird = '''...'''                           # bird.conf

    [[links]]
    mtu = 1500
    queues = 1
    a = { node = "h1", port = "eth0", addresses = ["10.1.0.2/24", "fd01::2/64"] }
    b = { node = "r1", port = "left", mac = "02:00:00:00:01:01", addresses = ["10.1.0.1/24"] }

This module needs no privileges and nothing outside the standard library.
"""

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import TopologyError
from lab.strict import StrictReader, nearest

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

MAX_INTERFACE_NAME = 15  # the kernel's IFNAMSIZ without the closing NUL
MTU_RANGE = range(68, 65536)
QUEUES_RANGE = range(1, 65)
KINDS = ("host", "router")

# A node's namespace is "<lab>-<node>": without "-" in node names no two labs can share one.
_NODE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PORT_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# Locally or globally administered, but never a group address.
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True)
class Route:
    """A static route: `to` is "default" or a prefix; more than one `via` makes it ECMP."""

    to: str
    via: tuple[str, ...]

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.via[0]).version


@dataclass(frozen=True)
class Node:
    """A host or a router; `frr` and `bird` are the text of its daemons' configuration, or None."""

    name: str
    kind: str
    xdprouter: tuple[str, ...] = ()
    loopback: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctl: tuple[tuple[str, str], ...] = ()
    frr: str | None = None
    bird: str | None = None

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
        """A node's first address of IP version 4 or 6 (on `port`, if named), without prefix length."""
        for end in self.ports(node):
            for address in end.addresses:
                if address.version == version and port in (None, end.port):
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


class _Parser(StrictReader):
    """Turns tables into dataclasses."""

    def topology(self, document: dict[str, Any], text: str, path: Path) -> Topology:
        self.keys(document, "the file", required=("nodes", "links"))
        nodes = {
            name: self.node(name, self.typed(table, dict, f"nodes.{name}"))
            for name, table in self.typed(document["nodes"], dict, "nodes").items()
        }
        links = tuple(
            self.link(self.typed(table, dict, f"links[{i}]"), f"links[{i}]", nodes)
            for i, table in enumerate(self.typed(document["links"], list, "links"))
        )
        first_line = text.splitlines()[0] if text else ""
        if not first_line.startswith("#"):
            self.fail("line 1", "must be a comment that says what the topology is")
        topology = Topology(path.stem, path, first_line.lstrip("# ").rstrip(), nodes, links, text)
        self.check_whole(topology)
        return topology

    def node(self, name: str, table: dict[str, Any]) -> Node:
        where = f"nodes.{name}"
        if not _NODE_NAME.fullmatch(name):
            self.fail(where, "a node's name is lower-case letters, digits and _, a letter first")
        optional = ("xdprouter", "loopback", "routes", "sysctl", "frr", "bird")
        self.keys(table, where, required=("kind",), optional=optional)
        kind = self.typed(table["kind"], str, f"{where}.kind")
        if kind not in KINDS:
            self.fail(f"{where}.kind", f"unknown kind {kind!r}; {nearest(kind, KINDS)}")
        for key in ("xdprouter", "frr", "bird"):
            if key in table and kind != "router":
                self.fail(f"{where}.{key}", "only a router can have it")
        if "frr" in table and "bird" in table:
            self.fail(where, "has both frr and bird; two daemons would fight over one FIB")
        routes = self.typed(table.get("routes", []), list, f"{where}.routes")
        sysctl = self.typed(table.get("sysctl", {}), dict, f"{where}.sysctl")
        return Node(
            name=name,
            kind=kind,
            xdprouter=self.strings(table, "xdprouter", where),
            loopback=self.addresses(table, "loopback", where),
            routes=tuple(self.route(r, f"{where}.routes[{i}]") for i, r in enumerate(routes)),
            sysctl=tuple(self.sysctl(key, value, where) for key, value in sysctl.items()),
            frr=self.typed(table["frr"], str, f"{where}.frr") if "frr" in table else None,
            bird=self.typed(table["bird"], str, f"{where}.bird") if "bird" in table else None,
        )

    def route(self, table: Any, where: str) -> Route:
        self.keys(self.typed(table, dict, where), where, required=("to", "via"))
        via = [table["via"]] if isinstance(table["via"], str) else table["via"]
        hops = [self.parsed(ipaddress.ip_address, hop, f"{where}.via") for hop in self.typed(via, list, f"{where}.via")]
        versions = {hop.version for hop in hops}
        if table["to"] != "default":
            versions.add(self.parsed(ipaddress.ip_network, table["to"], f"{where}.to").version)
        if not hops or len(versions) != 1:
            self.fail(where, "needs next hops of one family, the destination's")
        return Route(table["to"], tuple(str(hop) for hop in hops))

    def sysctl(self, key: str, value: Any, where: str) -> tuple[str, str]:
        # Only net.* belongs to a namespace: anything else would change the machine.
        if not _SYSCTL.fullmatch(key):
            self.fail(f"{where}.sysctl", f"{key!r} is not a net.* sysctl")
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.fail(f"{where}.sysctl.{key}", "must be an integer or a string")
        return key, str(value)

    def link(self, table: dict[str, Any], where: str, nodes: dict[str, Node]) -> Link:
        self.keys(table, where, required=("a", "b"), optional=("mtu", "queues"))
        return Link(
            a=self.endpoint(table["a"], f"{where}.a", nodes),
            b=self.endpoint(table["b"], f"{where}.b", nodes),
            mtu=self.number(table.get("mtu", 1500), MTU_RANGE, f"{where}.mtu"),
            queues=self.number(table.get("queues", 1), QUEUES_RANGE, f"{where}.queues"),
        )

    def endpoint(self, table: Any, where: str, nodes: dict[str, Node]) -> Endpoint:
        table = self.typed(table, dict, where)
        self.keys(table, where, required=("node", "port"), optional=("addresses", "mac"))
        node = self.typed(table["node"], str, f"{where}.node")
        if node not in nodes:
            self.fail(f"{where}.node", f"unknown node {node!r}; {nearest(node, nodes)}")
        port = self.typed(table["port"], str, f"{where}.port")
        if len(port) > MAX_INTERFACE_NAME:
            self.fail(f"{where}.port", f"{port!r} is {len(port)} characters long, {MAX_INTERFACE_NAME} are allowed")
        if not _PORT_NAME.fullmatch(port) or port in (".", "..", "lo", "all", "default"):
            self.fail(f"{where}.port", f"{port!r} cannot name an interface")
        mac = table.get("mac")
        if mac is not None and not _MAC.fullmatch(self.typed(mac, str, f"{where}.mac")):
            self.fail(f"{where}.mac", f"{mac!r} is not a unicast MAC such as 02:00:00:00:01:01")
        return Endpoint(node, port, self.addresses(table, "addresses", where), mac)

    def check_whole(self, topology: Topology) -> None:
        """What only shows when all nodes and links are known."""
        seen: dict[Any, str] = {}
        for i, link in enumerate(topology.links):
            for side, end in (("a", link.a), ("b", link.b)):
                where = f"links[{i}].{side}"
                self.once(seen, (end.node, end.port), f"{where}.port", f"interface {end.port!r} of {end.node}")
                for address in end.addresses:
                    self.once(seen, address.ip, f"{where}.addresses", f"address {address.ip}")
        for node in topology.nodes.values():
            for address in node.loopback:
                self.once(seen, address.ip, f"nodes.{node.name}.loopback", f"address {address.ip}")
            ports = [end.port for end in topology.ports(node.name)]
            for port in node.xdprouter:
                if port not in ports:
                    self.fail(f"nodes.{node.name}.xdprouter", f"unknown port {port!r}; {nearest(port, ports)}")

    def once(self, seen: dict[Any, str], key: Any, where: str, what: str) -> None:
        if key in seen:
            self.fail(where, f"{what} is already in {seen[key]}")
        seen[key] = where

    def addresses(self, table: dict[str, Any], key: str, where: str) -> tuple[Address, ...]:
        texts = self.strings(table, key, where)
        for text in texts:
            if "/" not in text:
                self.fail(f"{where}.{key}", f"{text!r} has no prefix length")
        return tuple(self.parsed(ipaddress.ip_interface, text, f"{where}.{key}") for text in texts)
