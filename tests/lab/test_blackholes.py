"""`xdprouter blackholes`: what each blackhole route has swallowed, whoever installed it."""

import json
import subprocess
import sys

import pytest

from lab import topology
from lab.process import Process
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.probe import PACKETS, TRUTH_S, Probe
from xdprouter import api

FRAME = 114
"""Bytes of a probe's frame: 100 of IP, 14 of Ethernet"""


@pytest.fixture
def probe(two_hosts, r1):
    with Probe(two_hosts, r1) as probe:
        yield probe


def _holes(r1: Router) -> dict[str, int]:
    reply = r1.ask(api.BlackholesRequest())
    assert reply["routes"] == len(reply["busiest"])
    return {hole["prefix"]: hole["packets"] for hole in reply["busiest"]}


def _holes_are(r1: Router, **expected: int) -> None:
    wait_until(lambda: _holes(r1) == expected, TRUTH_S, f"the blackholes to be {expected}, not {_holes(r1)}")


def _command(ns: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "xdprouter", "blackholes", "--netns", ns, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_blackholes_count_what_they_swallow(probe, r1):
    """Added while the daemon runs, of both families, one within another; busiest first."""
    assert _holes(r1) == {}
    for line in ("198.51.100.0/24", "198.51.100.128/25", "2001:db8:9::/48", "203.0.113.0/24"):
        probe.ip(f"route add blackhole {line}")
    _holes_are(r1, **{"198.51.100.0/24": 0, "198.51.100.128/25": 0, "2001:db8:9::/48": 0, "203.0.113.0/24": 0})
    before = r1.verdict("drop_blackhole", "left")
    bursts = {"198.51.100.7": 1, "198.51.100.200": 3, "2001:db8:9::7": 2}
    for address, number in bursts.items():
        for _ in range(number):
            assert probe.verdicts(dst=address) == {"drop_blackhole": PACKETS}
        probe.vanishes(dst=address)
    wanted = {
        "198.51.100.128/25": 4 * PACKETS,
        "2001:db8:9::/48": 3 * PACKETS,
        "198.51.100.0/24": 2 * PACKETS,
        "203.0.113.0/24": 0,
    }
    assert r1.verdict("drop_blackhole", "left") - before == sum(wanted.values())

    reply = json.loads(_command(probe.lab.ns("r1"), "--json"))
    assert reply == {
        "schema": api.SCHEMA,
        "routes": 4,
        "busiest": [{"prefix": prefix, "packets": n, "bytes": n * FRAME} for prefix, n in wanted.items()],
    }
    lines = [line.split() for line in _command(probe.lab.ns("r1")).splitlines()]
    assert lines[0] == ["4", "blackhole", "routes"]
    assert lines[2:] == [[prefix, str(n), str(n * FRAME)] for prefix, n in wanted.items()]


def test_a_blackhole_that_is_removed_disappears(probe, r1):
    probe.ip("route add 198.51.100.0/24 via 10.2.0.2")
    probe.ip("route add blackhole 198.51.100.0/25")
    probe.ip("-6 route add blackhole 2001:db8:9::/48")
    _holes_are(r1, **{"198.51.100.0/25": 0, "2001:db8:9::/48": 0})
    probe.becomes("drop_blackhole", dst="198.51.100.7")
    probe.ip("route del blackhole 198.51.100.0/25")
    probe.becomes("forward", dst="198.51.100.7")
    _holes_are(r1, **{"2001:db8:9::/48": 0})
    probe.ip("-6 route del blackhole 2001:db8:9::/48")
    _holes_are(r1)
    assert _command(probe.lab.ns("r1")).splitlines()[0].strip() == "0 blackhole routes"


def test_a_blackhole_is_replaced_by_a_route_and_comes_back(probe, r1):
    probe.ip("route add blackhole 198.51.100.0/24")
    probe.becomes("drop_blackhole", dst="198.51.100.7")
    probe.ip("route replace 198.51.100.0/24 via 10.2.0.2")
    probe.becomes("forward", dst="198.51.100.7")
    _holes_are(r1)
    probe.ip("route replace blackhole 198.51.100.0/24")
    _holes_are(r1, **{"198.51.100.0/24": 0})


def test_counters_outlive_the_daemon(probe, r1):
    probe.ip("route add blackhole 198.51.100.0/24")
    _holes_are(r1, **{"198.51.100.0/24": 0})
    assert probe.verdicts(dst="198.51.100.7") == {"drop_blackhole": PACKETS}
    daemon = Process.of(r1.status()["pid"])
    r1.ask(api.StopRequest(detach=False))
    # Its socket goes first, and the lock that keeps the next one out goes with the process.
    wait_until(lambda: not daemon.is_alive, TRUTH_S, "the daemon to end")
    for _ in range(PACKETS):
        probe.h1.send(bytes(probe.packet(dst="198.51.100.7")))
    probe.arrives()
    probe.lab.start_xdprouter("r1")
    _holes_are(r1, **{"198.51.100.0/24": 2 * PACKETS})


DAEMONS = {
    "frr": (
        'frr = """\nip route 10.9.0.0/16 blackhole\nipv6 route fd09::/48 blackhole\n"""',
        ["vtysh", "-c", "configure", "-c", "no ip route 10.9.0.0/16 blackhole"],
    ),
    "bird": (
        'bird = """\nrouter id 10.255.0.1;\nprotocol device {}\n'
        "protocol kernel { ipv4 { export all; }; }\nprotocol kernel { ipv6 { export all; }; }\n"
        "protocol static hole4 { ipv4; route 10.9.0.0/16 blackhole; }\n"
        'protocol static { ipv6; route fd09::/48 blackhole; }\n"""',
        ["birdc", "disable", "hole4"],
    ),
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_routing_daemons_blackhole(lab_of, tmp_path, daemon):
    config, remove = DAEMONS[daemon]
    path = tmp_path / "holes.toml"
    ports = 'xdprouter = ["left", "right"]'
    path.write_text(topology.load("two_hosts").text.replace(ports, f"{ports}\n{config}"))
    lab = lab_of(str(path))
    r1 = Router(lab, "r1")
    _holes_are(r1, **{"10.9.0.0/16": 0, "fd09::/48": 0})
    with Probe(lab, r1) as probe:
        for address in ("10.9.1.2", "fd09::2"):
            assert probe.verdicts(dst=address) == {"drop_blackhole": PACKETS}
        _holes_are(r1, **{"10.9.0.0/16": PACKETS, "fd09::/48": PACKETS})
        assert lab.exec("r1", remove).returncode == 0
        _holes_are(r1, **{"fd09::/48": PACKETS})
