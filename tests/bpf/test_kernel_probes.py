# SPDX-License-Identifier: GPL-2.0-only
"""The probes of controlplane/kernel.py, on the kernel that runs the tests."""

import os
import subprocess
import threading

import pytest

from controlplane import compiler, kernel
from controlplane.errors import ControlPlaneError
from controlplane.libbpf import BPF_ATTACH_XDP, BPF_F_XDP_HAS_FRAGS, BPF_PROG_TYPE_XDP
from controlplane.namespace import in_throwaway_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF")


def test_what_xdprouter_needs_is_there():
    """Or none of the other tests would run."""
    needed = [name for name, feature in kernel.FEATURES.items() if feature.needed]
    assert {name: bool(found) for name, found in kernel.probe(needed).items()} == dict.fromkeys(needed, True)


@pytest.mark.parametrize(
    ("feature", "command"),
    [
        ("vlan", "ip link add link p name x type vlan id 5"),
        ("vrf", "ip link add x type vrf table 10"),
        ("bond", "ip link add x type bond"),
        ("managed_neighbours", "ip neigh add 192.0.2.1 dev p managed"),
    ],
)
def test_iproute2_agrees(feature, command):
    def try_it() -> int:
        subprocess.run("ip link add p up type veth peer name q && ip link set q up", shell=True, check=True)
        return subprocess.run(command.split(), capture_output=True).returncode

    assert bool(kernel.probe([feature])[feature]) == (in_throwaway_namespace(try_it) == 0)


def test_the_fib_flags_are_told_apart():
    """A flag that no kernel has is refused, so the answer is the flag's and not the lookup's."""
    codes = in_throwaway_namespace(lambda: [kernel._fib_code(flags) for flags in (0, 1 << 30)])
    assert codes[0] >= 0
    assert codes[1] == -22


def test_frags_by_libbpf_as_by_hand():
    libbpf = compiler.libbpf_of_bcc()
    code = bytes.fromhex("b7000000020000009500000000000000")
    fd = libbpf.load(BPF_PROG_TYPE_XDP, "x", code, flags=BPF_F_XDP_HAS_FRAGS, attach_type=BPF_ATTACH_XDP)
    os.close(fd)
    assert kernel.probe(["xdp_frags"])["xdp_frags"]


def test_nothing_stays():
    """No descriptor, no thread, and the namespace that this thread is in is the one it was in."""

    def state() -> tuple:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        return sorted(names), threading.active_count(), os.readlink("/proc/thread-self/ns/net")

    kernel.probe()
    before = state()
    kernel._answers.clear()
    kernel.probe()
    assert state() == before


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_what_the_work_raises_comes_out():
    def fail():
        raise ControlPlaneError("so it is")

    with pytest.raises(ControlPlaneError, match="so it is"):
        in_throwaway_namespace(fail)
