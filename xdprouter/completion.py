# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter completion`: a script that completes commands, options, ports and namespaces, from the parser itself.

`shtab` writes it; what a shell has to look up at the moment are functions here.
"""

import argparse
from collections.abc import Iterator

from xdprouter.errors import XdprouterError

SHELLS = ("bash", "zsh")

_LOOK_UPS = {
    "ports": {"bash": "$(ls /sys/class/net)", "zsh": "/sys/class/net/*(N:t)"},
    "namespaces": {"bash": "$(ls /run/netns 2>/dev/null)", "zsh": "/run/netns/*(N:t)"},
    "modes": {"bash": "native generic", "zsh": "native generic"},
}
"""name -> the words to choose from, in the shell's language"""
_FUNCTIONS = {
    "bash": '_xdprouter_{name}() {{\n  compgen -W "{words}" -- "$1"\n}}',
    "zsh": '_xdprouter_{name}() {{\n  local -a words\n  words=({words})\n  compadd "$@" -a words\n}}',
}


def add_parser(commands) -> None:
    """Add `completion` to a command line."""
    parser = commands.add_parser(
        "completion",
        help="a script for the shell that completes commands, options and ports",
        description='Prints a completion script. In ~/.bashrc: eval "$(xdprouter completion bash)"; of zsh: xdprouter '
        "completion zsh >DIR/_xdprouter, DIR being in fpath. Needs the Python package shtab.",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    from xdprouter import cli

    print(script(cli.make_parser(), args.shell))
    return 0


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """For one of SHELLS. Raises XdprouterError without shtab."""
    try:
        import shtab
    except ImportError:
        raise XdprouterError(
            "`xdprouter completion` needs the Python package shtab: pip install 'xdprouter[completion]'"
        ) from None
    for action in actions(parser):
        if completed := _completed(action):
            action.complete = {shell: f"_xdprouter_{completed}"}
        elif action.metavar == "FILE":
            action.complete = shtab.FILE
    functions = (_FUNCTIONS[shell].format(name=name, words=words[shell]) for name, words in _LOOK_UPS.items())
    return shtab.complete(parser, shell, preamble="\n".join(functions))


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of a parser and all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


def _completed(action: argparse.Action) -> str:
    """What of _LOOK_UPS an option or argument takes."""
    if action.metavar in ("PORT", "DEV"):
        return "ports"
    return {"netns": "namespaces", "mode": "modes"}.get(action.dest, "")
