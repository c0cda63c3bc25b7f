"""BIRD 2 on one router of a lab."""

import shutil
from pathlib import Path

from lab import namespace
from lab.errors import LabError

START_TIMEOUT_S = 20.0


def start(ns: str, directory: Path, config: str) -> None:
    """Start BIRD in a namespace with `config` (a bird.conf); socket and log go to `directory`.

    It ends with the namespace's other processes. Raises LabError with BIRD's own words.
    """
    if not shutil.which("bird"):
        raise LabError("BIRD is not installed (Debian: apt install bird2)")
    directory.mkdir(parents=True)
    path = directory / "bird.conf"
    # First line, so that line numbers in BIRD's complaints are off by one only.
    path.write_text(f'log "{directory / "bird.log"}" all;\n{config}')
    argv = ["bird", "-c", str(path), "-s", str(directory / "bird.ctl"), "-P", str(directory / "bird.pid")]
    done = namespace.run(ns, argv, timeout=START_TIMEOUT_S)
    if done.returncode != 0:
        raise LabError(f"{ns}: starting bird: {' '.join((done.stdout + done.stderr).split())}")


def birdc_command(directory: Path, *arguments: str) -> list[str]:
    """The command line of a birdc that talks to the BIRD that was started with `directory`."""
    return ["birdc", "-s", str(directory / "bird.ctl"), *arguments]
