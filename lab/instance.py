"""One xdprouter, run as a process on one router of a lab; nothing of it is imported here."""

import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.process import Process, end
from lab.wait import wait_until

# Where xdprouter keeps an instance's state; the instance of a namespace has the namespace's name.
STATE_DIRECTORY = Path("/run/xdprouter")
READY_TIMEOUT_S = 30.0
WRAPPER = "XDPROUTER_LAB_WRAPPER"
"""Environment variable: a command that the daemon is run by, such as `setpriv --bounding-set ...`; it must exec."""


def start(
    ns: str, ports: Iterable[str], directory: Path, extra_args: Sequence[str] = (), root: Path | None = None
) -> subprocess.Popen:
    """Start xdprouter for a namespace's ports and wait until it answers on its control socket.

    `root` is the source tree to run, if not the one that the caller runs in. Its output goes to
    `<directory>/xdprouter.log`. Raises LabError with the log's last line if it
    exits, or is not ready within READY_TIMEOUT_S; it is ended then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "xdprouter.log"
    wrapper = shlex.split(os.environ.get(WRAPPER, ""))
    argv = [*wrapper, sys.executable, "-m", "xdprouter", "run", "--netns", ns]
    for port in ports:
        argv += ["-i", port]
    with log.open("ab") as output:
        # A session of its own: Ctrl-C at the terminal that did `lab up` must not end it.
        daemon = subprocess.Popen(
            [*argv, *extra_args],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=root,  # `python -m` looks there first
        )
    if process := Process.of(daemon.pid):
        _pid_file(directory).write_text(f"{process.pid} {process.started}\n")
    try:
        wait_until(lambda: _is_ready(ns, daemon, log), READY_TIMEOUT_S, f"xdprouter on {ns} (log: {_last_line(log)})")
    except LabError:
        daemon.kill()
        daemon.wait()
        raise
    return daemon


def stop(directory: Path) -> None:
    """End the xdprouter that was started with `directory`, by whichever process that was."""
    try:
        pid, started = _pid_file(directory).read_text().split()
    except (FileNotFoundError, ValueError):
        return
    end([Process(int(pid), int(started))])
    _pid_file(directory).unlink(missing_ok=True)


def remove_state(ns: str) -> None:
    """Remove what an ended instance left on disk: its bpffs with the pins, its socket."""
    state = STATE_DIRECTORY / ns
    bpffs = state / "bpf"
    while os.path.ismount(bpffs):
        # Not umount(8), which looks for it in a list of mounts that others change meanwhile.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(bpffs), 0) != 0:
            raise LabError(f"{ns}: unmounting {bpffs}: {os.strerror(ctypes.get_errno())}")
    if state.exists():
        shutil.rmtree(state)


def _is_ready(ns: str, daemon: subprocess.Popen, log: Path) -> bool:
    if daemon.poll() is not None:
        raise LabError(f"xdprouter on {ns} exited with {daemon.returncode}: {_last_line(log)}")
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(STATE_DIRECTORY / ns / "control.sock"))
        except OSError:
            return False
    return True


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].strip() if lines else "nothing was logged"


def _pid_file(directory: Path) -> Path:
    return directory / "xdprouter.pid"
