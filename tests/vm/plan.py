# SPDX-License-Identifier: GPL-2.0-only
"""What is tested in guests, and what their kernels must have."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests import features
from tests.vm import programs
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
    environment: Mapping[str, str] = field(default_factory=dict)
    kernels: tuple[str, ...] = KERNELS


_VERIFIER = ("tests/vm/verifier.py", "tests/bpf/test_features.py")
_TWO_HOSTS = "tests/lab/test_two_hosts.py::test_every_packet_arrives_rewritten_and_on_the_fast_path"
_LINKS = tuple(f"tests/lab/test_{name}.py" for name in ("vlan", "qinq", "vrf", "home_router"))
_BONDS = "tests/lab/test_bond.py"
_CONFORMANCE = "tests/conformance/test_conformance.py"
_FRR = "tests/lab/test_frr_bgp.py"
_UNIT = Part("unit", ("tests/lab/test_unit.py",), 700, kernels=("6.12",))
"""systemd and its sandbox, which are much the same on every kernel"""

IN_THE_SUITE = (Part("verifier", _VERIFIER, 300), Part("lab", (_TWO_HOSTS,), 400))
"""Of `make test`: every program, and packets that cross a router"""

_IN_TURN = tuple(
    zip(
        KERNELS,
        ("802.3ad", "active-backup", "balance-xor"),
        ("test_qinq", "test_home_router", "first_vlan"),
        strict=True,
    )
)
"""Kernel, mode of bonds, lab: the conformance run has bonds, two tags and bridges on each kernel."""
PARTS = (
    Part("links", (*_LINKS, "-k", "(test_vlan or test_vrf) and not (first_vlan or explain_is)"), 1200),
    Part("conformance", (_CONFORMANCE, "-k", "each or jumbo"), 900, {"CONFORMANCE_PACKETS": "1000"}),
    Part(
        "programs",
        (*_VERIFIER, "tests/bpf/test_cached_packet_table.py", "-k", "not wide"),
        900,
    ),
    *(
        Part("turn", (_BONDS, *_LINKS, "-k", f"{mode} or ({lab} and not untagged)"), 900, kernels=(kernel,))
        for kernel, mode, lab in _IN_TURN
    ),
)
"""Of `make test-vm`, the longest first; each has all of it only in `make test-vm-full`. FRR runs in the VRFs."""

EVERYTHING = (
    Part("conformance", (_CONFORMANCE, "-k", "links"), 3600, {"CONFORMANCE_PACKETS": "20000"}),
    Part("bonds", (_BONDS,), 1800),
    Part("links", _LINKS, 1800),
    Part("packets", ("tests/bpf/test_packet_table.py", "tests/bpf/test_structs.py"), 1200),
    Part("cached", ("tests/bpf/test_cached_packet_table.py",), 1200),
    Part("lab", (_TWO_HOSTS, _FRR), 900),
    _UNIT,
    Part("verifier", (*_VERIFIER, "tests/bpf/test_variants.py"), 1200),
)
"""Of `make test-vm-full`, an hour and more"""


def command(part: Part) -> list[str]:
    """Of the guest, in ROOT; its JUnit report goes to the shared directory."""
    return [
        sys.executable, "-m", "pytest", "-q", "--durations=15", "-p", "no:cacheprovider", "-o", f"timeout={TEST_TIMEOUT_S}",
        f"--junitxml={SHARE}/junit.xml", *part.arguments,
    ]  # fmt: skip


def environment(must_have: Iterable[str], recorded: Path | None = None) -> dict[str, str]:
    """`recorded`: the programs of tests/vm/programs.py."""
    found = {features.EXPECTED: " ".join(sorted(must_have)), "XDPROUTER_LAB_PATIENCE": str(PATIENCE)}
    return found | ({programs.RECORDED: str(recorded)} if recorded else {})
