"""What changes while a router forwards, and bpf_fib_lookup does not heed: addresses, route MTUs, sysctls, uppers.

Each change is made under a running daemon; the verdicts say who took the packets, the wire what became of them.
"""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.probe import H1, H2, TRUTH_S, Probe
from tests.lab.wire import Wire, kernel_forwarded

STRANGER = "10.99.0.1"
"""A source to which r1 has no route"""


@pytest.fixture
def probe(two_hosts, r1):
    with Probe(two_hosts, r1) as probe:
        yield probe


# --- own sources ------------------------------------------------------------------------------------

OWN = {
    "an address": ("addr {} 10.66.0.1/32 dev lo", "10.66.0.1"),
    "an address on a port": ("addr {} 10.66.0.1/24 dev right", "10.66.0.1"),
    "a broadcast address": ("addr {} 10.66.0.1/24 brd + dev right", "10.66.0.255"),
    "a prefix": ("route {} local 10.77.0.0/16 dev lo", "10.77.1.2"),
    "a prefix in a table of its own": ("route {} local 10.77.0.0/16 dev lo table 100", "10.77.1.2"),
}


@pytest.mark.parametrize("case", OWN)
def test_a_source_that_becomes_the_routers_own(probe, case):
    command, source = OWN[case]
    probe.becomes("forward", src=source)
    probe.ip(command.format("add"))
    probe.becomes("pass_martian", src=source)
    probe.becomes("forward")
    if case in ("an address", "a prefix"):
        probe.vanishes(src=source)
    probe.ip(command.format("del"))
    probe.becomes("forward", src=source)
    probe.arrives(src=source)


def test_the_routers_first_addresses_are_its_own(probe):
    for source in ("10.1.0.1", "10.2.0.1", "10.2.0.255"):
        probe.becomes("pass_martian", src=source)
    probe.vanishes(src="10.2.0.1")


def test_an_address_goes_with_its_device(probe):
    probe.ip("link add gone type veth peer name gonep")
    probe.ip("addr add 10.66.0.1/32 dev gone")
    probe.ip("link set gone up")
    probe.becomes("pass_martian", src="10.66.0.1")
    probe.ip("link del gone")
    probe.becomes("forward", src="10.66.0.1")


# --- route MTUs -------------------------------------------------------------------------------------

NARROW = "10.2.0.2/32 dev right mtu 1000"


def _is_narrow(probe: Probe) -> None:
    probe.becomes("pass_too_big", size=1001)
    probe.becomes("forward", size=1000)
    probe.arrives(size=1000)
    # The kernel cuts what may be cut, ...
    sent = probe.packet(size=1400)
    probe.h1.send(bytes(sent))
    pieces = probe.h2.expect(2, lambda frame: IP in Ether(frame) and Ether(frame)[IP].id == sent[IP].id)
    assert [(Ether(p)[IP].frag > 0, Ether(p)[IP].flags == "MF") for p in pieces] == [(False, True), (True, False)]
    assert max(Ether(piece)[IP].len for piece in pieces) <= 1000
    # ... and says what must not be.
    probe.h1.send(bytes(probe.packet(size=1400, flags="DF")))
    (answer,) = probe.h1.expect(1, lambda frame: ICMP in Ether(frame))
    assert (Ether(answer)[ICMP].type, Ether(answer)[ICMP].code, Ether(answer)[ICMP].nexthopmtu) == (3, 4, 1000)


def test_a_route_mtu_comes_and_goes(probe):
    probe.becomes("forward", size=1400)
    probe.ip(f"route add {NARROW}")
    _is_narrow(probe)
    probe.ip(f"route change {NARROW.replace('1000', '1200')}")
    probe.becomes("forward", size=1200)
    probe.becomes("pass_too_big", size=1201)
    probe.ip(f"route del {NARROW.replace('1000', '1200')}")
    probe.becomes("forward", size=1400)
    probe.arrives(size=1400)


def test_a_route_mtu_that_was_there_before(lab_of):
    lab = lab_of("two_hosts", xdprouter=False)
    assert lab.exec("r1", ["ip", "route", "add", *NARROW.split()]).returncode == 0
    lab.start_xdprouter("r1")
    with Probe(lab, Router(lab, "r1")) as probe:
        _is_narrow(probe)


def test_a_route_mtu_of_another_table_is_heeded(probe):
    """A rule sends h1's packets to a table whose shorter prefix has the smaller MTU."""
    probe.ip("route add 10.0.0.0/8 via 10.2.0.2 dev right mtu 900 table 100")
    probe.ip("route add 10.2.0.2/32 dev right mtu 1300")
    probe.ip(f"rule add from {H1[4]} lookup 100")
    probe.becomes("pass_too_big", size=901)
    probe.becomes("forward", size=900)


# --- rp_filter --------------------------------------------------------------------------------------


def _drops_by_reverse_path(probe: Probe, source: str) -> None:
    probe.becomes("pass_reverse_path", src=source)
    probe.vanishes(src=source)


@pytest.mark.parametrize("scope", ["left", "all"])
def test_rp_filter(probe, scope):
    name = f"net.ipv4.conf.{scope}.rp_filter"
    probe.becomes("forward", src=STRANGER)
    for value in (1, 2, 3):
        probe.sysctl(name, value)
        _drops_by_reverse_path(probe, STRANGER)
        probe.becomes("forward")
        probe.arrives()

        # A way back, but by another port, is enough where it is loose.
        probe.ip(f"route add {STRANGER}/32 via {H2[4]} dev right")
        if value == 1:
            _drops_by_reverse_path(probe, STRANGER)
        else:
            probe.becomes("forward", src=STRANGER)
            probe.arrives(src=STRANGER)
        probe.ip(f"route change {STRANGER}/32 via {H1[4]} dev left")
        probe.becomes("forward", src=STRANGER)
        probe.ip(f"route del {STRANGER}/32")
        _drops_by_reverse_path(probe, STRANGER)
    probe.sysctl(name, 0)
    probe.becomes("forward", src=STRANGER)
    probe.arrives(src=STRANGER)


def test_loose_is_strict_on_a_port_without_an_address(probe):
    """As in the kernel: it takes no way back but one through that port."""
    probe.sysctl("net.ipv4.conf.left.rp_filter", 2)
    probe.ip(f"route add {STRANGER}/32 via {H2[4]} dev right")
    probe.becomes("forward", src=STRANGER)
    probe.ip("addr del 10.1.0.1/24 dev left")
    probe.becomes("pass_reverse_path", src=STRANGER)
    probe.ip("addr add 10.1.0.1/24 dev left")
    probe.becomes("forward", src=STRANGER)


# --- redirects --------------------------------------------------------------------------------------


def test_hairpins_follow_send_redirects(probe):
    target = "10.50.0.1"
    probe.ip("neigh add 10.1.0.77 dev left lladdr 02:00:00:00:77:77")
    probe.ip("route add 10.50.0.0/16 via 10.1.0.77 dev left")

    def comes_back(by_kernel: int) -> None:
        before = kernel_forwarded(probe.lab.ns("r1"))
        sent = probe.packet(dst=target)
        probe.h1.send(bytes(sent))
        (frame,) = probe.h1.expect(1, lambda frame: frame.endswith(bytes(sent)[-8:]))
        assert (Ether(frame).dst, Ether(frame)[IP].ttl) == ("02:00:00:00:77:77", sent[IP].ttl - 1)
        assert kernel_forwarded(probe.lab.ns("r1")) - before == by_kernel

    probe.becomes("pass_hairpin", dst=target)
    for scope in ("all", "left"):
        probe.sysctl(f"net.ipv4.conf.{scope}.send_redirects", 0)
    probe.becomes("forward", dst=target)
    comes_back(by_kernel=0)
    for scope in ("all", "left"):
        probe.sysctl(f"net.ipv4.conf.{scope}.send_redirects", 1)
        probe.becomes("pass_hairpin", dst=target)
        comes_back(by_kernel=1)
        probe.sysctl(f"net.ipv4.conf.{scope}.send_redirects", 0)
        probe.becomes("forward", dst=target)


# --- IPv6 -------------------------------------------------------------------------------------------


def test_ipv6_forwarding_as_a_whole(probe):
    """Off for all but on for the ports: a lookup would find a way, ip6_forward() drops."""
    six, four = dict(dst=H2[6]), dict(dst=H2[4])
    probe.becomes("forward", **six)
    probe.sysctl("net.ipv6.conf.all.forwarding", 0)
    for port in ("left", "right"):
        probe.sysctl(f"net.ipv6.conf.{port}.forwarding", 1)
    probe.becomes("pass_forwarding_off", **six)
    probe.vanishes(marker=four, **six)
    probe.sysctl("net.ipv6.conf.all.forwarding", 1)
    probe.becomes("forward", **six)
    probe.arrives(**six)


def test_the_ipv6_mtu_of_a_port(probe):
    probe.becomes("forward", dst=H2[6], size=1400)
    probe.sysctl("net.ipv6.conf.right.mtu", 1300)
    probe.becomes("pass_too_big", dst=H2[6], size=1301)
    probe.becomes("forward", dst=H2[6], size=1300)
    probe.becomes("forward", dst=H2[4], size=1400)
    probe.h1.send(bytes(probe.packet(dst=H2[6], size=1400)))
    (answer,) = probe.h1.expect(1, lambda frame: ICMPv6PacketTooBig in Ether(frame))
    assert (Ether(answer)[IPv6].dst, Ether(answer)[ICMPv6PacketTooBig].mtu) == (H1[6], 1300)
    probe.sysctl("net.ipv6.conf.right.mtu", 1500)
    probe.becomes("forward", dst=H2[6], size=1400)
    probe.arrives(dst=H2[6], size=1400)


# --- devices on a port ------------------------------------------------------------------------------


def _is(r1: Router, name: str, **expected) -> None:
    def looks_so() -> bool:
        port = r1.port(name)
        return all(port[key] == value for key, value in expected.items())

    wait_until(looks_so, TRUTH_S, f"{name} to show {expected}")


@pytest.mark.parametrize("mode", ["passthru", "source"])
def test_a_macvlan_that_takes_the_ports_frames(probe, r1, mode):
    probe.ip(f"link add mv0 link left type macvlan mode {mode}")
    _is(r1, "left", state="unsupported", transmitting=False)
    assert r1.port("left")["reason"] == (
        "left is the lower device of mv0 (macvlan), which may take its frames: they stay on the slow path"
    )
    assert "prog/xdp" not in probe.lab.exec("r1", ["ip", "link", "show", "dev", "left"]).stdout
    if mode == "passthru":
        probe.ip("link set mv0 up")
        with Wire(probe.lab.ns("r1"), "mv0") as taken:
            sent = bytes(probe.packet())
            probe.h1.send(sent)
            assert taken.expect(1, lambda frame: frame == sent)
    probe.ip("link del mv0")
    _is(r1, "left", state="active", transmitting=True)
    probe.becomes("forward")
    probe.arrives()


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_a_macvlan_with_frames_of_its_own(probe, r1, mode):
    """What is addressed to it is passed, what is addressed to the port is forwarded."""
    probe.ip(f"link add mv0 link left address 02:00:00:00:55:55 type macvlan mode {mode}")
    probe.ip("link set mv0 up")
    probe.becomes("forward")
    assert r1.port("left")["state"] == "active"
    with Wire(probe.lab.ns("r1"), "mv0") as own:
        packet = probe.packet()
        packet[Ether].dst = "02:00:00:00:55:55"
        before = r1.verdict("pass_not_ours", "left")
        probe.h1.send(bytes(packet))
        assert own.expect(1, lambda frame: frame == bytes(packet))
    assert r1.verdict("pass_not_ours", "left") == before + 1
