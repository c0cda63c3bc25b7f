# SPDX-License-Identifier: GPL-2.0-only
"""The command as a person types it, and what `status` says."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 60


def xdprouter(*arguments: str | bytes, **options) -> subprocess.CompletedProcess:
    """`xdprouter ARGUMENTS`, its output captured as text; `options` as for subprocess.run."""
    command = [sys.executable, "-m", "xdprouter", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, **options)


def status(ns: str) -> dict:
    done = xdprouter("status", "--json", "--netns", ns)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)
