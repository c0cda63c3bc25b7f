# SPDX-License-Identifier: GPL-2.0-only
r"""`python -m tests.bench.next_hops`: what the daemon costs while very many next hops carry traffic.

    far (host) --- in0 [ router with a daemon ] out0 --- near (10.200/16 is all its own)

The kernel's neighbour table has one limit for the whole machine (gc_thresh3, 1,024 as it comes), which is not
ours to raise. So the entries are marked `extern_learn` besides: such do not count. They stay REACHABLE for the
length of the run, since a request of the daemon would take that mark away; what requests cost is measured apart,
with few entries, and added for the rate that the default base_reachable_time of 30 s makes.
"""

import argparse
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from controlplane import neighbour
from controlplane.netlink import NLM_F_CREATE, NetlinkSocket
from controlplane.next_hop import NextHop
from lab import instance, namespace
from lab.network import make_ready_for_xdp, wait_until_usable, write_sysctls
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.bench import network
from xdprouter.instance import Instance

SENT_PER_S = 10_000
FEW = 256
QUESTION_EVERY_S = 25
"""of each next hop: half to one and a half base_reachable_time, and some seconds"""
_ROUTER_SYSCTLS = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0"}


def main() -> int:
    args = _arguments()
    if args.send:
        return _send(args.next_hops)
    if os.geteuid() != 0:
        print("not root: the benchmark makes network namespaces and loads BPF programs", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        names = [f"xdprouter-hops-{os.getpid()}-{part}" for part in ("far", "router", "near")]
        for ns in names:
            namespace.create(ns)
            stack.callback(namespace.delete, ns)
        _build(*names)
        far, router, _ = names
        question_s = _cost_of_a_question(router)
        stack.callback(instance.remove_state, router)
        log = Path("/run/xdprouter-lab") / router
        stack.callback(shutil.rmtree, log, ignore_errors=True)
        daemon = instance.start(router, ["in0", "out0"], log)
        stack.callback(instance.stop, log)
        idle = _cpu_share(daemon.pid, args.seconds)
        _resolve(router, args.next_hops)
        command = [sys.executable, "-m", "tests.bench.next_hops", "--send", "--next-hops", str(args.next_hops)]
        sender = namespace.popen(far, command)
        stack.callback(_end, sender)
        wait_until(lambda: _carrying(router) >= 0.99 * args.next_hops, 60, "all next hops to carry traffic")
        busy = _cpu_share(daemon.pid, args.seconds)
        asking = args.next_hops / QUESTION_EVERY_S * question_s
        print(f"the daemon without next hops: {idle:.2%} of a core")
        print(f"with {_carrying(router):,} that carry traffic: {busy:.2%}")
        print(f"a question and its `managed`: {1e6 * question_s:.1f} us, so about {asking:.2%} more")
    return 0


def _build(far: str, router: str, near: str) -> None:
    write_sysctls(router, _ROUTER_SYSCTLS)
    for ns, port, address, peer in ((router, "in0", "10.0.0.1/24", far), (router, "out0", "10.200.0.1/16", near)):
        network.ip(ns, f"link add {port} type veth peer name eth0 netns {peer}")
        for end, device in ((ns, port), (peer, "eth0")):
            make_ready_for_xdp(end, device)
        network.ip(ns, f"addr add {address} dev {port}", f"link set {port} up")
        network.ip(peer, "link set eth0 up", "link set lo up")
    network.ip(far, "addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1")
    # All but the router itself, whose packets would be martians if they were near's too.
    network.ip(near, "addr add 10.200.255.254/32 dev lo", "route add 10.200.0.1/32 dev eth0 table main")
    network.ip(near, "route add local 10.200.0.0/16 dev lo table main")
    wait_until_usable(router, ["in0", "out0"])  # a late carrier event would throw all neighbours away
    write_sysctls(router, {"net.ipv4.neigh.out0.base_reachable_time_ms": "3600000"})


def _hop(ifindex: int, number: int) -> NextHop:
    return NextHop(ifindex, socket.AF_INET, (0x0AC80010 + number).to_bytes(4, "big"))


def _resolve(router: str, count: int) -> None:
    with namespace.entered(router), NetlinkSocket() as sock:
        ifindex = socket.if_nametoindex("out0")
        requests = []
        for number in range(count):
            payload = bytearray(neighbour.manage(_hop(ifindex, number)).payload)
            payload[10] |= neighbour.NTF_EXT_LEARNED  # ndm_flags
            requests.append((bytes(payload), NLM_F_CREATE))
        sock.batch(neighbour.RTM_NEWNEIGH, requests)

        def resolved() -> bool:
            table = neighbour.read(sock)
            return sum(entry.state == neighbour.REACHABLE for entry in table.values()) >= count

        wait_until(resolved, 60, "the neighbours to be resolved")


def _cost_of_a_question(router: str) -> float:
    """Seconds of CPU for one next hop: asked, and managed again."""
    with namespace.entered(router), NetlinkSocket() as sock:
        ifindex = socket.if_nametoindex("out0")
        hops = [_hop(ifindex, 60_000 - number) for number in range(FEW)]
        neighbour.send(sock, [neighbour.manage(hop) for hop in hops])

        def resolved() -> bool:
            table = neighbour.read(sock)
            return all(table[hop].state == neighbour.REACHABLE for hop in hops)

        wait_until(resolved, 20, "the neighbours to be resolved")
        before = time.thread_time()
        for _ in range(10):
            neighbour.send(sock, [request for hop in hops for request in (neighbour.probe(hop), neighbour.manage(hop))])
        cost = (time.thread_time() - before) / (10 * FEW)
        network.ip(router, "neigh flush dev out0 nud all")
        return cost


def _carrying(router: str) -> int:
    neighbours = client.ask(Instance(router), api.NeighboursRequest())["neighbours"]
    return sum(found["packets"] > 0 for found in neighbours)


def _cpu_share(pid: int, seconds: float) -> float:
    """Of one core, by process `pid`."""

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, start = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - start)


def _send(count: int) -> int:
    """Be the sender: a datagram to each next hop in turn, in an order without pattern, until ended."""
    order = list(range(count))
    random.Random(1).shuffle(order)
    addresses = [socket.inet_ntoa(_hop(0, number).address) for number in order]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        start, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - start) * SENT_PER_S)
            for number in range(sent, due):
                sock.sendto(struct.pack("=I", number & 0xFFFFFFFF), (addresses[number % count], 9))
            sent = due
            time.sleep(0.002)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.next_hops", description=__doc__.splitlines()[0])
    parser.add_argument("--next-hops", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement; default: 20")
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
