# SPDX-License-Identifier: GPL-2.0-only
"""Who may import whom, and what the small commands must not load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCTOR = ROOT / "xdprouter" / "doctor"
OURS = {"xdprouter", "controlplane", "lab", "tests", "bpf"}


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(path.parent.name if node.level else (node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "__import__",
            "import_module",
        ):
            pytest.fail(f"{path}:{node.lineno} imports by a name that nobody can read")
    return found


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("controlplane"), ids=lambda path: path.name)
def test_controlplane_imports_nothing_of_ours_outside_itself(path):
    assert imports(path) & OURS <= {"controlplane"}


@pytest.mark.parametrize("path", files("xdprouter"), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_daemon_bench_and_doctor_import_controlplane(path):
    """cli takes `xdprouter lab` from the lab, where its parser is; bench measures the program in a network
    that the lab's functions build; doctor asks the machine by two files, and judges by the others; explain has a part of the
    daemon's."""
    allowed = {
        "xdprouter/configured.py": {"xdprouter", "controlplane"},
        "xdprouter/daemon.py": {"xdprouter", "controlplane"},
        "xdprouter/load.py": {"xdprouter", "controlplane"},
        "xdprouter/replies.py": {"xdprouter", "controlplane"},
        "xdprouter/reporter.py": {"xdprouter", "controlplane"},
        "xdprouter/cli.py": {"xdprouter", "lab"},
        "xdprouter/explain/handler.py": {"xdprouter", "controlplane"},
    }
    if path.is_relative_to(ROOT / "xdprouter" / "bench"):
        assert imports(path) & OURS <= {"xdprouter", "controlplane", "lab"}
    elif path.is_relative_to(DOCTOR) and path.stem in ("gather", "system"):
        assert imports(path) & OURS <= {"xdprouter", "controlplane"}
    else:
        assert imports(path) & OURS <= allowed.get(str(path.relative_to(ROOT)), {"xdprouter"})


PURE = ("__init__", "cli", "destinations", "plan", "results")


@pytest.mark.parametrize("name", PURE)
def test_the_pure_files_of_bench_need_no_machine(name):
    assert imports(ROOT / "xdprouter" / "bench" / f"{name}.py") & OURS <= {"xdprouter"}


@pytest.mark.parametrize("path", files("lab"), ids=lambda path: path.name)
def test_lab_imports_nothing_of_ours_outside_itself(path):
    assert imports(path) & OURS <= {"lab"}


def test_only_compiler_imports_bcc():
    importers = {
        str(path.relative_to(ROOT))
        for package in ("xdprouter", "controlplane", "lab")
        for path in files(package)
        if "bcc" in imports(path)
    }
    assert importers == {"controlplane/compiler.py"}


RUN = """
import json, pathlib, sys
from xdprouter import instance
instance.RUN_ROOT = pathlib.Path(sys.argv[1])
instance._name_of_current_netns = lambda: "default"
from xdprouter.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as stopped:
    code = stopped.code
print("\\n" + json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["status", "--help"], 0),
        (["run", "--help"], 0),
        (["status"], 3),
        (["ports", "--json"], 3),
        (["monitor"], 3),
        (["top"], 3),
        (["stop"], 3),
        (["lab", "list"], 0),
        (["bench", "--help"], 0),
        (["bench", "--rounds", "0"], 2),
        (["doctor", "--help"], 0),
        (["doctor", "-i", "not/a/name"], 2),
        (["completion", "--help"], 0),
        (["completion", "tcsh"], 2),
        (["explain", "--help"], 0),
        (["explain", "10.0.0.1", "10.0.0.2"], 3),
        (["explain", "10.0.0.1", "fd00::2"], 2),
        ([], 2),
    ],
)
def test_small_commands_load_nothing_large(tmp_path, arguments, code):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout, done.stderr
    got, modules = json.loads(done.stdout.splitlines()[-1])
    assert got == code, done.stderr
    assert not {"bcc", "pyroute2", "controlplane", "rich", "scapy"} & set(modules)
