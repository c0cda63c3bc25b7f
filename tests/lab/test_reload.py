# SPDX-License-Identifier: GPL-2.0-only
"""The configuration is read again, under traffic, and only what is different changes."""

import os
import signal
from collections.abc import Iterator

import pytest

from lab.wait import wait_until
from tests.lab.command import xdprouter
from tests.lab.conftest import xdp
from tests.lab.flood import PORTS, Site, flood, site
from xdprouter.bench import network

BOTH = "".join(f'[[port]]\nname = "{port}"\n' for port in PORTS)
RELOADS = int(os.environ.get("XDPROUTER_ROUNDS", "8"))
"""`make lifecycle` does 24"""


@pytest.fixture(scope="module")
def made() -> Iterator[Site]:
    with site("reload") as made:
        network.add_pair(made.ns, "extra")
        yield made


@pytest.fixture
def router(made) -> Iterator[Site]:
    made.configure(BOTH)
    try:
        made.start()
        yield made
    finally:
        made.close()


def reload(router: Site):
    return xdprouter("reload", "--netns", router.ns)


def log_of(router: Site) -> str:
    return router.log.read_text()


def test_reloads_under_traffic_lose_nothing(router):
    """Ports come and go, guard, idle time and metrics change: 100,000 packets a second do not notice."""
    texts = [
        'guard = "warn"\nneighbour_idle_s = 5\n' + BOTH,
        BOTH + '[[port]]\nname = "extra"\n',
        'guard = "off"\nmetrics = "127.0.0.1:19474"\non_exit = "detach"\n' + BOTH,
        BOTH,
    ]
    before = router.forwarded()
    with flood(router) as traffic:
        for number in range(RELOADS):
            router.configure(texts[number % len(texts)])
            done = reload(router)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout != "nothing has changed\n"
            now = router.forwarded()
            assert now >= before
            before = now
            traffic.carry(100)
        assert traffic.stop() == 0
    assert router.forwarded() >= traffic.sent
    assert [port["name"] for port in router.status()["ports"]] == list(PORTS)


def test_only_what_is_different_changes(router):
    program, slots = router.status()["program_id"], {p["name"]: p["slot"] for p in router.status()["ports"]}
    router.configure(BOTH + '[[port]]\nname = "extra"\nmode = "generic"\n')
    assert reload(router).stdout == "port extra: generic mode\n"
    wait_until(lambda: xdp(router.ns, "extra"), 30, "the new port")
    status = router.status()
    assert status["program_id"] == program
    assert {p["name"]: p["slot"] for p in status["ports"] if p["name"] in slots} == slots
    router.configure(BOTH)
    assert reload(router).stdout == "port extra removed\n"
    assert not xdp(router.ns, "extra")
    assert reload(router).stdout == "nothing has changed\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('mode = "native"\nguard = \n', "(at line 2, column 9)"),
        ("# a comment\n\nmdoe = 'native'\n", "unknown key 'mdoe'; did you mean 'mode'? (at line 3)"),
        (BOTH + '[[port]]\nname = "extra"\n\nmode = "natve"\n', "(at line 8)"),
        (BOTH + '[[port]]\nname = "in0"\n', "port in0 is given twice (at line 6)"),
        ('metrics = "127.0.0.1:0"\n', "metrics is '127.0.0.1:0'"),
    ],
)
def test_a_broken_file_changes_nothing_and_names_the_line(router, text, says):
    before = router.status()
    router.configure(text)
    done = reload(router)
    assert done.returncode == 2
    assert done.stdout == ""
    assert str(router.config) in done.stderr and says in done.stderr
    assert done.stderr.endswith("; nothing was changed\n") and done.stderr.count("\n") == 1
    after = router.status()
    assert after["in_sync"] and after["program_id"] == before["program_id"]
    assert [port["name"] for port in after["ports"]] == list(PORTS)


def test_what_needs_a_restart_is_said_each_time(router):
    router.configure("cache_entries = 4096\n" + BOTH)
    for _ in range(2):
        assert reload(router).stdout == "needs a restart: cache_entries 262144 -> 4096\n"
    router.end()
    router.start()
    assert reload(router).stdout == "nothing has changed\n"
    assert router.status()["cache"]["entries"] > 0


def test_an_address_in_use_changes_nothing(router):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        router.configure(f'metrics = "127.0.0.1:{taken.getsockname()[1]}"\n[[port]]\nname = "in0"\n')
        done = reload(router)
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr and "nothing was changed" in done.stderr
    assert len(router.status()["ports"]) == 2


def test_sighup_reads_the_file_and_logs_what_is_wrong(router):
    router.configure('[[port]]\nname = "in0"\n')
    router.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: [p["name"] for p in router.status()["ports"]] == ["in0"], 30, "the reload")
    router.configure("guard = 7\n")
    router.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "guard must be text, not 7 (at line 1); nothing was changed" in log_of(router), 30, "the error")
    assert [p["name"] for p in router.status()["ports"]] == ["in0"]


def test_on_exit_is_as_in_the_file_read_last(router):
    router.configure('on_exit = "detach"\n' + BOTH)
    assert reload(router).stdout == "on_exit keep -> detach\n"
    router.end()
    assert not router.instance.directory.exists()


def test_a_port_without_a_device_waits_for_it(router):
    router.configure(BOTH + '[[port]]\nname = "later"\n')
    assert reload(router).returncode == 0
    (later,) = [port for port in router.status()["ports"] if port["name"] == "later"]
    assert later["state"] == "absent"
