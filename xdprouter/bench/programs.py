# SPDX-License-Identifier: GPL-2.0-only
"""The programs of bpf/bench/: compiled with the network's constants, loaded as the router is."""

import ipaddress
import os
from contextlib import ExitStack

from controlplane import libbpf
from controlplane.compiler import compiled
from controlplane.libbpf import Libbpf
from xdprouter.bench import network
from xdprouter.bench.destinations import IMIX, MIX_LARGE, MIX_MEDIUM, MIX_SMALL, turns

MAX_CONTENDERS = 32
LINE_BYTES = 64


class Programs:
    """One C file; `stack` takes it away again. Raises ControlPlaneError."""

    def __init__(self, name: str, lib: Libbpf, stack: ExitStack, sequence: int = 0, defines: tuple[str, ...] = ()):
        self._lib = lib
        self._stack = stack
        self._bcc = compiled(f"bench/{name}.c", (*_defines(sequence), *defines))
        stack.callback(self._bcc.cleanup)

    def table(self, name: str):
        """A map, as BCC has it."""
        return self._bcc[name.encode()]

    def load(self, name: str, kind: int = libbpf.BPF_PROG_TYPE_XDP) -> int:
        """Its fd. With the router's flags: programs that share a prog array or a devmap must agree on them."""
        code = self._bcc.dump_func(name.encode())
        is_xdp = kind == libbpf.BPF_PROG_TYPE_XDP
        flags = {"flags": libbpf.BPF_F_XDP_HAS_FRAGS, "attach_type": libbpf.BPF_ATTACH_XDP} if is_xdp else {}
        fd = self._lib.load(kind, name, code, **flags)
        self._stack.callback(os.close, fd)
        return fd


def _defines(sequence: int) -> tuple[str, ...]:
    """`sequence`: destinations that the generator's map holds, of 8 bytes."""
    constants = {
        "LINES": max(sequence * 8 // LINE_BYTES, 1),
        "MAX_CONTENDERS": MAX_CONTENDERS,
        "SOURCE4": f"{_in_memory_order(ipaddress.ip_address(network.SOURCE[4]).packed):#x}U",
        "SOURCE6": f"{_in_memory_order(ipaddress.ip_address(network.SOURCE[6]).packed[:8]):#x}ULL",
        "INGRESS_VID": network.INGRESS_VID,
        "EGRESS_VID": network.EGRESS_VID,
        "MIX_SMALL": MIX_SMALL,
        "MIX_MEDIUM": MIX_MEDIUM,
        "MIX_LARGE": MIX_LARGE,
        "MIX_TURNS": len(IMIX),
        "MIX_SMALL_TURNS": f"{turns(MIX_SMALL):#x}",
        "MIX_MEDIUM_TURNS": f"{turns(MIX_MEDIUM):#x}",
    }
    for mac in ("ROUTER_MAC", "HOST_MAC", "EGRESS_MAC", "NEXT_HOP_MAC"):
        constants[mac] = f"{_in_memory_order(bytes.fromhex(getattr(network, mac).replace(':', ''))):#x}ULL"
    return tuple(f"-D{key}={value}" for key, value in constants.items())


def _in_memory_order(data: bytes) -> int:
    """The number that a little-endian machine stores as these bytes."""
    return int.from_bytes(data, "little")
