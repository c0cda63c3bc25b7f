# SPDX-License-Identifier: GPL-2.0-only
"""Where the routes come from: raw netlink messages, BIRD, or FRR. Each is a context manager; `run(phase)`
returns the seconds until the last route was done, and the CPU seconds of who writes the kernel's table."""

import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import bird, frr, namespace, process
from lab.lab import Lab
from lab.wait import wait_until
from xdprouter.bench.routes import RouteMessages, RouteSocket

GATEWAY = {4: "10.9.0.2", 6: "fd09::2"}
OTHER_GATEWAY = {4: "10.9.0.3", 6: "fd09::3"}
ROUTER = {4: "10.9.0.1", 6: "fd09::1"}
MESSAGES_PER_SEND = 1000
_QUIET_S = 0.5
_POLL_S = 0.05
_BOUND_S = 120


def prefixes(family: int, count: int) -> list[tuple[int, int]]:
    """(address, length) of /24 from 32.0.0.0 on, or of /64 in 2001:db8::/32."""
    if family == 4:
        return [(0x20 << 24 | number << 8, 24) for number in range(count)]
    return [((0x20010DB8 << 32 | number) << 64, 64) for number in range(count)]


class Raw:
    """Messages made beforehand, a thousand to a send, no acknowledgements. Sent again, each route has another gateway:
    the same would be no change to the kernel."""

    name = "raw netlink"
    phases = ("arrive", "resend", "withdraw")

    def __init__(self, lab: Lab, family: int, count: int):
        self._ns, self._family = lab.ns("r1"), family
        self._prefixes = prefixes(family, count)

    def __enter__(self) -> "Raw":
        with namespace.entered(self._ns):
            self._messages = RouteMessages(
                self._family, [GATEWAY[self._family], OTHER_GATEWAY[self._family]], socket.if_nametoindex("up")
            )
            self._socket = RouteSocket()
        self._chunks = {
            "arrive": list(self._joined(self._messages.add)),
            "resend": list(self._joined(lambda prefix: self._messages.replace(prefix, 1))),
            "withdraw": list(self._joined(self._messages.delete)),
        }
        return self

    def __exit__(self, *_) -> None:
        self._socket.__exit__()

    def _joined(self, message) -> Iterator[bytes]:
        for start in range(0, len(self._prefixes), MESSAGES_PER_SEND):
            yield b"".join(map(message, self._prefixes[start : start + MESSAGES_PER_SEND]))

    def run(self, phase: str) -> tuple[float, float]:
        start, used = time.perf_counter(), time.thread_time()
        for chunk in self._chunks[phase]:
            self._socket.send(chunk)
        return time.perf_counter() - start, time.thread_time() - used


class _Bgp:
    """A BIRD on the feeder that announces and withdraws the table over a session that stays up, and a speaker on r1.
    Over is when the process that writes the kernel's table has come to rest."""

    phases = ("arrive", "withdraw")

    def __init__(self, lab: Lab, family: int, count: int):
        self._lab, self._family, self._count = lab, family, count
        self._feeder = lab.directory("feeder") / f"feed{family}-{count}"
        self._router = lab.directory("r1") / f"{type(self).__name__.lower()}{family}-{count}"

    def __enter__(self) -> "_Bgp":
        self._start_router()
        bird.start(self._lab.ns("feeder"), self._feeder, _feeder_config(self._family, self._count))
        session = lambda: self._birdc(self._feeder, "feeder", "show protocols feeding")  # noqa: E731
        wait_until(lambda: "Established" in session(), _BOUND_S, "the session with the feeder")
        return self

    def __exit__(self, *_) -> None:
        process.end([*process.inside(namespace.path(self._lab.ns("feeder"))), *self._processes()])

    def run(self, phase: str) -> tuple[float, float]:
        wanted = self._count if phase == "arrive" else 0
        start = last = time.perf_counter()
        before = ticks = _ticks(self._writer())
        self._birdc(self._feeder, "feeder", "enable whole_table" if phase == "arrive" else "disable whole_table")
        while True:
            time.sleep(_POLL_S)
            now = time.perf_counter()
            if (current := _ticks(self._writer())) != ticks:
                ticks, last = current, now
            if now - last > _QUIET_S and self._installed() == wanted:
                return last - start, (ticks - before) / os.sysconf("SC_CLK_TCK")
            if now - start > _BOUND_S:
                raise TimeoutError(f"{self.name}: {self._installed()} routes instead of {wanted}")

    def _birdc(self, directory: Path, node: str, command: str) -> str:
        return self._lab.exec(node, bird.birdc_command(directory, *command.split())).stdout


class Bird(_Bgp):
    name = "BIRD"

    def _start_router(self) -> None:
        bird.start(self._lab.ns("r1"), self._router, _router_config(self._family))
        pid_file = self._router / "bird.pid"
        self._pid = int(wait_until(pid_file.read_text, _BOUND_S, "BIRD's pid"))

    def _processes(self) -> list[process.Process]:
        return [found] if (found := process.Process.of(self._pid)) else []

    def _writer(self) -> int:
        return self._pid

    def _installed(self) -> int:
        text = self._birdc(self._router, "r1", "show protocols all kernel1")
        line = next((line for line in text.splitlines() if "exported" in line), "0 exported")
        words = line.replace(",", "").split()
        return int(words[words.index("exported") - 1])


class Frr(_Bgp):
    name = "FRR"

    def _start_router(self) -> None:
        gateway = GATEWAY[self._family]
        unicast = f"ipv{self._family} unicast"
        frr.start(
            self._lab.ns("r1"), self._router,
            f"hostname r1\nrouter bgp 65001\n bgp router-id 10.255.0.1\n no bgp ebgp-requires-policy\n"
            f" no bgp default ipv4-unicast\n neighbor {gateway} remote-as 65002\n neighbor {gateway} timers connect 1\n"
            f" address-family {unicast}\n  neighbor {gateway} activate\n exit-address-family\n",
        )  # fmt: skip

    def _processes(self) -> list[process.Process]:
        pids = [int(path.read_text()) for path in self._router.glob("*.pid")]
        return [found for pid in pids if (found := process.Process.of(pid))]

    def _writer(self) -> int:
        return int((self._router / "zebra.pid").read_text())

    def _installed(self) -> int:
        ip = "ip" if self._family == 4 else "ipv6"
        command = frr.vtysh_command(self._router, "-c", f"show {ip} route summary json")
        routes = json.loads(self._lab.exec("r1", command).stdout)["routes"]
        return sum(entry["fib"] for entry in routes if entry["type"] == "ebgp")


FEEDS = {"raw": Raw, "bird": Bird, "frr": Frr}


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    return _ticks(pid) / os.sysconf("SC_CLK_TCK")


@contextmanager
def feed(kind: str, lab: Lab, family: int, count: int):
    with FEEDS[kind](lab, family, count) as made:
        yield made


def _feeder_config(family: int, count: int) -> str:
    gateway, peer, channel = GATEWAY[family], ROUTER[family], f"ipv{family}"
    address = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    routes = "".join(f"route {address(number)}/{length} blackhole;\n" for number, length in prefixes(family, count))
    return f"""router id 10.255.0.9;
protocol device {{ scan time 10; }}
protocol static whole_table {{ disabled; {channel};
{routes}}}
protocol bgp feeding {{
    local {gateway} as 65002;
    neighbor {peer} as 65001;
    connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;
    {channel} {{ import none; export all; next hop self; }};
}}
"""


def _router_config(family: int) -> str:
    channel = f"ipv{family}"
    return f"""router id 10.255.0.1;
protocol device {{ scan time 10; }}
protocol kernel {{ {channel} {{ export where source = RTS_BGP; }}; scan time 3600; }}
protocol bgp learned {{
    local {ROUTER[family]} as 65001;
    neighbor {GATEWAY[family]} as 65002;
    connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;
    {channel} {{ import all; export none; }};
}}
"""
