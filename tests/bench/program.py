# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench.program`: the program by itself, frame after frame by BPF_PROG_TEST_RUN, with nothing around it.

The next hop's MAC is the ingress port's own, and both ports have the same tag if any, so a frame that has been forwarded
can be forwarded again until its TTL is used up. What is told is the fastest of many runs, in ns a frame; some 20 of them
are the kernel's loop around it.
"""

import argparse
import ctypes as ct
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.cache_key import Key
from controlplane.dataplane import Dataplane
from controlplane.interface import Interface
from controlplane.libbpf import TestRunOpts, XdpMd
from controlplane.pins import PinDirectory
from controlplane.reconcile import SetInterface, SetTagged, Transmit
from tests import packets
from tests.bpf.network import Namespace
from tests.packets import ROUTER_MAC

REPEAT = 250
CACHE_SETS = 1 << 16
VID = 10
FEATURES = ("VLAN", "UPPER", "BRIDGE", "VRF")
DESTINATIONS = {4: "10.10.0.5", 6: "2001:db8:10::5"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.program", description="Nanoseconds of the program.")
    parser.add_argument("--runs", type=int, default=400, metavar="N", help="of 250 frames each; the fastest counts")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("not root: BPF programs are loaded", file=sys.stderr)
        return 1
    with _network() as ns, ns.entered():
        for what, features, sets, vid in (
            ("no cache", (), 0, 0),
            ("cache, hit", (), CACHE_SETS, 0),
            ("no cache, all features", FEATURES, 0, 0),
            ("cache, hit, all features", FEATURES, CACHE_SETS, 0),
            ("cache, hit, VLAN", ("VLAN",), CACHE_SETS, 0),
            ("cache, hit, VLAN, one tag", ("VLAN",), CACHE_SETS, VID),
        ):
            found = _measure(ns, tuple(f"-DFEATURE_{name}=1" for name in features), sets, vid, args.runs)
            print(f"{what:26}  IPv4 {found[4]:4} ns  IPv6 {found[6]:4} ns")
    return 0


@contextmanager
def _network() -> Iterator[Namespace]:
    ns = Namespace()
    try:
        ns.sysctl(ipv6__conf__default__accept_dad=0, ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        ns.ip(
            f"link add in0 address {ROUTER_MAC} type veth peer name in0p",
            "link add out0 address 02:00:00:00:01:01 type veth peer name out0p",
            *(f"link set {name} up" for name in ("in0", "in0p", "out0", "out0p")),
            "addr add 192.0.2.1/24 dev out0",
            "addr add 2001:db8::1/64 dev out0 nodad",
            f"neigh add 192.0.2.2 dev out0 lladdr {ROUTER_MAC}",
            f"neigh add 2001:db8::2 dev out0 lladdr {ROUTER_MAC}",
            "route add 10.0.0.0/8 via 192.0.2.2",
            "route add 2001:db8:10::/48 via 2001:db8::2",
            family=0,
        )
        yield ns
    finally:
        ns.delete()


def _measure(ns: Namespace, defines: tuple[str, ...], sets: int, vid: int, runs: int) -> dict[int, int]:
    """Family -> nanoseconds a frame."""
    with tempfile.TemporaryDirectory() as directory:
        pins = PinDirectory(Path(directory))
        dataplane = Dataplane(pins, defines, sets)
        try:
            with dataplane.cache as cache:
                cache.configure(Key())
                cache.settle(cache.changes)
                for name, mac in (("in0", ROUTER_MAC), ("out0", "02:00:00:00:01:01")):
                    slot, ifindex = dataplane.slots.assign(name), ns.ifindex(name)
                    dataplane.apply(SetInterface(ifindex, Interface(slot, 1500, mac, ipv6_mtu=1500, tags=vid)))
                    dataplane.apply(Transmit(slot, ifindex))
                    if vid:  # as if the device were a VLAN interface over itself
                        dataplane.apply(SetTagged(ifindex, vid, ifindex))
                ingress = ns.ifindex("in0")
                return {family: _fastest(dataplane, ingress, to, vid, runs) for family, to in DESTINATIONS.items()}
        finally:
            dataplane.close()
            pins.remove()


def _fastest(dataplane: Dataplane, ifindex: int, destination: str, vid: int, runs: int) -> int:
    packet = packets.udp(destination, size=64, **({"ttl": 255} if "." in destination else {"hlim": 255}))
    frame = bytes(packets.vlan(packet, vid) if vid else packet)
    context = XdpMd(data_end=len(frame), ingress_ifindex=ifindex)
    best = sys.maxsize
    for _ in range(runs):
        data = ct.create_string_buffer(frame, len(frame))
        options = TestRunOpts(
            data_in=ct.addressof(data), data_size_in=len(frame), repeat=REPEAT,
            ctx_in=ct.addressof(context), ctx_size_in=ct.sizeof(context),
        )  # fmt: skip
        dataplane.cache.renew()
        dataplane._lib.test_run(dataplane.program_fd, options)
        if options.retval != 4:
            raise RuntimeError(f"{destination}: XDP action {options.retval} instead of XDP_REDIRECT")
        best = min(best, options.duration)
    return best


if __name__ == "__main__":
    sys.exit(main())
