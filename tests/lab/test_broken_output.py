# SPDX-License-Identifier: GPL-2.0-only
"""Commands whose output is taken by nobody: one line and an exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import instance, namespace
from lab.wait import wait_until
from tests.lab.command import ROOT, TIMEOUT_S

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
BOUND_S = 30.0
FULL = "cannot write to the standard output: No space left on device"
CLOSED = "the standard output is closed: there is nowhere to write to"
SHOWING = [
    "status", "status --json", "ports --json", "interfaces", "neighbours", "blackholes --json",
    "explain 10.1.0.2 10.2.0.2", "explain --json 10.1.0.2 10.2.0.2", "doctor", "doctor --json", "attach left",
]  # fmt: skip
ASKING_NOBODY = ["--help", "explain --help", "--version", "lab list", "completion bash"]


@pytest.fixture(scope="module")
def served(bare_lab) -> Iterator[str]:
    """The namespace of a daemon."""
    name, directory = bare_lab.ns("r1"), bare_lab.directory("r1")
    instance.start(name, ["left", "right"], directory)
    yield name
    instance.stop(directory)
    instance.remove_state(name)


def command(line: str, ns: str = "") -> list[str]:
    return [sys.executable, "-m", "xdprouter", *line.split(), *(["--netns", ns] if ns else [])]


def run(arguments: list[str], redirection: str, **environment: str) -> subprocess.CompletedProcess:
    """As a shell runs it; SIGPIPE as Python has it."""
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", *arguments]
    return subprocess.run(
        shell, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, env={**ENVIRONMENT, **environment}
    )


def unread(arguments: list[str]) -> subprocess.CompletedProcess:
    """With a pipe that has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            arguments, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, env=ENVIRONMENT
        )
    finally:
        os.close(writer)


def says(done: subprocess.CompletedProcess, line: str) -> None:
    assert (done.returncode, done.stderr) == (1, f"xdprouter: {line}\n")


@pytest.mark.parametrize("line", SHOWING)
def test_a_full_disk(served, line):
    says(run(command(line, served), ">/dev/full"), FULL)


@pytest.mark.parametrize("line", SHOWING)
def test_a_closed_output(served, line):
    says(run(command(line, served), ">&-"), CLOSED)


@pytest.mark.parametrize("line", SHOWING)
def test_a_reader_that_has_gone(served, line):
    done = unread(command(line, served))
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("line", ASKING_NOBODY)
def test_what_asks_no_daemon(line):
    says(run(command(line), ">/dev/full"), FULL)
    done = unread(command(line))
    assert (done.returncode, done.stderr) == (1, "")


def test_python_without_a_buffer(served):
    for line in ("status", "ports --json", "--help"):
        ns = "" if line == "--help" else served
        says(run(command(line, ns), ">/dev/full", PYTHONUNBUFFERED="1"), FULL)


def test_a_closed_stderr_too(served):
    """There is nobody to tell; the exit code does."""
    for redirection in (">&- 2>&-", ">/dev/full 2>/dev/full", ">/dev/full 2>&-"):
        assert run(command("status", served), redirection).returncode == 1


def test_what_cannot_be_done_keeps_its_exit_code(bare_lab):
    done = run(command("status", bare_lab.ns("h1")), ">/dev/full")
    assert done.returncode == 3 and "no daemon" in done.stderr


# --- monitor ----------------------------------------------------------------------------------------


@pytest.fixture
def follow(served):
    """`follow(redirection)` -> the shell that runs `xdprouter monitor` so, while a port's MTU goes up and down."""
    made: list[subprocess.Popen] = []

    def start(redirection: str) -> tuple[int, str]:
        shell = ["bash", "-o", "pipefail", "-c", f'"$@" {redirection}', "bash", *command("monitor", served)]
        child = subprocess.Popen(
            shell, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=ENVIRONMENT,
        )  # fmt: skip
        made.append(child)
        sizes = iter(range(10_000))

        def ended() -> bool:
            size = 1400 + next(sizes) % 2
            namespace.run(served, ["ip", "link", "set", "left", "mtu", str(size)], check=True)
            return child.poll() is not None

        wait_until(ended, BOUND_S, "the monitor to end")
        return child.returncode, child.stderr.read()

    yield start
    for child in made:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_monitor_on_a_full_disk(follow):
    assert follow(">/dev/full") == (1, f"xdprouter: {FULL}\n")


def test_monitor_with_a_closed_output(follow):
    assert follow(">&-") == (1, f"xdprouter: {CLOSED}\n")


def test_monitor_and_head(follow):
    """Whoever reads one line of a stream has what he wanted."""
    assert follow("| head -1") == (0, "")


# --- the daemon -------------------------------------------------------------------------------------


def test_a_daemon_without_standard_streams(bare_lab):
    """Nothing of its own gets their numbers; it serves. Not where the other tests' daemon would answer for it."""
    ns = bare_lab.ns("h2")
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("run -i eth0", ns)]
    daemon = subprocess.Popen(shell, cwd=ROOT)
    try:
        wait_until(
            lambda: run(command("status", ns), ">/dev/null").returncode == 0 or daemon.poll() is not None,
            BOUND_S, "the daemon",
        )  # fmt: skip
        assert daemon.poll() is None
        assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)} == {os.devnull}
    finally:
        daemon.terminate()
        daemon.wait(BOUND_S)
        instance.remove_state(ns)
