# SPDX-License-Identifier: GPL-2.0-only
"""Two versions of program and maps take each other's place, under 100,000 packets a second; and restarts of one."""

import os
from collections.abc import Iterator

import pytest

from lab.wait import wait_until
from tests.lab import other_version
from tests.lab.command import ROOT
from tests.lab.conftest import xdp
from tests.lab.flood import PORTS, Site, flood, site
from xdprouter import api
from xdprouter.bench import network

ROUNDS = int(os.environ.get("XDPROUTER_ROUNDS", "4"))
"""of each kind; `make lifecycle` does 24"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    return other_version.make(tmp_path_factory.mktemp("newer") / "tree")


@pytest.fixture
def router() -> Iterator[Site]:
    with site("upgrade") as made:
        # A blackhole that swallows, beside the way through.
        network.ip(made.ns, "route add blackhole 10.9.9.0/24")
        yield made


def counted(router: Site) -> dict[str, int]:
    """Everything that must never go down."""
    status = router.status()
    out = {
        "redirect errors": sum(port["redirect_errors"] for port in status["ports"]),
        "cache hits": sum(port["cache_hits"] for port in status["ports"]),
        "route events": status["netlink"]["events"] - _links_read(status),
        "invalidations": status["cache"]["invalidations"],
    }
    for port in status["ports"]:
        out[f"{port['name']} out"] = port["egress"]["packets"]
        out |= {f"{port['name']} {verdict}": t["packets"] for verdict, t in port["ingress"].items()}
        out |= {f"{port['name']} bytes {verdict}": t["bytes"] for verdict, t in port["ingress"].items()}
        out |= {f"{port['name']} FIB {code}": number for code, number in port["fib_codes"].items()}
    for hop in router.ask(api.NeighboursRequest())["neighbours"]:
        out[f"next hop {hop['address']}"] = hop["packets"]
    for entry in router.ask(api.BlackholesRequest())["busiest"]:
        out[f"blackhole {entry['prefix']}"] = entry["packets"]
    return out


def _links_read(status: dict) -> int:
    return status["netlink"]["events"]  # of this process alone, and so no counter of the maps


def not_lower(before: dict[str, int], after: dict[str, int]) -> None:
    lower = {name: (value, after.get(name)) for name, value in before.items() if after.get(name, -1) < value}
    assert not lower


def swallow(router: Site, number: int) -> None:
    """Frames to the blackhole, by the port's far end."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    from tests.lab.wire import Wire

    ether = Ether(dst=network.ROUTER_MAC, src=network.HOST_MAC)
    frame = bytes(ether / IP(src=network.SOURCE[4], dst="10.9.9.9") / UDP(dport=9) / bytes(30))
    with Wire(router.ns, "in0p") as wire:
        for _ in range(number):
            wire.send(frame)


@pytest.mark.timeout(600)
def test_upgrades_and_roll_backs_lose_no_packet_and_no_count(router, newer):
    router.start()
    slots = {port["name"]: port["slot"] for port in router.status()["ports"]}
    swallow(router, 10)
    with flood(router) as traffic:
        traffic.carry(1000)
        before, program = counted(router), router.status()["program_id"]
        assert before["blackhole 10.9.9.0/24"] == 10
        for number in range(ROUNDS):
            router.end()
            router.start(root=(newer, ROOT)[number % 2])
            after = counted(router)
            not_lower(before, after)
            status = router.status()
            assert status["in_sync"], status["out_of_sync_reasons"]
            assert status["program_id"] != program
            assert {port["name"]: port["slot"] for port in status["ports"]} == slots
            before, program = after, status["program_id"]
            traffic.carry(1000)
        assert traffic.stop() == 0
    print(f"{traffic.sent} packets, {traffic.sent / traffic.seconds:.0f}/s")
    after = counted(router)
    # Every one of them was counted by one version or the other, those during the swaps too.
    assert after["in0 forward"] >= traffic.sent
    assert after["out0 out"] >= traffic.sent
    assert after["in0 forward"] <= traffic.sent + 1000
    hop = f"next hop {network.next_hops(4, 1)[0]}"
    wait_until(lambda: counted(router)[hop] >= traffic.sent, 30, "the keeper's next round")
    assert after["blackhole 10.9.9.0/24"] == 10
    # The other layout's go when the swap has been watched for long enough.
    wait_until(lambda: len(list((router.instance.directory / "bpf").glob("v*"))) == 1, 30, "one layout's pins to stay")


@pytest.mark.timeout(600)
def test_restarts_lose_no_packet_and_no_count(router):
    router.start()
    with flood(router) as traffic:
        for number in range(ROUNDS):
            traffic.carry(1000)
            before = counted(router)
            (router.kill if number % 2 else router.end)()
            router.start()
            not_lower(before, counted(router))
        assert traffic.stop() == 0
    print(f"{traffic.sent} packets, {traffic.sent / traffic.seconds:.0f}/s")
    assert counted(router)["in0 forward"] >= traffic.sent


def test_a_start_killed_before_the_swap_is_taken_up_by_either_version(router, newer):
    """The newer version dies with its maps made and the old program still in the links."""
    router.start()
    swallow(router, 10)
    before = counted(router)
    router.end()
    dies = other_version.make(newer.parent / "dies", (
        "controlplane/dataplane.py", r"        self\._attachments\.replace\(self\._running\)\n        self\._heritage",
        "        import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n        self._heritage",
    ))  # fmt: skip
    for root in (ROOT, newer):
        with pytest.raises(Exception, match="exited with -9"):
            router.start(root=dies)
        assert all(xdp(router.ns, port) for port in PORTS)
        router.start(root=root)
        not_lower(before, counted(router))
        assert counted(router)["blackhole 10.9.9.0/24"] == 10
        router.end()


def test_a_layout_without_a_description_begins_at_zero_and_says_so(router, newer):
    router.start()
    swallow(router, 3)
    router.end()
    (path,) = router.instance.directory.glob("layout-v*.json")
    path.write_text(path.read_text()[:-30])
    router.start(root=newer)
    assert counted(router)["blackhole 10.9.9.0/24"] == 0
    assert "their counters begin at zero" in router.log.read_text()
    assert router.status()["in_sync"]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("drops", ("bpf/router.c", r"^int router\(struct xdp_md \*ctx\)\n\{\n", None), "the new one drop"),
        ("bytes", ("bpf/rewrite.h", r"\t\tdecrement_ttl\(header\);", "\t\t;"), "with different bytes"),
    ],
)
def test_a_program_that_fails_its_trial_is_not_taken(router, tmp_path, name, change, says):
    path, pattern, new = change
    if new is None:
        pattern, new = r"return xdp_action\(", "return XDP_DROP + 0 * xdp_action("
    bad = other_version.make(tmp_path / name, (path, pattern, new))
    router.start()
    with flood(router) as traffic:
        traffic.carry(1000)
        old = xdp(router.ns, "in0")["prog"]["id"]
        router.end()
        with pytest.raises(Exception, match="the new program was not taken, the running one stays") as caught:
            router.start(root=bad)
        assert says in str(caught.value)
        assert xdp(router.ns, "in0")["prog"]["id"] == old
        traffic.carry(1000)
        assert traffic.stop() == 0
    router.start()
    assert counted(router)["in0 forward"] >= traffic.sent


def test_a_program_whose_frames_get_lost_is_taken_back(router, tmp_path):
    """The newer version's devmap leads to a device that takes no frames; its answers to test packets are right."""
    bad = other_version.make(tmp_path / "tree", (
        "controlplane/slots.py", r"ct\.c_int\(ifindex\)$", "ct.c_int(1)",
    ))  # fmt: skip
    router.start()
    with flood(router) as traffic:
        traffic.carry(1000)
        old = xdp(router.ns, "in0")["prog"]["id"]
        router.end()
        router.start(root=bad, wait=False)
        wait_until(lambda: router.status()["last_swap"]["result"] == "taken back", 30, "the way back")
        status = router.status()
        assert status["last_swap"]["before"] == old == xdp(router.ns, "in0")["prog"]["id"]
        assert "could not be redirected" in status["last_swap"]["reason"]
        assert not status["in_sync"] and f"program {old} is back" in status["out_of_sync_reasons"][0]
        assert f"program {old} is back" in router.log.read_text()
        lost = traffic.sent - traffic.arrived()
        traffic.carry(10_000)
        assert traffic.stop() <= lost + 1000, "the old program forwards again"
        before = counted(router)
        router.end()
        router.start()
        not_lower({name: value for name, value in before.items() if "errors" not in name}, counted(router))
