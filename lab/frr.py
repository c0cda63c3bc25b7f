"""FRR 8 on one router of a lab, without systemd: one set of daemons, sockets and logs per namespace."""

import re
import shutil
from pathlib import Path

from lab import namespace
from lab.errors import LabError

DAEMON_DIRECTORY = Path("/usr/lib/frr")
# zebra first: the others connect to it.
ALWAYS = ("zebra", "staticd")
# Daemon -> the line of a frr.conf that is for it.
ON_DEMAND = {
    "bfdd": re.compile(r"^bfd$", re.M),
    "bgpd": re.compile(r"^router bgp ", re.M),
    "ospfd": re.compile(r"^router ospf( |$)", re.M),
    "ospf6d": re.compile(r"^router ospf6( |$)", re.M),
}
START_TIMEOUT_S = 20.0
# Full tables overflow the default netlink buffer, and zebra must then read everything again.
ZEBRA_NETLINK_BUFFER = 90_000_000


def start(ns: str, directory: Path, config: str) -> None:
    """Start FRR in a namespace and load `config` (an frr.conf); state and logs go to `directory`.

    The daemons end with the namespace's other processes. Raises LabError with FRR's own words.
    """
    if not (DAEMON_DIRECTORY / "zebra").exists():
        raise LabError("FRR is not installed (Debian: apt install frr)")
    directory.mkdir(parents=True)
    (directory / "frr.conf").write_text(config)
    (directory / "vtysh.conf").write_text("")
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, "frr", "frr")
    wanted = [daemon for daemon, line in ON_DEMAND.items() if line.search(config)]
    for daemon in (*ALWAYS, *wanted):
        _checked(ns, f"starting {daemon}", _daemon_command(daemon, directory))
    _checked(ns, "loading frr.conf", vtysh_command(directory, "-b"))


def vtysh_command(directory: Path, *arguments: str) -> list[str]:
    """The command line of a vtysh that talks to the router whose FRR was started with `directory`."""
    return ["vtysh", "--vty_socket", str(directory), "--config_dir", str(directory), *arguments]


def _daemon_command(daemon: str, directory: Path) -> list[str]:
    command = [
        str(DAEMON_DIRECTORY / daemon),
        "-d",
        "--vty_socket", str(directory),
        "-z", str(directory / "zserv.api"),
        "-i", str(directory / f"{daemon}.pid"),
        "-f", "/dev/null",
        "-P", "0",
        "--log", f"file:{directory / daemon}.log",
    ]  # fmt: skip
    if daemon == "zebra":
        command += ["-s", str(ZEBRA_NETLINK_BUFFER)]
    if daemon == "bfdd":
        command += ["--bfdctl", str(directory / "bfdd.sock")]
    return command


def _checked(ns: str, what: str, argv: list[str]) -> None:
    done = namespace.run(ns, argv, timeout=START_TIMEOUT_S)
    if done.returncode != 0:
        raise LabError(f"{ns}: {what}: {' '.join((done.stdout + done.stderr).split())}")
