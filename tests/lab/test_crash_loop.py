# SPDX-License-Identifier: GPL-2.0-only
"""A daemon that is killed again and again, also while it starts, takes nothing along."""

import random
import subprocess
import sys

import pytest

from tests.lab.conftest import xdp
from tests.lab.flood import PORTS, flood, site
from xdprouter import api
from xdprouter.bench import network

pytestmark = pytest.mark.alone

CRASHES = 20
LONGEST_S = 2.5
"""Of a life: a start takes about one."""


@pytest.mark.timeout(600)
def test_a_crash_loop_loses_nothing():
    """Routes, ports and counters stay, and every packet arrives."""
    chance = random.Random(20)
    with site("crash") as router:
        network.ip(router.ns, "route add 10.8.0.0/16 via 10.0.1.2", "route add blackhole 10.9.9.0/24")
        router.start()
        argv = [sys.executable, "-m", "xdprouter", "run", "--netns", router.ns, "-c", str(router.config)]
        with flood(router) as traffic:
            traffic.carry(1000)
            before = router.forwarded()
            router.kill()
            for _ in range(CRASHES):
                with router.log.open("ab") as log:
                    daemon = subprocess.Popen(argv, stdout=log, stderr=log)
                try:
                    daemon.wait(chance.uniform(0, LONGEST_S))  # not a wait for anything: the moment of its death
                    pytest.fail(f"the daemon ended by itself:\n{router.log.read_text()[-2000:]}")
                except subprocess.TimeoutExpired:
                    pass
                finally:
                    daemon.kill()
                    daemon.wait()
                assert all(xdp(router.ns, port) for port in PORTS)
                traffic.carry(100)
            router.start()
            status = router.status()
            assert status["in_sync"] and [port["name"] for port in status["ports"]] == list(PORTS)
            assert router.forwarded() >= before
            assert traffic.stop() == 0
        assert router.forwarded() >= traffic.sent
        assert status["fib"]["ipv4_routes"] >= 4
        assert [entry["prefix"] for entry in router.ask(api.BlackholesRequest())["busiest"]] == ["10.9.9.0/24"]
