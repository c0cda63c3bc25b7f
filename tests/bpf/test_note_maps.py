# SPDX-License-Identifier: GPL-2.0-only
"""The tries of routes of note in the kernel: what sync puts in, what the program makes of it, what outlives it."""

import ipaddress
import random

import pytest

from controlplane import note_maps
from controlplane.counters import Traffic
from controlplane.dataplane import Dataplane
from controlplane.interface import Interface, InterfaceFlag
from controlplane.note_maps import own_source_bit
from controlplane.notes import Prefix, RouteNotes
from controlplane.reconcile import SetInterface
from controlplane.source import limits
from tests import packets
from tests.bpf.network import PORTS, Namespace, destination, whole_network

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
OUT4 = destination("out", 4)
SEED = 20250117


def prefix(text: str) -> Prefix:
    net = ipaddress.ip_network(text)
    return Prefix(net.network_address.packed, net.prefixlen)


def prefixes(*texts: str) -> set[Prefix]:
    return {prefix(text) for text in texts}


@pytest.fixture(scope="module")
def network():
    """The packet tests' network, of which this file may change the routes."""
    with whole_network() as ns:
        yield ns


class Port:
    """A data plane with in0 and out0, whose notes are the test's. Two in a row may share their pins."""

    def __init__(self, ns: Namespace, pins):
        self.ns = ns
        self.indexes = {name: ns.ifindex(name) for name in ("in0", "out0")}
        with ns.entered():
            self.dataplane = Dataplane(pins)
        self.notes = self.dataplane.notes
        self.slots = {name: self.dataplane.slots.assign(name) for name in self.indexes}
        self.describe()

    def describe(self) -> None:
        wide = InterfaceFlag.WIDE_OWN_SOURCES if self.notes.wide_own_sources else 0
        for name, slot in self.slots.items():
            flags = InterfaceFlag.TX_MULTI_BUFFER | wide
            entry = Interface(slot, 1500, PORTS[name].mac, flags, 1500, self.notes.narrow_mtu)
            self.dataplane.apply(SetInterface(self.indexes[name], entry))

    def sync(self, notes: RouteNotes) -> None:
        """As the engine does: the notes, then what depends on them."""
        self.dataplane.sync_notes(notes)
        self.describe()

    def verdict(self, packet) -> str:
        """Nothing can be redirected to, so that what would be forwarded is passed for that reason: test_run
        of a real redirect needs a device that takes it."""
        before = self.dataplane.slots.counters(self.slots["in0"]).ingress
        with self.ns.entered():
            action, _ = self.dataplane.test_run(bytes(packet), self.indexes["in0"])
        after = self.dataplane.slots.counters(self.slots["in0"]).ingress
        (verdict,) = [name for name, traffic in after.items() if traffic != before.get(name, Traffic())]
        assert action == (XDP_DROP if verdict == "drop_blackhole" else XDP_PASS)
        return "forward" if verdict == "pass_egress_unavailable" else verdict


@pytest.fixture
def port_of(network, pins):
    """`port_of()` -> a Port over this test's pins."""
    made = []

    def make() -> Port:
        made.append(Port(network, pins))
        return made[-1]

    yield make
    for port in made:
        port.dataplane.close()


@pytest.fixture
def port(port_of):
    return port_of()


def held(table) -> set[str]:
    return {str(note_maps._prefix(key)) for key in table}


def source(address: str):
    return packets.udp(OUT4, src=address)


# --- own sources ------------------------------------------------------------------------------------


def test_own_sources_come_and_go(port):
    assert port.verdict(source("192.0.2.1")) == "forward"
    port.sync(RouteNotes(own=prefixes("192.0.2.1/32", "192.0.2.255/32")))
    assert held(port.notes._own) == {"192.0.2.1/32", "192.0.2.255/32"}
    assert not port.notes.wide_own_sources
    assert port.verdict(source("192.0.2.1")) == "pass_martian"
    assert port.verdict(source("192.0.2.2")) == "forward"
    port.sync(RouteNotes(own=prefixes("192.0.2.2/32")))
    assert port.verdict(source("192.0.2.1")) == "forward"
    assert port.verdict(source("192.0.2.2")) == "pass_martian"
    port.sync(RouteNotes())
    assert held(port.notes._own) == set()
    assert not any(port.notes._bits)
    assert port.verdict(source("192.0.2.2")) == "forward"


def test_own_prefixes(port):
    port.sync(RouteNotes(own=prefixes("10.77.0.0/16", "192.0.2.1/32")))
    assert port.notes.wide_own_sources
    for address, verdict in {
        "10.77.0.0": "pass_martian", "10.77.255.255": "pass_martian", "192.0.2.1": "pass_martian",
        "10.76.255.255": "forward", "10.78.0.0": "forward", "192.0.2.2": "forward",
    }.items():  # fmt: skip
        assert (address, port.verdict(source(address))) == (address, verdict)
    port.sync(RouteNotes(own=prefixes("192.0.2.1/32")))
    assert not port.notes.wide_own_sources
    assert port.verdict(source("10.77.0.1")) == "forward"
    assert port.verdict(source("192.0.2.1")) == "pass_martian"


def test_the_bit_of_an_address_is_that_of_the_program(port):
    """Own sources as bits say them: all found, and nobody else, not even who shares a bit."""
    chance = random.Random(SEED)
    own = {chance.randrange(1 << 24, 127 << 24).to_bytes(4) for _ in range(2000)}
    bits = {own_source_bit(address) for address in own}
    others = {chance.randrange(1 << 24, 127 << 24).to_bytes(4) for _ in range(40_000)} - own
    sharing = [address for address in others if own_source_bit(address) in bits][:300]
    strangers = [address for address in others if own_source_bit(address) not in bits][:300]
    assert len(sharing) == len(strangers) == 300
    port.sync(RouteNotes(own={Prefix(address, 32) for address in own}))
    assert not port.notes.wide_own_sources
    for addresses, verdict in ((sorted(own)[:500], "pass_martian"), (sharing, "forward"), (strangers, "forward")):
        found = {a for a in addresses if port.verdict(source(str(ipaddress.IPv4Address(a)))) != verdict}
        assert found == set(), verdict


def test_two_own_sources_of_one_bit_go_one_by_one(port):
    first, *more = sorted(
        (address for address in (n.to_bytes(4) for n in range(0x0A000001, 0x0A040000)) if own_source_bit(address) == 7),
    )[:2]
    (second,) = more
    port.sync(RouteNotes(own={Prefix(first, 32), Prefix(second, 32)}))
    port.sync(RouteNotes(own={Prefix(second, 32)}))
    assert port.verdict(source(str(ipaddress.IPv4Address(first)))) == "forward"
    assert port.verdict(source(str(ipaddress.IPv4Address(second)))) == "pass_martian"


def test_bits_that_were_left_behind_are_put_right(port_of):
    """A daemon that was killed between the trie and the bits."""
    first = port_of()
    first.sync(RouteNotes(own=prefixes("192.0.2.1/32")))
    bit = own_source_bit(prefix("192.0.2.1/32").address)
    first.notes._bits[bit // 64] = 0
    second = port_of()
    second.sync(RouteNotes(own=prefixes("192.0.2.1/32")))
    assert second.verdict(source("192.0.2.1")) == "pass_martian"


def test_a_restart_reads_back_what_is_there(port_of):
    first = port_of()
    first.sync(RouteNotes(own=prefixes("192.0.2.1/32", "10.77.0.0/16"), narrow={prefix("10.10.0.0/16"): 1000}))
    second = port_of()
    assert second.notes.wide_own_sources
    assert second.notes.narrow_mtu == 1000
    assert second.verdict(source("192.0.2.1")) == "pass_martian"
    second.sync(RouteNotes(own=prefixes("192.0.2.2/32")))
    assert held(second.notes._own) == {"192.0.2.2/32"}
    assert held(second.notes._narrow_tables[4]) == set()
    assert second.notes.narrow_mtu == 0xFFFFFFFF
    assert second.verdict(source("192.0.2.1")) == "forward"


def test_too_many_own_sources_become_one_for_all(port, monkeypatch):
    monkeypatch.setattr(note_maps, "limits", lambda: {**limits(), "MAX_OWN_SOURCES": 3})
    many = prefixes(*(f"192.0.2.{n}/32" for n in range(1, 5)))
    port.sync(RouteNotes(own=many))
    assert held(port.notes._own) == {"0.0.0.0/0"}
    assert port.notes.wide_own_sources
    assert port.verdict(source("192.0.2.1")) == port.verdict(source("198.51.100.1")) == "pass_martian"
    port.sync(RouteNotes(own=many - prefixes("192.0.2.1/32")))
    assert held(port.notes._own) == {"192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32"}
    assert port.verdict(source("192.0.2.1")) == "forward"
    assert port.verdict(source("192.0.2.2")) == "pass_martian"


def _addresses(first: int, number: int) -> set[Prefix]:
    return {Prefix(n.to_bytes(4), 32) for n in range(first, first + number)}


def test_a_full_trie_has_room_for_another_set(port):
    """The real limit: all of it at once, then all others, then one too many."""
    most = limits()["MAX_OWN_SOURCES"]
    port.sync(RouteNotes(own=_addresses(0x0B000000, most)))
    assert not port.notes.wide_own_sources
    port.sync(RouteNotes(own=_addresses(0x0C000000, most)))
    assert port.verdict(source("11.0.0.5")) == "forward"
    assert port.verdict(source("12.0.255.255")) == "pass_martian"
    port.sync(RouteNotes(own=_addresses(0x0C000000, most + 1)))
    assert held(port.notes._own) == {"0.0.0.0/0"}
    assert port.verdict(source("192.0.2.1")) == "pass_martian"


# --- route MTUs -------------------------------------------------------------------------------------


def sized(length: int, destination_: str = OUT4):
    return packets.udp_of_length(destination_, length)


def test_route_mtus_come_change_and_go(port):
    assert port.notes.narrow_mtu == 0xFFFFFFFF
    port.sync(RouteNotes(narrow={prefix("10.10.0.0/16"): 1000, prefix("10.99.0.0/16"): 600}))
    assert port.notes.narrow_mtu == 600
    assert [port.verdict(sized(length)) for length in (600, 1000, 1001)] == ["forward", "forward", "pass_too_big"]
    port.sync(RouteNotes(narrow={prefix("10.10.0.0/16"): 1200}))
    assert port.notes.narrow_mtu == 1200
    assert [port.verdict(sized(length)) for length in (1200, 1201)] == ["forward", "pass_too_big"]
    port.sync(RouteNotes())
    assert held(port.notes._narrow_tables[4]) == set()
    assert port.verdict(sized(1500)) == "forward"


def test_a_default_route_with_an_mtu(port):
    port.sync(RouteNotes(narrow={prefix("0.0.0.0/0"): 1400}))
    assert [port.verdict(sized(length)) for length in (1400, 1401)] == ["forward", "pass_too_big"]


def test_a_prefix_within_another_has_the_smaller_mtu_of_both(port):
    """They may lie in several tables, and a rule decides which of them a packet meets."""
    port.sync(
        RouteNotes(
            narrow={
                prefix("0.0.0.0/0"): 1400, prefix("10.0.0.0/8"): 900, prefix("10.10.0.0/16"): 1300,
                prefix("10.10.0.0/24"): 1200, prefix("10.10.0.5/32"): 1100, prefix("192.0.2.0/24"): 700,
            }
        )
    )  # fmt: skip
    assert [port.verdict(sized(length)) for length in (900, 901)] == ["forward", "pass_too_big"]
    port.sync(RouteNotes(narrow={prefix("10.10.0.0/16"): 1300, prefix("10.10.0.0/24"): 1200}))
    assert [port.verdict(sized(length)) for length in (1200, 1201)] == ["forward", "pass_too_big"]
    assert [port.verdict(sized(n, "10.10.9.9")) for n in (1300, 1301)] == ["forward", "pass_too_big"]


def test_too_many_route_mtus_become_the_smallest_for_all(port, monkeypatch):
    monkeypatch.setattr(note_maps, "limits", lambda: {**limits(), "MAX_NARROW_ROUTES": 2})
    narrow = {prefix(f"10.{n}.0.0/16"): 1000 + n for n in (80, 81, 82)}
    port.sync(RouteNotes(narrow=narrow))
    assert held(port.notes._narrow_tables[4]) == {"0.0.0.0/0"}
    assert [port.verdict(sized(length)) for length in (1080, 1081)] == ["forward", "pass_too_big"]
    del narrow[prefix("10.80.0.0/16")]
    port.sync(RouteNotes(narrow=narrow))
    assert held(port.notes._narrow_tables[4]) == {"10.81.0.0/16", "10.82.0.0/16"}
    assert port.verdict(sized(1500)) == "forward"


# --- blackholes -------------------------------------------------------------------------------------

HOLES = {4: ("10.30.0.0/16", "10.30.0.5", "10.30.1.5"), 6: ("2001:db8:30::/48", "2001:db8:30::5", "2001:db8:30:1::5")}


def test_the_longest_blackhole_around_an_address(port):
    port.sync(RouteNotes(blackholes=prefixes("10.77.0.0/16", "10.77.8.0/24", "2001:db8:77::/48", "2001:db8::/32")))
    for address, wanted in (
        ("10.77.8.9", "10.77.8.0/24"),
        ("10.77.9.9", "10.77.0.0/16"),
        ("10.78.0.1", None),
        ("2001:db8:77::1", "2001:db8:77::/48"),
        ("2001:db8:78::1", "2001:db8::/32"),
        ("2001:db9::1", None),
    ):
        found = port.notes.blackhole_of(ipaddress.ip_address(address).packed)
        assert (str(found) if found else None) == wanted


@pytest.mark.parametrize("family", [4, 6])
def test_a_blackhole_counts_packets_and_bytes(port, family):
    hole, address, _ = HOLES[family]
    port.sync(RouteNotes(blackholes=prefixes(hole)))
    assert port.notes.blackholes() == {prefix(hole): Traffic()}
    frames = [packets.udp(address, size=size) for size in (10, 100, 1000)]
    assert {port.verdict(frame) for frame in frames} == {"drop_blackhole"}
    assert port.notes.blackholes() == {prefix(hole): Traffic(3, sum(len(bytes(frame)) for frame in frames))}


@pytest.mark.parametrize("family", [4, 6])
def test_the_longest_blackhole_counts(port, network, family):
    hole, near, far = HOLES[family]
    inner = f"{near.removesuffix('5')}0/24" if family == 4 else f"{near.removesuffix('5')}/64"
    network.ip(f"route add blackhole {inner}", family=family)
    try:
        port.sync(RouteNotes(blackholes=prefixes(hole, inner)))
        for address, number in ((near, 3), (far, 2)):
            for _ in range(number):
                assert port.verdict(packets.udp(address)) == "drop_blackhole"
        counted = {str(p): traffic.packets for p, traffic in port.notes.blackholes().items()}
        assert counted == {hole: 2, inner: 3}
    finally:
        network.ip(f"route del blackhole {inner}", family=family)


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_no_blackhole_is_not_counted(port, family):
    everything = "0.0.0.0/0" if family == 4 else "::/0"
    port.sync(RouteNotes(blackholes=prefixes(everything)))
    assert port.verdict(packets.udp(destination("out", family))) == "forward"
    assert port.verdict(packets.udp(destination("unreachable", family))) == "pass_unreachable"
    assert port.notes.blackholes() == {prefix(everything): Traffic()}


def test_blackhole_counters_survive_a_restart_and_other_blackholes(port_of):
    first = port_of()
    first.sync(RouteNotes(blackholes=prefixes("10.30.0.0/16", "2001:db8:30::/48", "192.0.2.0/24")))
    for address in ("10.30.0.5", "2001:db8:30::5", "2001:db8:30::5"):
        first.verdict(packets.udp(address))
    before = first.notes.blackholes()
    second = port_of()
    assert second.notes.blackholes() == before
    second.sync(RouteNotes(blackholes=prefixes("10.30.0.0/16", "2001:db8:30::/48", "198.51.100.0/24")))
    second.verdict(packets.udp("10.30.0.5"))
    counted = {str(p): traffic.packets for p, traffic in second.notes.blackholes().items()}
    assert counted == {"10.30.0.0/16": 2, "2001:db8:30::/48": 2, "198.51.100.0/24": 0}


def test_a_blackhole_that_comes_back_counts_from_zero(port):
    port.sync(RouteNotes(blackholes=prefixes("10.30.0.0/16")))
    port.verdict(packets.udp("10.30.0.5"))
    port.sync(RouteNotes())
    assert port.notes.blackholes() == {}
    port.sync(RouteNotes(blackholes=prefixes("10.30.0.0/16")))
    assert port.notes.blackholes() == {prefix("10.30.0.0/16"): Traffic()}


@pytest.mark.parametrize("family", [4, 6])
def test_blackholes_beyond_the_limit_drop_but_are_not_counted(port, monkeypatch, family):
    monkeypatch.setattr(note_maps, "limits", lambda: {**limits(), "MAX_BLACKHOLES": 2})
    texts = [f"192.0.{n}.0/24" if family == 4 else f"2001:db8:{n}00::/48" for n in (1, 2, 3)]
    kept = RouteNotes(blackholes=prefixes(*texts[1:]))
    port.sync(kept)
    port.sync(RouteNotes(blackholes=prefixes(*texts)))
    assert set(port.notes.blackholes()) == kept.blackholes
    port.sync(RouteNotes(blackholes=prefixes(texts[0], texts[2], HOLES[family][0])))
    assert len(port.notes.blackholes()) == 2
    assert prefix(texts[2]) in port.notes.blackholes()
    assert port.verdict(packets.udp(HOLES[family][1])) == "drop_blackhole"


def test_each_family_has_its_own_limit(port, monkeypatch):
    monkeypatch.setattr(note_maps, "limits", lambda: {**limits(), "MAX_BLACKHOLES": 1})
    both = prefixes("10.30.0.0/16", "2001:db8:30::/48")
    port.sync(RouteNotes(blackholes=both))
    assert set(port.notes.blackholes()) == both
