"""Routes that FRR and BIRD learn carry traffic on the fast path, and it follows them when a link is cut."""

import json
import subprocess

import pytest

from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import stream

CONVERGED_S = 60
RATE = 500


def _reaches(lab, address: str) -> bool:
    return lab.exec("h1", ["ping", "-c", "1", "-W", "1", address]).returncode == 0


def _learned(lab, node: str, prefix: str, protocol: str) -> bool:
    family = "-6" if ":" in prefix else "-4"
    shown = lab.exec(node, ["ip", "-j", family, "route", "show", prefix]).stdout
    return any(route.get("protocol") == protocol for route in json.loads(shown or "[]"))


def _moves(router: Router, port: str, flow) -> None:
    """Wait until the stream arrives through the egress port and nothing else counts but that."""
    start, arrived = router.egress(port), flow.arrived()
    wait_until(
        lambda: router.egress(port) > start + 200 and flow.arrived() > arrived + 200,
        CONVERGED_S,
        f"traffic to leave by {port} on the fast path",
    )


def _busy_leg(router: Router, flow, first: str, second: str, ecmp: bool) -> str:
    """The leg that carries the stream: with ECMP either, else the preferred one, once BGP has settled on it."""
    if not ecmp:
        _moves(router, first, flow)
        return first
    before = {port: router.egress(port) for port in (first, second)}
    wait_until(lambda: any(router.egress(p) > n + 200 for p, n in before.items()), CONVERGED_S, "fast-path traffic")
    return max(before, key=lambda port: router.egress(port) - before[port])


def _spray(lab, target: str) -> None:
    """64 UDP flows from h1, a datagram each."""
    burst = f"for p in $(seq 20000 20063); do echo x > /dev/udp/{target}/$p; done"
    lab.exec("h1", ["bash", "-c", burst], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _is_used_by_some_flow(lab, router: Router, port: str, target: str) -> None:
    """A leg that came back may stand elsewhere in the ECMP group: which flows it gets is the kernel's choice."""
    before = router.egress(port)

    def used() -> bool:
        _spray(lab, target)
        return router.egress(port) > before + 5

    wait_until(used, CONVERGED_S, f"some of many flows to leave by {port} on the fast path")


CASES = [
    pytest.param("frr_ospf_bgp", "r2", "bgp", "east_a", "east_b", "10.2.0.0/24", "10.2.0.2", id="frr-ipv4"),
    pytest.param("frr_ospf_bgp", "r2", "bgp", "east_a", "east_b", "fd02::/64", "fd02::2", id="frr-ipv6"),
    pytest.param("bird_bgp", "r1", "bird", "up_a", "up_b", "10.2.0.0/24", "10.2.0.2", id="bird-ipv4"),
    pytest.param("bird_bgp", "r1", "bird", "up_a", "up_b", "fd02::/64", "fd02::2", id="bird-ipv6"),
]


@pytest.mark.parametrize(("topology", "node", "protocol", "first", "second", "prefix", "target"), CASES)
def test_traffic_follows_bgp_when_a_link_is_cut(lab_of, topology, node, protocol, first, second, prefix, target):
    lab = lab_of(topology)
    router = Router(lab, node)
    wait_until(lambda: _learned(lab, node, prefix, protocol), CONVERGED_S, f"{node} to learn {prefix}")
    wait_until(lambda: _reaches(lab, target), CONVERGED_S, f"h1 to reach {target}")
    wait_until(lambda: router.status()["fib"]["by_protocol"].get(protocol, 0) >= 1, 30, "the route to be counted")

    with stream(lab, "h1", "h2", target, RATE) as flow:
        busy = _busy_leg(router, flow, first, second, ecmp=protocol == "bird")
        spare = second if busy == first else first

        lab.link_down(node, busy)
        _moves(router, spare, flow)
        wait_until(lambda: router.port(busy)["state"] == "down", 30, f"{busy} to be down")
        assert not router.port(busy)["transmitting"]

        lab.link_up(node, busy)
        if protocol == "bird":
            _is_used_by_some_flow(lab, router, busy, target)
        else:
            _moves(router, busy, flow)
        assert router.port(busy)["state"] == "active"
    status = router.status()
    assert status["in_sync"], status["out_of_sync_reasons"]


def test_ecmp_flows_use_both_legs_and_survive_a_cut(lab_of):
    lab = lab_of("ecmp_diamond")
    router = Router(lab, "r1")
    for target in ("10.2.0.2", "fd02::2"):
        wait_until(lambda target=target: _reaches(lab, target), CONVERGED_S, f"h1 to reach {target}")
        before = {leg: router.egress(leg) for leg in ("up", "down")}

        def both_used(target=target, before=before) -> bool:
            _spray(lab, target)  # again: the first ones may meet a next hop that is not resolved yet
            return all(router.egress(leg) > count for leg, count in before.items())

        wait_until(both_used, CONVERGED_S, "both legs used")
        lab.link_down("r1", "up")
        lab.link_down("r4", "up")
        wait_until(lambda target=target: _reaches(lab, target), CONVERGED_S, f"h1 to reach {target} by one leg")
        before = router.egress("down")
        assert _reaches(lab, target)
        assert router.egress("down") > before
        lab.link_up("r1", "up")
        lab.link_up("r4", "up")
