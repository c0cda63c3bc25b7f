# SPDX-License-Identifier: GPL-2.0-only
"""The bpffs of an instance, and whose mounts it is among."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.command import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")

OPEN_AND_REMOVE = """
import logging, sys
from pathlib import Path
from controlplane.pins import PinDirectory
logging.basicConfig()
pins = PinDirectory(Path(sys.argv[1]))
pins.open()
pins.remove()
"""
HIDDEN_COPY = ["sh", "-ec", 'mkdir "$0/bpf"; mount -t bpf bpf "$0/bpf"; mount --rbind "$0" "$0"; exec "$@"']
"""As a sandbox has it that makes a directory writable: removing the visible mount leaves one below"""


def opened(directory: Path, *prefix: str) -> subprocess.CompletedProcess:
    command = [*prefix, sys.executable, "-c", OPEN_AND_REMOVE, str(directory)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_who_mounts_for_itself_alone_is_warned(tmp_path):
    """Ports and counters would be gone with the service."""
    # Not exec: what it is a copy of must stay.
    sandbox = ["sh", "-ec", 'mount --make-rshared /; unshare --mount --propagation slave "$@"; true', "sh"]
    done = opened(tmp_path, "unshare", "--mount", *sandbox)
    assert done.returncode == 0 and "ports leave XDP and counters are lost when it ends" in done.stderr


def test_who_mounts_for_all_is_not(tmp_path):
    done = opened(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "bpf").exists()


def test_a_mount_that_is_not_ours_to_remove_is_left(tmp_path):
    done = opened(tmp_path, "unshare", "--mount", *HIDDEN_COPY, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "bpf").exists()
