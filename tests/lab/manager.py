# SPDX-License-Identifier: GPL-2.0-only
"""A real systemd, as PID 1 of namespaces of its own (manager.sh), with the units of contrib/ and no others.

What a unit asks of the kernel (mount namespace, seccomp, capabilities, cgroup, watchdog) is done as on a machine that
has booted it. Nothing that is done inside is seen outside: files are laid over the machine's own, /run is new.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import namespace
from lab.errors import LabTimeout
from lab.wait import wait_until
from tests.lab.command import ROOT

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = ROOT / "contrib" / "systemd"
_TARGETS = Path("/usr/lib/systemd/system")
_BOOT_S = 15.0
COMMAND_S = 300
_DROP_IN = f"""# Only where this checkout and its Python are, and how slow a machine may be: the rest is the unit's own.
[Service]
BindReadOnlyPaths={ROOT} {sys.prefix}
TimeoutStartSec={COMMAND_S}
StandardOutput=append:/run/units.log
StandardError=append:/run/units.log
"""
_COMMAND = f"""#!/bin/sh
PYTHONPATH={ROOT} exec {sys.executable} -m xdprouter "$@"
"""


class Manager:
    """`pid`: of systemd, as this process sees it. Made by `manager`."""

    def __init__(self, pid: int, console: Path):
        self.pid = pid
        self._console = console

    def path(self, path: str | Path) -> Path:
        """A file as systemd sees it, by a name that this process can use."""
        return Path(f"/proc/{self.pid}/root") / str(path).lstrip("/")

    def command(self, *argv: str | Path) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", *map(str, argv)]

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess:
        """As a root shell on that machine would; output captured as text."""
        return subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=COMMAND_S)

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, *properties: str) -> list[str]:
        """Their values, in the order asked for."""
        done = self.systemctl("show", unit, f"--property={','.join(properties)}")
        values = dict(line.split("=", 1) for line in done.stdout.splitlines())
        return [values[name] for name in properties]

    def said(self) -> str:
        """By systemd, and by the services."""
        log = self.path("/run/units.log")
        return self._console.read_text(errors="replace") + (log.read_text() if log.exists() else "")


@contextmanager
def manager(ns: str, files: Mapping[str, str], more: Iterable[str] = ()) -> Iterator[Manager]:
    """A systemd in the network namespace `ns`, which has no name there; the namespaces `more` have theirs.

    `files`: those of /etc. Raises LabTimeout with what it said if it does not come up. At the end all that runs in it is
    killed.
    """
    with ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="xdprouter-manager-"))
        undo.callback(shutil.rmtree, work)
        _lay_out(work, files)
        group = _cgroup_root() / f"xdprouter-manager-{os.getpid()}"
        group.mkdir()
        undo.callback(_remove_cgroup, group)
        master, slave = pty.openpty()
        undo.callback(os.close, slave)
        console = work / "console"
        reader = subprocess.Popen(["cat"], stdin=master, stdout=console.open("wb"), stderr=subprocess.DEVNULL)
        os.close(master)
        undo.callback(reader.wait)
        undo.callback(reader.kill)
        script = f'echo 0 >{group}/cgroup.procs; exec "$@"'
        leader = subprocess.Popen(
            ["sh", "-c", script, "sh", *namespace.command(ns, ["setpriv", "--pdeathsig", "KILL"]),
             "unshare", "--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--propagation", "private", "--uts",
             "--ipc", "--cgroup", Path(__file__).with_suffix(".sh"), work, os.ttyname(slave),
             *(str(namespace.path(other)) for other in more)],
            stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        undo.callback(leader.wait)
        undo.callback(leader.kill)  # and with it PID 1, and with that all others
        try:
            pid = wait_until(lambda: _booted(leader), _BOOT_S, "systemd")
        except LabTimeout as error:
            raise LabTimeout(f"{error}: {' '.join(console.read_text(errors='replace').split())}") from None
        yield Manager(pid, console)


def _lay_out(work: Path, files: Mapping[str, str]) -> None:
    """What manager.sh expects in WORK."""
    units = work / "run" / "units"
    units.mkdir(parents=True)
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, units)
        drop_ins = units / f"{unit.name}.d"
        drop_ins.mkdir()
        (drop_ins / "paths.conf").write_text(_DROP_IN)
    for target in ("basic", "sysinit", "shutdown"):
        shutil.copy(_TARGETS / f"{target}.target", units)
    (work / "etc").mkdir()
    for name, text in files.items():
        (work / "etc" / name).write_text(text)
    (work / "bin").mkdir()
    (work / "bin" / "xdprouter").write_text(_COMMAND)
    (work / "bin" / "xdprouter").chmod(0o755)


def _booted(leader: subprocess.Popen) -> int | None:
    """The pid of PID 1, when it answers systemctl."""
    if leader.poll() is not None:
        raise LabTimeout(f"systemd ended with {leader.returncode}")
    children = Path(f"/proc/{leader.pid}/task/{leader.pid}/children").read_text().split()
    if not children or not Path(f"/proc/{children[0]}/root/run/systemd/private").exists():
        return None
    found = Manager(int(children[0]), Path(os.devnull))
    return found.pid if found.systemctl("is-active", "basic.target").returncode == 0 else None


def _cgroup_root() -> Path:
    """Where cgroup v2 is mounted."""
    mounts = Path("/proc/self/mounts").read_text()
    found = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.MULTILINE)
    if found is None:
        raise LabTimeout("cgroup v2 is not mounted")
    return Path(found[1])


def _remove_cgroup(group: Path) -> None:
    """With those that systemd has made in it; the kernel empties them some time after the last process has ended."""

    def removed() -> bool:
        for directory, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                return False
        return True

    wait_until(removed, 30, f"{group} to be empty")
