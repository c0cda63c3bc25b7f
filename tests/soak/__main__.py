# SPDX-License-Identifier: GPL-2.0-only
"""`make soak`: ten minutes of link flaps, route and neighbour churn, guard rules, ports that come and go, and API load at once,
beside a quiet pair of ports that carries traffic all the time.

At the end nothing may have leaked (file descriptors, maps, programs, memory within 5 %), the daemon must be in sync, and of
the quiet pair's packets none may be lost. Exit code 1 says that something was.
"""

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable

from lab.wait import wait_until
from tests.lab.flood import PORTS, Site, flood, site
from tests.soak.census import Census
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.errors import XdprouterError

RATE = 50_000
WARM_UP_S = 10.0
BUSY = ("flap0", "flap1")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=RATE, help="packets a second on the quiet pair")
    args = parser.parse_args()
    with site("soak") as made:
        for number, port in enumerate(BUSY):
            network.add_pair(made.ns, port)
            network.ip(made.ns, f"addr add 10.7.{number}.1/24 dev {port}")
        made.configure("".join(f'[[port]]\nname = "{port}"\n' for port in (*PORTS, *BUSY)))
        made.start()
        return run(made, args.seconds, args.rate)


def run(router: Site, seconds: float, rate: int) -> int:
    with flood(router, rate) as traffic:
        troubles = Troubles(router)
        troubles.run(WARM_UP_S)  # what is made once and kept is no leak
        settle(router)
        before = Census.take(router.daemon.pid)
        troubles.run(seconds)
        settle(router)
        after = Census.take(router.daemon.pid)
        lost = traffic.stop()
    status = router.status()
    leaks = before.leaks(after)
    print(f"{seconds:.0f} s: {', '.join(f'{number} {name}' for name, number in sorted(troubles.done.items()))}")
    print(f"before: {before}\nafter:  {after}")
    print(f"quiet pair: {traffic.sent} packets, {traffic.sent / traffic.seconds:.0f}/s, {lost} lost")
    failures = [*leaks, *troubles.failures]
    if lost:
        failures.append(f"{lost} packets lost on the quiet pair")
    if not status["in_sync"]:
        failures += status["out_of_sync_reasons"]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def settle(router: Site) -> None:
    """All four ports as they were, and the daemon done with what has happened."""
    wait_until(lambda: all(port["state"] == "active" for port in router.status()["ports"]), 60, "the ports")
    wait_until(lambda: not router.status()["guard"]["findings"], 60, "the guard")


class Troubles:
    """Each in a thread of its own; `done` counts what was done by each, `failures` are those of the daemon's answers."""

    def __init__(self, router: Site):
        self._router = router
        self._stop = threading.Event()
        self.done: dict[str, int] = {}
        self.failures: list[str] = []
        self._makers: dict[str, Callable[[int], None]] = {
            "link flaps": self._flap,
            "route changes": self._routes,
            "neighbour changes": self._neighbours,
            "guard rules": self._rules,
            "ports made anew": self._port,
            "requests": self._ask,
            "malformed requests": self._malformed,
            "reloads": self._reload,
        }

    def run(self, seconds: float) -> None:
        self._stop.clear()
        threads = [threading.Thread(target=self._repeat, args=entry) for entry in self._makers.items()]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()

    def _repeat(self, name: str, make: Callable[[int], None]) -> None:
        number = 0
        try:
            while not self._stop.wait(0.05 + 0.1 * random.random()):
                make(number)
                number += 1
        except Exception as error:
            self.failures.append(f"{name}: {error!r}")
        self.done[name] = self.done.get(name, 0) + number

    def _ip(self, *lines: str) -> None:
        network.ip(self._router.ns, *lines)

    def _flap(self, number: int) -> None:
        self._ip("link set flap0 down", "link set flap0 up")

    def _routes(self, number: int) -> None:
        routes = [f"10.{64 + number % 64}.{third}.0/24" for third in range(200)]
        self._ip(*(f"route add {route} dev out0 via {network.next_hops(4, 1)[0]}" for route in routes))
        self._ip(*(f"route del {route}" for route in routes))

    def _neighbours(self, number: int) -> None:
        hosts = [f"10.0.1.{host}" for host in range(100, 200)]
        mac = f"02:00:00:00:0b:{number % 256:02x}"
        self._ip(*(f"neigh replace {host} dev out0 lladdr {mac} nud reachable" for host in hosts))
        self._ip(*(f"neigh del {host} dev out0" for host in hosts))

    def _rules(self, number: int) -> None:
        """tc on a port that is not of the quiet pair: a rule for all of them would take that pair off the fast path."""
        from lab import namespace

        for command in ("add", "del"):
            argv = ["tc", "qdisc", command, "dev", "in0p" if number % 2 else "out0p", "clsact"]
            done = namespace.run(self._router.ns, argv)
            assert done.returncode == 0, done.stderr
        nft = f"add table netdev soak{number}; delete table netdev soak{number}"
        namespace.run(self._router.ns, ["nft", nft], check=True)

    def _port(self, number: int) -> None:
        self._ip("link del flap1")
        network.add_pair(self._router.ns, "flap1")
        self._ip("addr add 10.7.1.1/24 dev flap1")

    def _ask(self, number: int) -> None:
        for request in (api.StatusRequest(), api.NeighboursRequest(), api.BlackholesRequest(), api.InterfacesRequest()):
            self._router.ask(request)

    def _malformed(self, number: int) -> None:
        import zmq

        with zmq.Context() as context, context.socket(zmq.REQ) as sock:
            sock.setsockopt(zmq.LINGER, 0)
            sock.connect(f"ipc://{self._router.instance.socket}")
            sock.send(random.randbytes(random.randrange(2000)))
            if number % 2:  # the others go away before the answer
                assert sock.poll(client.TIMEOUT_MS), "no answer"
                assert b"error" in sock.recv()

    def _reload(self, number: int) -> None:
        ports = "".join(f'[[port]]\nname = "{port}"\n' for port in (*PORTS, *BUSY))
        self._router.configure(f"neighbour_idle_s = {5 + number % 2}\n{ports}")
        self._router.ask(api.ReloadRequest())
        self._router.configure("broken")
        try:
            self._router.ask(api.ReloadRequest())
        except XdprouterError:
            return
        raise AssertionError("a broken file was taken")


if __name__ == "__main__":
    sys.exit(main())
