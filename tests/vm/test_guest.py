# SPDX-License-Identifier: GPL-2.0-only
"""Linux 6.1 in a guest: what the ordinary suite runs of it, and that a guest which fails is seen to fail."""

import os
import shutil

import pytest

from tests.vm import kernels, plan, run
from tests.vm.errors import GuestError
from tests.vm.guest import QEMU, Guest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the guest runs on the machine's own root"),
    pytest.mark.timeout(600),
]
KERNEL = "6.1"


@pytest.fixture(scope="module")
def kernel():
    assert shutil.which(QEMU), f"{QEMU} is not installed: make setup installs it"
    return kernels.fetch(KERNEL)


def test_the_parts_of_the_plan_pass(kernel, tmp_path):
    results = list(run.run([KERNEL], plan.IN_THE_SUITE, tmp_path))
    assert len(results) == len(plan.IN_THE_SUITE)
    for result in results:
        assert not result.problems, f"{result}\n{result.problems}\n{result.tail}"
        assert result.passed


def test_a_command_runs_on_this_root_and_changes_nothing(kernel, tmp_path):
    mark = tmp_path / "mark"
    script = f"uname -r; touch {mark}; echo done >&2; exit 7"
    outcome = Guest(kernel, tmp_path / "share").run(["sh", "-c", script], 30, cwd=tmp_path)
    assert (outcome.code, outcome.output) == (7, f"{kernel.release}\ndone\n")
    assert not mark.exists()


def test_a_command_without_an_end_is_ended(kernel, tmp_path):
    assert Guest(kernel, tmp_path).run(["sleep", "600"], 1).code == 124


def test_a_panic_is_said_in_one_line(kernel, tmp_path):
    crash = "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"
    with pytest.raises(GuestError, match=rf"^Linux {kernel.release}: .*Kernel panic.*sysrq") as panic:
        Guest(kernel, tmp_path).run(["sh", "-c", crash], 30)
    assert "Kernel panic" in panic.value.console


def test_a_guest_that_says_nothing_is_switched_off(kernel, tmp_path, monkeypatch):
    """PID 1 itself is stopped: no time limit inside helps."""
    monkeypatch.setattr("tests.vm.guest.BOOT_S", 15)
    with pytest.raises(GuestError, match=rf"^Linux {kernel.release}: no result after 1\d s, switched off$"):
        Guest(kernel, tmp_path).run(["sh", "-c", "echo s >/proc/sysrq-trigger; exec busybox halt -fn"], 1)
