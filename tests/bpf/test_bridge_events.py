# SPDX-License-Identifier: GPL-2.0-only
"""The copy of a bridge's FDB, kept in the kernel by the socket filter `neighbour_event`: over a real bridge, whose hosts
send real frames. No user space takes part."""

import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from controlplane.cache_key import Key
from controlplane.pins import PinDirectory
from lab.wait import wait_until
from tests.bpf import links as description
from tests.bpf.link_cases import (
    XDP_PASS,
    XDP_REDIRECT,
    arriving,
    header,
    leaving,
    udp,
)
from tests.bpf.links import (
    Links,
    destination,
    mac,
    next_hop_mac,
)

HOST = "02:00:00:00:dd:01"
RTM_NEWNEIGH, RTM_DELNEIGH, AF_BRIDGE = 28, 29, 7
NDA_LLADDR, NDA_CACHEINFO, NDA_VLAN, NDA_MASTER, NDA_FLAGS_EXT = 2, 3, 5, 9, 15
NUD_REACHABLE, NUD_NOARP = 0x02, 0x40
EVENT_TIMEOUT_S = 5.0
AGEING_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def bridged(tmp_path_factory) -> Iterator[Links]:
    """A data plane with a cache over a network of this file's own."""
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    with description.network() as ns:
        try:
            made = Links(ns, pins, ("-DFEATURE_UPPER=1", "-DFEATURE_BRIDGE=1"), cache_sets=1024)
            yield made
            made.close()
        finally:
            pins.remove()


@pytest.fixture
def links(bridged) -> Iterator[Links]:
    """The bridge has learned nothing."""
    do(bridged, "ip link set br0 type bridge ageing_time 30000")
    do(bridged, "ip link set br0 type bridge fdb_flush")
    bridged.forget()
    yield bridged
    do(bridged, f"bridge fdb del {HOST} dev m0 master; bridge fdb del {HOST} dev m1 master; true")


def do(links: Links, command: str) -> None:
    with links.ns.entered():
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def send(links: Links, member: str, sender: str = HOST) -> None:
    """A frame from a host behind a member of the bridge, for the bridge itself."""
    with links.ns.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((f"{member}p", 0))
        sock.send(header(mac("br0"), sender, (), 0x88B5) + bytes(46))


def wait_for(links: Links, expected: dict[str, str], timeout: float = EVENT_TIMEOUT_S) -> None:
    wait_until(lambda: links.learned() == expected, timeout, f"{expected}, not {links.learned()}")


def learn(links: Links, member: str, sender: str = HOST) -> None:
    send(links, member, sender)
    wait_until(lambda: links.learned().get(sender) == member, EVENT_TIMEOUT_S, f"{sender} learned on {member}")


def test_a_host_is_learned_when_it_sends(links):
    before, cache = links.jiffies(), links.dataplane.cache.invalidations
    learn(links, "m0")
    assert links.learned() == {HOST: "m0"}
    passed = (links.refreshed("br0", HOST) - before) & 0xFFFFFFFF
    assert passed <= (links.jiffies() - before) & 0xFFFFFFFF
    assert links.dataplane.cache.invalidations == cache  # nothing was cached of it


def test_a_host_that_is_only_seen_again_changes_nothing(links):
    learn(links, "m0")
    refreshed, cache = links.refreshed("br0", HOST), links.dataplane.cache.invalidations
    send(links, "m0")
    learn(links, "m1", "02:00:00:00:dd:02")  # behind the other
    assert links.learned() == {HOST: "m0", "02:00:00:00:dd:02": "m1"}
    assert links.refreshed("br0", HOST) == refreshed
    assert links.dataplane.cache.invalidations == cache


def test_a_host_moves(links):
    learn(links, "m0")
    cache = links.dataplane.cache.invalidations
    learn(links, "m1")
    assert links.learned() == {HOST: "m1"}
    assert links.dataplane.cache.invalidations > cache


@pytest.mark.parametrize("family", [4, 6])
def test_packets_follow_a_host_that_moves(links, family, one_cpu):
    """Also those whose way was remembered."""
    datagram = udp(destination("br0", family))
    frame, host = arriving("p0", datagram), next_hop_mac("br0")

    def leaves_by() -> str:
        before = {name: counters.egress.packets for name, counters in links.counters().items()}
        assert links.run(frame, "p0") == (XDP_REDIRECT, leaving("br0", datagram))
        after = {name: counters.egress.packets for name, counters in links.counters().items()}
        (out,) = [name for name in after if after[name] != before[name]]
        return out

    links.grant(Key())
    assert links.run(frame, "p0") == (XDP_PASS, frame)
    for member in ("m0", "m1", "m0"):
        learn(links, member, host)
        assert [leaves_by() for _ in range(3)] == [member] * 3
        links.grant(Key())
        settled(links, frame)
        assert leaves_by() == member
    do(links, f"bridge fdb del {host} dev m0 master")
    assert links.run(frame, "p0") == (XDP_PASS, frame)


def settled(links: Links, frame: bytes) -> None:
    """Wait until an answer is recalled: right after a change none is remembered."""

    def recalled() -> bool:
        links.grant(Key())
        before = links.counters()["p0"].cache_hits
        links.run(frame, "p0")
        return links.counters()["p0"].cache_hits > before

    wait_until(recalled, EVENT_TIMEOUT_S, "an answer from the cache")


def test_a_silent_host_ages_out(links):
    learn(links, "m0")
    do(links, "ip link set br0 type bridge ageing_time 100")
    wait_for(links, {}, AGEING_TIMEOUT_S)


@pytest.mark.parametrize(
    "command",
    [
        "ip link set m0 type bridge_slave fdb_flush",
        "ip link set br0 type bridge fdb_flush",
        f"bridge fdb del {HOST} dev m0 master",
        "ip link set m0 nomaster",
        "ip link set m0 down",
        "ip link set m0p down",
    ],
)
def test_a_host_is_forgotten(command, links):
    learn(links, "m0")
    cache = links.dataplane.cache.invalidations
    try:
        do(links, command)
        wait_for(links, {})
        assert links.dataplane.cache.invalidations > cache
    finally:
        do(links, "ip link set m0 up; ip link set m0p up; ip link set m0 nomaster; ip link set m0 master br0")
        wait_until(lambda: is_forwarding(links, "m0"), EVENT_TIMEOUT_S, "m0 to be forwarding")


def is_forwarding(links: Links, member: str) -> bool:
    with links.ns.entered():
        shown = subprocess.run(["bridge", "link", "show", "dev", member], capture_output=True, text=True)
    return "state forwarding" in shown.stdout


@pytest.mark.parametrize("state", [0, 1, 2, 4], ids=["disabled", "listening", "learning", "blocking"])
def test_what_was_learned_on_a_member_that_stops_forwarding_is_recalled_no_more(state, links, one_cpu):
    """The kernel keeps the host; the member's own entry is the daemon's to take away."""
    learn(links, "m0", next_hop_mac("br0"))
    frame = arriving("p0", udp(destination("br0", 4)))
    settled(links, frame)
    cache = links.dataplane.cache.invalidations
    try:
        do(links, f"bridge link set dev m0 state {state}")
        assert links.dataplane.cache.invalidations > cache
    finally:
        do(links, "bridge link set dev m0 state 3")


def test_static_hosts_are_known(links):
    do(links, f"bridge fdb add {HOST} dev m0 master static")
    assert links.learned() == {HOST: "m0"}
    do(links, f"bridge fdb replace {HOST} dev m1 master static")
    assert links.learned() == {HOST: "m1"}
    do(links, f"bridge fdb del {HOST} dev m1 master")
    assert links.learned() == {}


def test_addresses_of_the_bridge_itself_are_no_hosts(links):
    do(links, f"bridge fdb add {HOST} dev m0 master permanent")
    assert links.learned() == {}
    do(links, f"bridge fdb del {HOST} dev m0 master")
    assert links.learned() == {}


@pytest.mark.parametrize("member", ["m0", "m1"])
def test_a_host_that_becomes_an_address_of_the_bridge_is_forgotten(member, links):
    learn(links, "m0")
    do(links, f"bridge fdb replace {HOST} dev {member} master permanent")
    assert links.learned() == {}


def test_the_table_of_a_device_is_no_bridges(links):
    do(links, f"bridge fdb add {HOST} dev m0 self permanent")
    do(links, f"bridge fdb del {HOST} dev m0 self")
    assert links.learned() == {}


def test_two_bridges_have_hosts_of_their_own(links):
    do(links, "ip link add br9 type bridge; ip link set br9 up; ip link set m1 nomaster; ip link set m1 master br9")
    try:
        wait_until(lambda: is_forwarding(links, "m1"), EVENT_TIMEOUT_S, "m1 to be forwarding")
        links.indexes["br9"] = links.ns.ifindex("br9")
        learn(links, "m0")
        send(links, "m1")
        wait_until(lambda: links.learned("br9"), EVENT_TIMEOUT_S, "the host behind m1")
        assert (links.learned(), links.learned("br9")) == ({HOST: "m0"}, {HOST: "m1"})
        do(links, "ip link del br9")
        assert (links.learned(), links.learned("br9")) == ({HOST: "m0"}, {})
    finally:
        links.indexes.pop("br9", None)
        do(links, "ip link del br9 2>/dev/null; ip link set m1 master br0")
        wait_until(lambda: is_forwarding(links, "m1"), EVENT_TIMEOUT_S, "m1 to be forwarding")


# --- messages that this machine's kernel need not be able to send -----------------------------------


def message(links: Links, kind: int, member: str, *more: tuple[int, bytes], state: int = NUD_REACHABLE) -> bytes:
    """As fdb_fill_info() in net/bridge/br_fdb.c has it."""
    found = [
        (NDA_LLADDR, bytes.fromhex(HOST.replace(":", ""))),
        (NDA_MASTER, struct.pack("=I", links.indexes["br0"])),
        (NDA_FLAGS_EXT, bytes(4)),
        (NDA_CACHEINFO, bytes(16)),
        *more,
    ]
    body = struct.pack("=BxxxiHBB", AF_BRIDGE, links.indexes[member], state, 0, 0)
    for number, value in found:
        body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def announce(links: Links, data: bytes) -> None:
    """BPF_PROG_TEST_RUN shows a socket filter what lies behind an Ethernet header."""
    fd = links.dataplane._coherence_filter_fds["neighbour_event"]
    links.dataplane._lib.run_on(fd, bytes(14) + data)


def test_hosts_by_vlan_are_not_those_of_a_bridge_without_filtering(links):
    """Such a bridge looks them up without a VLAN, but static entries are given one as well."""
    of_vlan = (NDA_VLAN, struct.pack("=H", 5))
    announce(links, message(links, RTM_NEWNEIGH, "m0"))
    assert links.learned() == {HOST: "m0"}
    announce(links, message(links, RTM_NEWNEIGH, "m1", of_vlan, state=NUD_NOARP))
    announce(links, message(links, RTM_DELNEIGH, "m0", of_vlan))
    assert links.learned() == {HOST: "m0"}
    announce(links, message(links, RTM_DELNEIGH, "m0"))
    assert links.learned() == {}


def test_a_host_that_moved_is_not_forgotten_on_the_word_of_its_old_member(links):
    announce(links, message(links, RTM_NEWNEIGH, "m0"))
    announce(links, message(links, RTM_NEWNEIGH, "m1"))
    announce(links, message(links, RTM_DELNEIGH, "m0"))
    assert links.learned() == {HOST: "m1"}


def test_messages_made_here_are_read_as_those_of_the_kernel(links):
    """What the two before rest on."""
    learn(links, "m0")
    announce(links, message(links, RTM_DELNEIGH, "m0"))
    assert links.learned() == {}
