# SPDX-License-Identifier: GPL-2.0-only
"""The kernel configurations that every packet is compared under.

Each is what `ip` and sysctl do to both routers, on top of topology.py, before xdprouter is started on one of them.
`ROUTES` are in all of them except where a configuration is about having none: 10.N.0.0/16 and 2001:db8:N::/48 are routed
in the way that number N says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.network import write_sysctls
from tests.conformance.links import LINKS, VRF, Links, needs
from tests.conformance.rows import NEIGHBOURS
from tests.conformance.topology import HOSTS, NUMBERS, address, ip, mac

SECOND = 3
"""Host number of a second next hop on the same link."""

ROUTES = {  # kind: (number, way); {out0} is host 2 behind out0, {out0_3} host 3
    "out": (10, "via {out0} dev out0"),
    "less": (11, "via {out0} dev out0"),
    "small": (12, "via {small0} dev small0"),
    "side": (13, "via {side0} dev side0"),
    "mtu": (15, "via {out0} dev out0 mtu 1400"),
    "locked": (16, "via {out0} dev out0 mtu lock 1400"),
    "ecmp": (17, "nexthop via {out0} dev out0 nexthop via {out1} dev out1"),
    "legs": (18, "nexthop via {out0} dev out0 weight 1 nexthop via {out0_3} dev out0 weight 2 nexthop via {out1} dev out1 weight 3"),
    "hairpin": (19, "via {in0} dev in0"),
    "onlink": (20, "dev out0"),
    "nexthop": (21, "nhid 1"),
    "group": (22, "nhid 10"),
    "sink": (23, "nhid 9"),
    "blackhole": (30, None),
    "unreachable": (31, None),
    "prohibit": (32, None),
    "throw": (33, None),
    "anyip": (34, "dev lo"),
}  # fmt: skip
MORE_SPECIFIC = {4: "10.11.128.0/17", 6: "2001:db8:11:8000::/49"}
HOST_ROUTE = {4: "10.11.0.7/32", 6: "2001:db8:11::7/128"}
RFC8950 = 24
NAMED_TYPES = {
    "blackhole": "blackhole",
    "unreachable": "unreachable",
    "prohibit": "prohibit",
    "throw": "throw",
    "anyip": "local",
}


def destination(kind: str, family: int, host: int = 5) -> str:
    number = RFC8950 if kind == "rfc8950" else ROUTES[kind][0]
    return f"10.{number}.0.{host}" if family == 4 else f"2001:db8:{number}::{host:x}"


def routes(family: int, in1: str) -> list[str]:
    """`ip -batch` lines for ROUTES; `in1` is the device that has the addresses of in1."""
    hops = {port: address(port, family, 2) for port in NUMBERS} | {"out0_3": address("out0", family, SECOND)}
    # ip takes the family of a blackhole from its own option, and a group must have none.
    lines = [f"nexthop add id {'6' if family == 6 else ''}9 blackhole"]
    for kind, (number, way) in ROUTES.items():
        prefix = f"10.{number}.0.0/16" if family == 4 else f"2001:db8:{number}::/48"
        way = (way or "").format(**hops)
        if family == 6:
            way = way.replace("nhid ", "nhid 6")
        lines.append(f"route add {NAMED_TYPES.get(kind, '')} {prefix} {way}")
    lines += [
        f"route add {MORE_SPECIFIC[family]} via {hops['out1']} dev out1",
        f"route add {HOST_ROUTE[family]} via {hops['in1']} dev {in1}",
        f"neigh add {destination('onlink', family)} dev out0 lladdr {mac('out0', 4)} nud permanent",
    ]
    if family == 4:
        lines.append(f"route add 10.{RFC8950}.0.0/16 via inet6 {address('out0', 6, 2)} dev out0")
    return lines


def nexthops(family: int) -> list[str]:
    """Nexthop objects; those of IPv6 have a 6 before their number."""
    prefix = "6" if family == 6 else ""
    return [
        f"nexthop add id {prefix}1 via {address('out0', family, 2)} dev out0",
        f"nexthop add id {prefix}2 via {address('out1', family, 2)} dev out1",
        f"nexthop add id {prefix}10 group {prefix}1/{prefix}2",
    ]


@dataclass(frozen=True)
class Configuration:
    """`ip4`, `ip6`: lines for `ip -4 -batch` and `ip -6 -batch`."""

    name: str
    what: str
    sysctls: dict[str, str] = field(default_factory=dict)
    ip4: tuple[str, ...] = ()
    ip6: tuple[str, ...] = ()
    both: tuple[str, ...] = ()
    """Lines for both families; {in0} and so on are the hosts 2 there, {all} is 0.0.0.0/0 or ::/0"""
    has_routes: bool = True
    own_addresses: tuple[str, ...] = ()
    """besides those of the ports"""
    not_accelerated: tuple[str, ...] = ()
    answers_late: bool = False
    """It is about neighbours that do not answer: errors come late, and the questions are compared, too"""
    in1: str = "in1"
    """the device that has the addresses of in1"""
    before: Callable[[str], None] | None = None
    """takes the namespace, before routes are made"""
    fast: bool = True
    """whether packets are expected to take the fast path"""
    rows: tuple[str, ...] = ()
    """Only the named cases of these rows, and no generated packets: each takes its time"""
    links: Links = field(default_factory=Links)
    """what stands between the ports and their addresses"""

    @property
    def needs(self) -> tuple[str, ...]:
        """Kernel features, names of tests/features.py"""
        return needs(self.links)

    def apply(self, ns: str) -> None:
        if self.before:
            self.before(ns)
        if self.has_routes:
            for family in (4, 6):
                ip(ns, *nexthops(family))
                ip(ns, *map(self._in_vrf, routes(family, self.in1)), family=family)
        write_sysctls(ns, self.sysctls)
        ip(ns, *self.ip4, family=4)
        ip(ns, *self.ip6, family=6)
        for family in (4, 6):
            names = {port: address(port, family, 2) for port in NUMBERS}
            names["all"] = "0.0.0.0/0" if family == 4 else "::/0"
            names["host"] = address("in0", family, 9)
            ip(ns, *(self._in_vrf(line.format(**names)) for line in self.both), family=family)

    def _in_vrf(self, line: str) -> str:
        if not self.links.vrf or not line.startswith("route add"):
            return line
        words = line.replace("dev lo", f"dev {VRF}").split()
        after = next(place for place, word in enumerate(words) if "/" in word or word == "default") + 1
        return " ".join([*words[:after], "vrf", VRF, *words[after:]])


def _rules(*selectors: str) -> tuple[str, ...]:
    """Each selector's packets go out by out1; but the last one's meet a prohibition."""
    table = ("route add default via {out1} dev out1 table 100", "route add prohibit default table 101")
    chosen = [f"rule add pref {100 + n} {selector} lookup 100" for n, selector in enumerate(selectors[:-1])]
    return (*table, *chosen, f"rule add pref 150 {selectors[-1]} lookup 101")


def _ecmp(policy: int) -> Configuration:
    what = ("addresses", "ports", "inner addresses", "a choice of fields")[policy]
    return Configuration(
        f"ecmp {policy}",
        f"fib_multipath_hash_policy {policy} (by {what})",
        {f"net.{family}.fib_multipath_hash_policy": str(policy) for family in ("ipv4", "ipv6")},
        fast=policy < 2,  # the others look where no lookup can: all is passed
    )


def _bridge(ns: str) -> None:
    """in1 becomes a bridge port; its addresses move to the bridge, and their neighbours too."""
    ip(ns, f"link add br0 address {mac('in1')} type bridge", "link set in1 master br0", "link set br0 up")
    _move(ns, "in1", "br0")


def _move(ns: str, port: str, to: str) -> None:
    for family in (4, 6):
        length = "24" if family == 4 else "64"
        nodad = "" if family == 4 else "nodad"
        lines = [f"addr del {address(port, family)}/{length} dev {port}"]
        if family == 6:
            lines += [f"addr del fe80::1/64 dev {port}", f"addr add fe80::1/64 nodad dev {to}"]
        lines.append(f"addr add {address(port, family)}/{length} {nodad} dev {to}")
        for host in HOSTS:
            lines.append(f"neigh replace {address(port, family, host)} dev {to} lladdr {mac(port, host)} nud permanent")
        ip(ns, *lines, family=family)


def _macvlan(ns: str) -> None:
    ip(ns, "link add link in0 name mv0 address 02:00:00:00:00:cc type macvlan mode bridge", "link set mv0 up")
    ip(ns, "addr add 10.0.60.1/24 dev mv0")
    ip(ns, "addr add 2001:db8:0:60::1/64 nodad dev mv0", family=6)


def _promiscuous(ns: str) -> None:
    ip(ns, *(f"link set {port} promisc on allmulticast on" for port in ("in0", "in1")))


def _no_neighbours(ns: str) -> None:
    for family in (4, 6):
        ip(
            ns,
            *(
                f"neigh del {address(port, family, host)} dev {port}"
                for port in ("out0", "out1")
                for host in (2, 3, 4, 9)
            ),
            f"neigh add {address('out0', family, 3)} dev out0 nud failed",
            f"neigh add {address('out1', family, 2)} dev out1 lladdr {mac('out1', 2)} nud stale",
            family=family,
        )


_DEFAULT = ("route add default via {out1} dev out1",)
_IN0 = "net.ipv4.conf.in0"

CONFIGURATIONS = [
    Configuration("default route", "a default route and nothing else", both=_DEFAULT, has_routes=False),
    Configuration("no route", "connected networks only", has_routes=False),
    Configuration("routes", "every kind of route, more and less specific, no default"),
    Configuration("routes and default", "every kind of route, and a default", both=_DEFAULT),
    *(_ecmp(policy) for policy in range(4)),
    Configuration("rule by source", "ip rule from", both=_rules("from {host}", "from {in1}")),
    Configuration("rule by destination", "ip rule to", both=_rules("to {out0}", "to {small0}")),
    Configuration("rule by ingress", "ip rule iif", both=_rules("iif in1", "iif out0")),
    Configuration("rule by TOS", "ip rule tos", both=_rules("tos 0x10", "tos 0x08")),
    Configuration("rule by ports", "ip rule sport, dport", both=_rules("sport 1024", "dport 4444", "dport 2000-2047")),
    Configuration("rule by protocol", "ip rule ipproto", both=_rules("ipproto tcp", "ipproto 50", "ipproto 253")),
    Configuration("rule by fwmark", "ip rule fwmark; nobody sets a mark", both=_rules("fwmark 1", "fwmark 2")),
    Configuration("rule by no fwmark", "ip rule not fwmark", both=_rules("not fwmark 1", "fwmark 2")),
    Configuration(
        "rules that end it", "blackhole, unreachable, prohibit and goto as a rule's action",
        both=("rule add pref 100 from {host} to {out0} blackhole", "rule add pref 101 from {host} to {out1} unreachable",
              "rule add pref 102 from {in1} prohibit", "rule add pref 103 ipproto tcp goto 32766"),
    ),
    Configuration(
        "rule with suppressed default", "suppress_prefixlength 0", both=(
            *_DEFAULT, "rule add pref 100 lookup main suppress_prefixlength 0", "rule add pref 101 lookup 100",
            "route add default via {out0} dev out0 table 100"),
    ),
    Configuration("rp_filter 1 on in0", "strict", {f"{_IN0}.rp_filter": "1"}),
    Configuration("rp_filter 2 on in0", "loose", {f"{_IN0}.rp_filter": "2"}),
    Configuration("rp_filter 1 everywhere", "strict, and a default", {"net.ipv4.conf.all.rp_filter": "1"}, both=_DEFAULT),
    Configuration("rp_filter 2 everywhere", "loose, no default", {"net.ipv4.conf.all.rp_filter": "2"}),
    Configuration(
        "rp_filter 1, loose on in0", "the greater of all and in0 counts",
        {"net.ipv4.conf.all.rp_filter": "1", f"{_IN0}.rp_filter": "2"}, both=_DEFAULT,
    ),
    Configuration("IPv4 forwarding off on in0", "conf.in0.forwarding=0", {f"{_IN0}.forwarding": "0"}),
    Configuration("IPv4 forwarding off on out0", "conf.out0.forwarding=0", {"net.ipv4.conf.out0.forwarding": "0"}),
    Configuration("IPv6 forwarding off on in0", "conf.in0.forwarding=0", {"net.ipv6.conf.in0.forwarding": "0"}),
    Configuration("IPv6 forwarding off on out0", "conf.out0.forwarding=0", {"net.ipv6.conf.out0.forwarding": "0"}),
    Configuration(
        "IPv6 forwarding on in0 alone", "conf.all.forwarding=0, conf.in0.forwarding=1",
        {"net.ipv6.conf.all.forwarding": "0", "net.ipv6.conf.in0.forwarding": "1"},
    ),
    Configuration("forwarding off", "both families", {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"},
                  fast=False),
    Configuration("no redirects", "send_redirects 0", {
        "net.ipv4.conf.all.send_redirects": "0", f"{_IN0}.send_redirects": "0"}),
    Configuration("redirect media", "shared_media 0", {
        "net.ipv4.conf.all.shared_media": "0", f"{_IN0}.shared_media": "0"}),
    Configuration(
        "addresses on loopback", "the router's own addresses on lo", own_addresses=("10.99.0.1", "2001:db8:99::1"),
        ip4=("addr add 10.99.0.1/32 dev lo",), ip6=("addr add 2001:db8:99::1/128 nodad dev lo",), both=_DEFAULT,
    ),
    Configuration(
        "second addresses", "a /31, a /32 and a secondary address", own_addresses=("10.98.0.1", "10.98.1.1", "10.0.0.77"),
        ip4=("addr add 10.98.0.1/31 dev out0", "addr add 10.98.1.1/32 dev out1", "addr add 10.0.0.77/24 dev in0"),
    ),
    Configuration("accept_local", "own addresses as source are let in", {"net.ipv4.conf.all.accept_local": "1"}),
    Configuration("route_localnet", "127/8 is routed", {"net.ipv4.conf.all.route_localnet": "1"}, both=_DEFAULT,
                  own_addresses=("127.0.0.1", "127.255.0.1", "127.255.0.9")),
    Configuration("directed broadcast", "bc_forwarding 1", {
        "net.ipv4.conf.all.bc_forwarding": "1", f"{_IN0}.bc_forwarding": "1"}),
    Configuration("source routing", "accept_source_route 1", {
        "net.ipv4.conf.all.accept_source_route": "1", f"{_IN0}.accept_source_route": "1",
        "net.ipv6.conf.all.accept_source_route": "1", "net.ipv6.conf.in0.accept_source_route": "1"}),
    Configuration("unicast in multicast", "drop_unicast_in_l2_multicast 1", {
        f"net.{family}.conf.in0.drop_unicast_in_l2_multicast": "1" for family in ("ipv4", "ipv6")}),
    Configuration("path MTU used", "ip_forward_use_pmtu 1", {"net.ipv4.ip_forward_use_pmtu": "1"}),
    Configuration("bridge beside the ports", "in1 is a bridge's port", before=_bridge, in1="br0", not_accelerated=("in1",),
                  ),
    Configuration("bridge port as a port", "in1 is a bridge's port and one of xdprouter's", before=_bridge, in1="br0"),
    Configuration("macvlan beside the ports", "a macvlan on in0", {"net.ipv4.conf.all.arp_ignore": "1"}, before=_macvlan,
                  own_addresses=("10.0.60.1", "2001:db8:0:60::1")),
    Configuration("promiscuous", "in0 and in1 hear everything, as with tcpdump", before=_promiscuous),
    Configuration(
        "unresolved neighbours", "none behind out0, one failed; a stale one behind out1", before=_no_neighbours,
        sysctls={f"net.{family}.neigh.{port}.{key}": value for family in ("ipv4", "ipv6") for port in ("out0", "out1")
                 for key, value in (("retrans_time_ms", "20"), ("mcast_solicit", "2"), ("delay_first_probe_time", "1"))},
        answers_late=True, rows=(NEIGHBOURS,),
    ),
    *(Configuration(name, what, both=_DEFAULT, links=links) for name, (what, links) in LINKS.items()),
]  # fmt: skip


def configuration(name: str) -> Configuration:
    return next(one for one in CONFIGURATIONS if one.name == name)
