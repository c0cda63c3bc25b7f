# SPDX-License-Identifier: GPL-2.0-only
"""The keeper over a real neighbour table, also without NTF_EXT_MANAGED as on a kernel before 5.16. No daemon,
and no packet: the tests say what is used."""

import socket
import time
from contextlib import contextmanager

import pytest

from controlplane import neighbour
from controlplane.keeper import Keeper
from controlplane.netlink import NetlinkSocket
from controlplane.next_hop import NextHop, Use
from lab import namespace
from lab.network import write_sysctls
from lab.wait import wait_until
from tests.lab.wire import mac

TARGETS = ["10.2.0.2", "fd02::2"]
NEW_MAC = "02:00:00:00:99:99"
LONG_S = 3600.0


class Rounds:
    """A Keeper in r1 of a two_hosts lab, and made-up traffic to one next hop."""

    def __init__(self, lab, address: str, managing: bool):
        self._lab = lab
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespace.entered(lab.ns("r1")):
            self._keeper = Keeper(LONG_S, managing)
            ifindex = socket.if_nametoindex("right")
        self.hop = NextHop(ifindex, family, socket.inet_pton(family, address))
        self._packets = 0

    def tick(self) -> neighbour.Details | None:
        """One round with traffic; the entry as the kernel has it after that."""
        self._packets += 1
        self._keeper.tick(time.monotonic(), {self.hop: Use(self._packets, 60 * self._packets)})
        return self.entry()

    def idle(self) -> None:
        """A round long after the last traffic."""
        self._keeper.tick(time.monotonic() + 2 * LONG_S, {self.hop: Use(self._packets, 60 * self._packets)})

    def entry(self) -> neighbour.Details | None:
        return neighbour.details(self._keeper._reader).get(self.hop)

    def until(self, wanted, what: str, timeout_s: float = 30) -> neighbour.Details:
        def there() -> neighbour.Details | None:
            entry = self.tick()
            return entry if entry and wanted(entry) else None

        return wait_until(there, timeout_s, what)

    def close(self) -> None:
        self._keeper.close()


@contextmanager
def rounds(lab, address: str, managing: bool):
    made = Rounds(lab, address, managing)
    try:
        # As the first packet does: through the stack.
        assert lab.exec("r1", ["ping", "-c", "1", "-w", "20", address]).returncode == 0
        yield made
    finally:
        made.close()


@pytest.fixture
def lab(lab_of):
    lab = lab_of("two_hosts", xdprouter=False)
    names = [f"net.{family}.neigh.right.base_reachable_time_ms" for family in ("ipv4", "ipv6")]
    write_sysctls(lab.ns("r1"), dict.fromkeys(names, "2000"))
    return lab


@pytest.fixture(params=[True, False], ids=["managing", "asking"])
def managing(request, lab) -> bool:
    with namespace.entered(lab.ns("r1")), NetlinkSocket() as sock:
        if request.param and not neighbour.can_manage(sock):
            pytest.skip("the kernel has no NTF_EXT_MANAGED")
    return request.param


@pytest.mark.parametrize("address", TARGETS)
def test_confirmed_again_and_again_without_a_packet(lab, address, managing):
    with rounds(lab, address, managing) as next_hop:
        next_hop.until(lambda entry: entry.age_s >= 0.8, "it to age")
        next_hop.until(lambda entry: entry.state == neighbour.REACHABLE and entry.age_s < 0.5, "an answer")
        entry = next_hop.until(lambda entry: entry.state & neighbour.VALID, "a usable entry")
        assert (entry.owner is neighbour.Owner.US) == managing
        assert entry.lladdr == mac(lab.ns("h2"), "eth0")


@pytest.mark.parametrize("address", TARGETS)
def test_a_silent_change_of_mac(lab, address, managing):
    with rounds(lab, address, managing) as next_hop:
        next_hop.tick()
        assert lab.exec("h2", ["ip", "link", "set", "eth0", "address", NEW_MAC]).returncode == 0
        next_hop.until(lambda entry: entry.lladdr == NEW_MAC, "the new MAC")


@pytest.mark.parametrize("address", TARGETS)
def test_put_back_after_carrier_loss(lab, address, managing):
    with rounds(lab, address, managing) as next_hop:
        next_hop.tick()
        lab.link_down("h2", "eth0")
        wait_until(lambda: next_hop.entry() is None, 30, "the kernel to drop the entry")
        lab.link_up("h2", "eth0")
        next_hop.until(lambda entry: entry.state == neighbour.REACHABLE, "it to be put back")


@pytest.mark.parametrize("address", TARGETS)
def test_an_idle_one_becomes_an_ordinary_usable_entry(lab, address, managing):
    with rounds(lab, address, managing) as next_hop:
        next_hop.tick()
        before = next_hop.tick()
        next_hop.idle()
        after = next_hop.entry()
        assert after.owner is neighbour.Owner.NOBODY
        assert after.state & neighbour.VALID
        assert after.lladdr == before.lladdr
        next_hop.idle()
        assert next_hop.entry().owner is neighbour.Owner.NOBODY


def test_refusals_are_counted_and_stop_nothing(lab):
    """No device of that number: the requests behind it are carried out all the same, across batches."""
    with namespace.entered(lab.ns("r1")), NetlinkSocket() as sock:
        right = socket.if_nametoindex("right")
        hops = [
            NextHop(right if i % 3 else 9999, socket.AF_INET, bytes([10, 2, i >> 8, i & 255])) for i in range(2, 602)
        ]
        wanted = {hop for hop in hops if hop.ifindex == right}
        assert neighbour.send(sock, [neighbour.manage(hop) for hop in hops]) == len(hops) - len(wanted)
        assert {hop for hop, entry in neighbour.read(sock).items() if entry.owner is neighbour.Owner.US} == wanted
        assert neighbour.send(sock, []) == 0
