# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench.vlans`: what the daemon costs with very many VLANs on two ports. Needs 8021q.

The start with them is told beside the start of the same daemon with two, since a machine's speed is its own.
"""

import argparse
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from lab import instance, namespace
from lab.errors import LabError
from lab.network import make_ready_for_xdp, wait_until_usable
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.instance import Instance

PORTS = ("left", "right")
WAIT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vlans", description="Very many VLANs on two ports.")
    parser.add_argument("--vlans", type=int, default=1000, metavar="N", help="in all; default: 1000")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("not root: the benchmark makes network namespaces and loads BPF programs", file=sys.stderr)
        return 1
    try:
        few, many = _measure(2), _measure(args.vlans)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    for count, (start_s, rss, added_s) in ((2, few), (args.vlans, many)):
        print(
            f"{count} VLANs: started in {start_s:.2f} s, RSS {rss / 1e6:.0f} MB, one more active after {added_s:.2f} s"
        )
    return 0


def _measure(count: int) -> tuple[float, int, float]:
    """(seconds until all are active, bytes, seconds from `ip link add` until one more is active)"""
    with ExitStack() as stack:
        router, far = (f"xdprouter-vlans-{os.getpid()}-{part}" for part in ("router", "far"))
        for ns in (router, far):
            namespace.create(ns)
            stack.callback(namespace.delete, ns)
        for port in PORTS:
            network.ip(router, f"link add {port} type veth peer name {port} netns {far}")
            for ns in (router, far):
                make_ready_for_xdp(ns, port)
                network.ip(ns, f"link set {port} up")
        wait_until_usable(router, PORTS)
        network.ip(router, *(line for number in range(count) for line in _vlan(PORTS[number % 2], 2 + number // 2)))
        log = Path("/run/xdprouter-lab") / router
        stack.callback(instance.remove_state, router)
        stack.callback(shutil.rmtree, log, ignore_errors=True)
        begun = time.monotonic()
        instance.start(router, PORTS, log)
        stack.callback(instance.stop, log)
        wait_until(lambda: _active(router) == count, WAIT_S, f"{count} VLANs to be active")
        started = time.monotonic() - begun
        rss = client.ask(Instance(router), api.StatusRequest())["daemon"]["rss_bytes"]
        begun = time.monotonic()
        network.ip(router, *_vlan(PORTS[0], 4000))
        wait_until(lambda: _active(router) == count + 1, WAIT_S, "one more VLAN to be active")
        return started, rss, time.monotonic() - begun


def _vlan(port: str, vid: int) -> tuple[str, str]:
    """Lines of `ip -batch`."""
    return f"link add link {port} name {port}.{vid} type vlan id {vid}", f"link set {port}.{vid} up"


def _active(router: str) -> int:
    found = client.ask(Instance(router), api.InterfacesRequest())["interfaces"]
    return sum(entry["kind"] == "vlan" and entry["state"] == "active" for entry in found)


if __name__ == "__main__":
    sys.exit(main())
