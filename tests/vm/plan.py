# SPDX-License-Identifier: GPL-2.0-only
"""What is tested in guests, and what their kernels must have."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests import features
from tests.vm.guest import SHARE

ROOT = Path(__file__).resolve().parent.parent.parent
KERNELS = ("6.1", "6.12", "7")
_COMMON = features.FEATURES - {"netfilter_hooks", "xdp_features"}
MUST_HAVE = {
    "6.1": _COMMON,
    "6.12": features.FEATURES,
    "7": features.FEATURES,
}
"""Kernel -> names of tests/features.py; a test that misses one of them fails instead of being skipped."""
PATIENCE = 20
"""XDPROUTER_LAB_PATIENCE: the daemon is ready after half a minute, or two when others use the machine."""
TEST_TIMEOUT_S = 600


@dataclass(frozen=True)
class Part:
    """One guest's worth of tests. Compiling takes ten seconds each time there, starting the daemon half a minute."""

    name: str
    arguments: tuple[str, ...]
    """Of pytest"""
    timeout_s: float


VERIFIER = Part("verifier", ("tests/bpf/test_features.py", "tests/bpf/test_variants.py"), 900)
IN_THE_SUITE = (
    Part("verifier", ("tests/bpf/test_variants.py", "-k", "none-1024 or VLAN-UPPER-BRIDGE-VRF-1024"), 200),
    Part("lab", ("tests/lab/test_two_hosts.py::test_every_packet_arrives_rewritten_and_on_the_fast_path",), 400),
)
"""The program as most have it, and the largest; and packets that cross a router"""
PACKETS = Part("packets", ("tests/bpf/test_packet_table.py", "tests/bpf/test_structs.py"), 800)
CACHED = Part("cached", ("tests/bpf/test_cached_packet_table.py",), 900)
LAB = Part(
    "lab",
    (
        "tests/lab/test_two_hosts.py::test_every_packet_arrives_rewritten_and_on_the_fast_path",
        "tests/lab/test_frr_bgp.py",
    ),
    600,
)
VLANS = Part("vlans", ("tests/lab/test_vlan.py", "tests/lab/test_qinq.py"), 700)
VRFS = Part("vrfs", ("tests/lab/test_vrf.py", "tests/lab/test_home_router.py"), 700)
BONDS = Part("bonds", ("tests/lab/test_bond.py",), 900)
LINKS = (VLANS, VRFS, BONDS)
"""What the machine's own kernel may lack"""
PARTS = (CACHED, BONDS, VLANS, VRFS, PACKETS, LAB, VERIFIER)
"""Of `make test-vm`, the longest first"""


def command(part: Part) -> list[str]:
    """Of the guest, in ROOT; its JUnit report goes to the shared directory."""
    return [
        sys.executable, "-m", "pytest", "-q", "--durations=15", "-p", "no:cacheprovider", "-o", f"timeout={TEST_TIMEOUT_S}",
        f"--junitxml={SHARE}/junit.xml", *part.arguments,
    ]  # fmt: skip


def environment(must_have: Iterable[str]) -> dict[str, str]:
    return {
        features.EXPECTED: " ".join(sorted(must_have)),
        "XDPROUTER_LAB_PATIENCE": str(PATIENCE),
    }
