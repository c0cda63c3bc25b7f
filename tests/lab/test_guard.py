"""The operator's firewall sees every packet it would have seen: a port that it concerns stays on the slow path."""

import os
import shutil
import time

import pytest

from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import kernel_forwarded, stream

pytestmark = pytest.mark.alone

RATE = 50_000
BOUND_S = 1.0
"""Within this time the port is said to be guarded, or is on the fast path again."""
DROP = ["nft", "add rule inet fw crossing counter drop"]


@pytest.fixture
def bare(lab_of):
    """two_hosts without a daemon yet."""
    lab = lab_of("two_hosts", xdprouter=False)
    return lab, Router(lab, "r1")


def nft(lab, *commands: str) -> None:
    for command in commands:
        done = lab.exec("r1", ["nft", command])
        assert done.returncode == 0, done.stderr


def add_chain(lab, hook: str = "forward") -> None:
    nft(lab, "add table inet fw", f"add chain inet fw crossing {{ type filter hook {hook} priority 0; }}")


def start(lab, tmp_path, policy: str) -> None:
    config = tmp_path / "guard.toml"
    config.write_text(f'guard = "{policy}"\n')
    lab.start_xdprouter("r1", ["-c", str(config)])


def states(r1: Router) -> dict[str, str]:
    return {port["name"]: port["state"] for port in r1.status()["ports"]}


def wait_for_states(r1: Router, state: str) -> None:
    wait_until(lambda: set(states(r1).values()) == {state}, BOUND_S, f"the ports to be {state}")


def reaches(lab, address: str) -> bool:
    return lab.exec("h1", ["ping", "-c", "1", "-W", "0.3", address]).returncode == 0


def resolve(lab, address: str = "10.2.0.2") -> None:
    """Let both ends know their next hops."""
    wait_until(lambda: reaches(lab, address), 30, f"{address} to answer")


def forwarded(r1: Router) -> int:
    return r1.verdict("forward")


def wait_until_fast(lab, r1: Router) -> None:
    """The daemon has looked at the last announcement: until then everything is passed, whatever the ports' state."""

    def went_fast() -> bool:
        before = forwarded(r1)
        return reaches(lab, "10.2.0.2") and forwarded(r1) - before == 2

    wait_until(went_fast, 30, "a ping to go the fast path both ways")


def test_a_rule_that_is_there_first_sees_every_packet(bare):
    lab, r1 = bare
    add_chain(lab)
    nft(lab, DROP[1])
    lab.start_xdprouter("r1")
    assert set(states(r1).values()) == {"guarded"}
    assert "inet fw crossing" in r1.port("left")["reason"] and "drop" in r1.port("left")["reason"]
    with stream(lab, "h1", "h2", "10.2.0.2", RATE) as flow:
        wait_until(lambda: r1.verdict("pass_guarded", "left") >= 1000, 30, "packets on the slow path")
        assert flow.stop() == flow.sent > 0
    assert forwarded(r1) == 0


@pytest.mark.parametrize("address", ["10.2.0.2", "fd02::2"])
def test_a_rule_added_under_traffic_sees_the_next_packet(two_hosts, r1, address):
    """Not one packet is forwarded past it from the moment that nft returns."""
    add_chain(two_hosts)
    resolve(two_hosts, address)
    with stream(two_hosts, "h1", "h2", address, RATE) as flow:
        wait_until(lambda: r1.verdict("forward", "left") >= 1000, 30, "packets on the fast path")
        nft(two_hosts, DROP[1])
        past = forwarded(r1)
        wait_for_states(r1, "guarded")
        slow = r1.verdict("pass_guarded", "left")
        wait_until(lambda: r1.verdict("pass_guarded", "left") >= slow + 1000, 30, "packets on the slow path")
        assert forwarded(r1) == past
        lost = flow.stop()
        assert lost > 0
    log = (two_hosts.directory("r1") / "xdprouter.log").read_text()
    assert "port left is guarded: nftables" in log and "drop" in log


def test_its_removal_brings_the_fast_path_back(two_hosts, r1):
    add_chain(two_hosts)
    resolve(two_hosts)
    nft(two_hosts, DROP[1])
    wait_for_states(r1, "guarded")
    assert not reaches(two_hosts, "10.2.0.2")
    nft(two_hosts, "flush chain inet fw crossing")
    wait_for_states(r1, "active")
    wait_until_fast(two_hosts, r1)
    before = forwarded(r1), kernel_forwarded(two_hosts.ns("r1"))
    assert two_hosts.exec("h1", ["ping", "-c", "20", "-i", "0.01", "10.2.0.2"]).returncode == 0
    assert forwarded(r1) - before[0] == 40
    assert kernel_forwarded(two_hosts.ns("r1")) == before[1]


def test_rules_for_what_is_not_forwarded_leave_the_ports_alone(two_hosts, r1):
    add_chain(two_hosts, hook="input")
    nft(two_hosts, "add rule inet fw crossing tcp dport 22 drop")
    nft(two_hosts, "add set inet fw seen { type ipv4_addr; flags timeout; }", "add element inet fw seen { 10.9.9.9 }")
    wait_until_fast(two_hosts, r1)
    wait_for_states(r1, "active")
    before = forwarded(r1)
    assert two_hosts.exec("h1", ["ping", "-c", "5", "-i", "0.01", "10.2.0.2"]).returncode == 0
    assert forwarded(r1) - before == 10


@pytest.mark.parametrize(
    ("add", "remove", "says"),
    [
        (
            ["tc qdisc add dev {port} root tbf rate 1mbit burst 10k latency 1ms"],
            ["tc qdisc del dev {port} root"],
            "tbf",
        ),
        (
            ["tc qdisc add dev {port} clsact", "tc filter add dev {port} ingress protocol ip prio 1 u32 match u32 0 0"],
            ["tc qdisc del dev {port} clsact"],
            "filter",
        ),
        (
            [
                "nft add table netdev fw",
                "nft add chain netdev fw in {{ type filter hook ingress device {port} priority 0; }}",
                "nft add rule netdev fw in drop",
            ],
            ["nft delete table netdev fw"],
            "netdev fw in",
        ),
    ],
)
def test_what_concerns_one_port_leaves_the_others_fast(two_hosts, r1, add, remove, says):
    """And nothing is redirected to it: the kernel sends what leaves there."""
    resolve(two_hosts)
    for command in add:
        words = command.format(port="right")
        argv = words.split() if words.startswith("tc") else ["nft", words.removeprefix("nft ")]
        done = two_hosts.exec("r1", argv)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: states(r1) == {"left": "active", "right": "guarded"}, BOUND_S, "one port guarded")
    assert says in r1.port("right")["reason"]
    assert not r1.port("right")["transmitting"] and r1.port("left")["transmitting"]

    def is_passed() -> bool:
        """Not so while the daemon has still to look at the last announcement: then everything is passed as guarded."""
        before = r1.verdict("pass_egress_unavailable", "left")
        reaches(two_hosts, "10.2.0.2")
        return r1.verdict("pass_egress_unavailable", "left") == before + 1

    wait_until(is_passed, 30, "what leaves by the guarded port to be passed")
    for command in remove:
        words = command.format(port="right")
        argv = words.split() if words.startswith("tc") else ["nft", words.removeprefix("nft ")]
        assert two_hosts.exec("r1", argv).returncode == 0
    wait_for_states(r1, "active")


def test_an_ipsec_policy_concerns_every_port(two_hosts, r1):
    policy = "ip xfrm policy {} dir fwd src 10.1.0.0/24 dst 10.2.0.0/24".split()
    for verb, state in (("add", "guarded"), ("delete", "active")):
        argv = [word.format(verb) for word in policy] + (["action", "block"] if verb == "add" else [])
        done = two_hosts.exec("r1", argv)
        assert done.returncode == 0, done.stderr
        wait_for_states(r1, state)
    resolve(two_hosts)


def test_warn_forwards_and_says_so(bare, tmp_path):
    lab, r1 = bare
    add_chain(lab)
    start(lab, tmp_path, "warn")
    nft(lab, DROP[1])
    wait_until(lambda: r1.status()["guard"]["findings"], BOUND_S, "a finding")
    status = r1.status()["guard"]
    assert status["policy"] == "warn" and "inet fw crossing" in status["findings"][0]["text"]
    assert set(states(r1).values()) == {"active"}
    log = (lab.directory("r1") / "xdprouter.log").read_text()
    assert log.count("forwarded packets go past nftables") == 1


def test_off_does_not_look(bare, tmp_path):
    lab, r1 = bare
    add_chain(lab)
    nft(lab, DROP[1])
    start(lab, tmp_path, "off")
    assert r1.status()["guard"] == {"policy": "off", "findings": []}
    assert set(states(r1).values()) == {"active"}


def test_without_nft_a_rule_is_found_all_the_same(bare, tmp_path, monkeypatch):
    lab, r1 = bare
    add_chain(lab)
    nft(lab, DROP[1])
    for tool in ("mount", "umount", "nsenter"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    lab.start_xdprouter("r1")
    monkeypatch.undo()
    assert set(states(r1).values()) == {"guarded"}
    assert "inet fw crossing" in r1.port("left")["reason"]


def test_a_daemon_that_comes_back_finds_what_was_added_meanwhile(bare):
    lab, r1 = bare
    daemon = lab.start_xdprouter("r1")
    resolve(lab)
    daemon.kill()
    daemon.wait()
    add_chain(lab)
    nft(lab, DROP[1])
    lab.start_xdprouter("r1")
    assert set(states(r1).values()) == {"guarded"}
    before = forwarded(r1)
    assert not reaches(lab, "10.2.0.2")
    assert forwarded(r1) == before


def test_a_storm_of_rules_ends_in_the_right_state(two_hosts, r1):
    add_chain(two_hosts)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        nft(two_hosts, DROP[1], "flush chain inet fw crossing")
    wait_for_states(r1, "active")
    nft(two_hosts, DROP[1])
    wait_for_states(r1, "guarded")
