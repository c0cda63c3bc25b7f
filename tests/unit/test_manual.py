# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a whole: what every command has, its man pages, and its completion in real shells."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xdprouter import cli, completion, manual

PARSER = cli.make_parser()
(COMMANDS,) = (action.choices for action in PARSER._actions if isinstance(action, argparse._SubParsersAction))
OF_NO_INSTANCE = {"bench", "completion", "lab"}
"""They make what they need, or need nothing"""
WITHOUT_JSON = {"completion", "run", "top"}
"""A script, a log and a screen"""


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in completion.actions(parser) for option in action.option_strings}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_netns_and_json(name):
    assert ("--netns" in options(COMMANDS[name])) == (name not in OF_NO_INSTANCE)
    assert ("--json" in options(COMMANDS[name])) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_explained(name):
    for action in completion.actions(COMMANDS[name]):
        assert action.help or isinstance(action, argparse._SubParsersAction), (name, action.dest)


# --- man pages ----------------------------------------------------------------------------------------


def rendered(page: str) -> str:
    """As `man` shows it, on one line; roff must have nothing to say about it."""
    done = subprocess.run(
        ["groff", "-Tascii", "-man", "-ww", "-P-cbou"], input=page, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return " ".join(done.stdout.split())


PAGES = manual.pages(PARSER)


def test_there_is_a_page_for_each_command():
    assert set(PAGES) == {"xdprouter.1", *(f"xdprouter-{name}.1" for name in COMMANDS)}
    top = rendered(PAGES["xdprouter.1"])
    for name in COMMANDS:
        assert f"xdprouter-{name}(1)" in top
    assert cli.EXIT_CODES in top


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_says_what_help_says(name):
    page = rendered(PAGES[f"xdprouter-{name}.1"])
    assert f"xdprouter-{name} - " in page
    for action in completion.actions(COMMANDS[name]):
        if isinstance(action, argparse._SubParsersAction):
            assert all(f"xdprouter {name} {below}" in page for below in action.choices)
            continue
        said = COMMANDS[name]._get_formatter()._expand_help(action)
        # Blanks are roff's; and it breaks words behind a slash.
        assert said.replace(" ", "") in page.replace(" ", ""), action.dest
        for option in action.option_strings:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", page), option


def test_what_roff_would_take_for_its_own(tmp_path):
    parser = argparse.ArgumentParser(prog="x", description=".SH no\\fBheading 'a' `b` \"c\" ~d ^e")
    parser.add_argument("--dir", metavar=".A\\B", help="'tis 100 %% -- .so /etc/passwd")
    page = rendered(manual.pages(parser)["x.1"])
    assert ".SH no\\fBheading 'a' `b` \"c\" ~d ^e" in page
    assert "--dir .A\\B 'tis 100 % -- .so /etc/passwd" in page


def test_pages_are_written(tmp_path):
    run = [sys.executable, "-m", "xdprouter.manual"]
    assert subprocess.run([*run, str(tmp_path / "man")], timeout=60).returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "man").iterdir()} == PAGES
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "usage: python -m xdprouter.manual DIR\n")


# --- completion ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """A directory with the script of each shell, as the command prints it."""
    directory = tmp_path_factory.mktemp("completion")
    for shell in completion.SHELLS:
        command = [sys.executable, "-m", "xdprouter", "completion", shell]
        (directory / shell).write_text(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return directory


BASH = """
source "$0"
complete -p xdprouter >/dev/null || exit 1
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p xdprouter | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
DEVICES = sorted(path.name for path in Path("/sys/class/net").iterdir())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], sorted(COMMANDS)),
        (["mon"], ["monitor"]),
        (["status", "--"], ["--help", "--json", "--netns"]),
        (["attach", ""], DEVICES),
        (["run", "-i", ""], DEVICES),
        (["attach", "lo", "--mode", "n"], ["native"]),
        (["explain", "--iif", "l"], [name for name in DEVICES if name.startswith("l")]),
        (["lab", "d"], ["down"]),
        (["completion", ""], ["bash", "zsh"]),
        (["nonsense", "x"], [""]),
    ],
    ids=" ".join,
)
def test_bash_completes(scripts, words, offered):
    command = ["bash", "--norc", "-c", BASH, str(scripts / "bash"), "xdprouter", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, sorted(done.stdout[:-1].split("\n"))) == ("", offered)


def test_bash_completes_files(scripts, tmp_path):
    (tmp_path / "router.toml").touch()
    command = ["bash", "--norc", "-c", BASH, str(scripts / "bash"), "xdprouter", "run", "-c", f"{tmp_path}/rou"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{tmp_path}/router.toml\n"


ZSH = """
autoload -U compinit && compinit -D -u && eval "$(<$1)"
[[ -n $_comps[xdprouter] ]] || exit 1
_describe() { print -l -- ${(P)2} }
compadd() { print -l -- $words }
_shtab_xdprouter_commands
_xdprouter_ports
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(scripts):
    done = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", str(scripts / "zsh")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sorted(line.split(":")[0] for line in lines[: len(COMMANDS)]) == sorted(COMMANDS)
    assert sorted(lines[len(COMMANDS) :]) == DEVICES


WITHOUT_SHTAB = (
    "import sys; sys.modules['shtab'] = None; from xdprouter.cli import main; sys.exit(main(['completion', 'bash']))"
)


def test_completion_without_shtab_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SHTAB], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "xdprouter: `xdprouter completion` needs the Python package shtab: pip install 'xdprouter[completion]'\n"
    )


# --- the lab's own --json -----------------------------------------------------------------------------


def test_lab_list_and_show_as_json(capsys):
    assert cli.main(["lab", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"two_hosts", "vlan_trunk"} <= {entry["name"] for entry in listed["topologies"]}
    assert cli.main(["lab", "show", "two_hosts", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (router,) = (node for node in shown["nodes"] if node["kind"] != "host")
    assert all(port["xdprouter"] and port["addresses"] for port in router["ports"])
