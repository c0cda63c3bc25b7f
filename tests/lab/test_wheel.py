"""The built wheel, in an empty virtual environment and an empty directory, runs a lab by itself."""

import shutil
import subprocess
import sys
from pathlib import Path

from lab.wait import wait_until
from xdprouter import manual
from xdprouter.cli import make_parser

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_runs_two_hosts(tmp_path):
    """No network is needed: the dependencies are those of the environment that runs the tests."""
    tree, dist, venv, empty = (tmp_path / name for name in ("tree", "dist", "venv", "empty"))
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "dist", "__pycache__", ".*_cache"))
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(tree)])
    (wheel,) = dist.glob("*.whl")

    _run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", str(venv)])
    python = str(venv / "bin" / "python")
    _run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
    (packages,) = (venv / "lib").glob("python3*/site-packages")
    for folder in _dependency_folders():
        with open(packages / "dependencies.pth", "a") as pth:
            pth.write(f"{folder}\n")

    pages = {path.name for path in (venv / "share" / "man" / "man1").glob("*.1")}
    assert pages == set(manual.pages(make_parser())), "the man pages are in the wheel"

    empty.mkdir()
    name = f"w{tmp_path.parent.name[-6:]}{tmp_path.name[-1]}".replace("-", "")
    xdprouter = str(venv / "bin" / "xdprouter")
    where = _run([python, "-c", "import controlplane, lab, xdprouter; print(controlplane.__file__)"], cwd=empty)
    assert where.stdout.startswith(str(venv)), "the packages must come from the wheel"
    try:
        _run([xdprouter, "lab", "up", "two_hosts", "--name", name], cwd=empty)
        for address in ("10.2.0.2", "fd02::2"):
            ping = [xdprouter, "lab", "exec", name, "h1", "ping", "-c", "3", "-i", "0.05", "-W", "2", address]
            _run(ping, cwd=empty)
        status = [xdprouter, "status", "--netns", f"{name}-r1", "--json"]
        wait_until(lambda: '"forward"' in _run(status, cwd=empty).stdout, 30, "packets on the fast path")
    finally:
        _run([xdprouter, "lab", "down", name], cwd=empty)
    tiny = [
        "--routes",
        "1",
        "--routes6",
        "1",
        "--destinations",
        "hot",
        "--cores",
        "1",
        "--sizes",
        "64",
        "--updates",
        "100",
    ]
    bench = _run([xdprouter, "bench", *tiny, "--rounds", "1", "--packets", "5000"], cwd=empty)
    assert "x linux" in bench.stdout, "its C programs are in the wheel too, and its processes find the packages"


def _dependency_folders() -> set[str]:
    """Where the dependencies lie in the running environment, without this project's own editable install."""
    import pyroute2
    import rich
    import zmq

    return {str(Path(package.__file__).resolve().parents[1]) for package in (pyroute2, rich, zmq)}


def _run(argv: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done
