# SPDX-License-Identifier: GPL-2.0-only
"""Man pages from the parser that also prints --help: `python -m xdprouter.manual DIR`.

One page for xdprouter and one for each command; what a command has below it (`lab up`) is on its page. The language is
that of groff_man(7).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from xdprouter import __version__, cli
from xdprouter.config import DEFAULT_PATH

_FILES = (
    (str(DEFAULT_PATH), "the configuration, if neither -c nor -i is given"),
    ("/run/xdprouter/INSTANCE/control.sock", "what the commands talk to; INSTANCE is default or the namespace's name"),
    ("/run/xdprouter/INSTANCE/events.sock", "what monitor and top listen to"),
    ("/run/xdprouter/INSTANCE/bpf", "maps and links, which outlive the daemon"),
)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m xdprouter.manual DIR", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(cli.make_parser()).items():
        (directory / name).write_text(text)
    return 0


def pages(parser: argparse.ArgumentParser) -> dict[str, str]:
    """File name -> roff."""
    commands = _commands(parser)
    out = {f"{parser.prog}.1": _page(parser, "an XDP fast path for Linux routers", list(commands))}
    for name, (command, summary) in commands.items():
        out[f"{parser.prog}-{name}.1"] = _page(command, summary, [])
    return out


def _page(parser: argparse.ArgumentParser, summary: str, commands: list[str]) -> str:
    """`commands`: those with a page of their own; others are described on this one."""
    name = parser.prog.replace(" ", "-")
    lines = [
        f'.TH {_text(name.upper())} 1 "" "xdprouter {__version__}" "User Commands"',
        ".nh",  # names of commands are not broken
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
        ".SH SYNOPSIS",
        *_synopsis(parser),
        ".SH DESCRIPTION",
        _text(parser.description or summary),
        *_arguments(parser, ".SH", own_page=bool(commands)),
    ]
    if not commands:
        for command, _ in _commands(parser).values():
            lines += [f".SH {_quoted(command.prog.upper())}", *_synopsis(command), ".PP"]
            lines += [_text(command.description or _summary(parser, command)), *_arguments(command, ".SS")]
    if parser.epilog:
        lines += [".SH EXIT STATUS", _text(parser.epilog)]
    lines.append(".SH FILES")
    for path, meaning in _FILES:
        lines += [".TP", f".I {_text(path)}", _text(meaning)]
    lines.append(".SH SEE ALSO")
    others = [f"{name}-{command}" for command in commands] if commands else [name.split("-")[0]]
    lines += [f".BR {_text(other)} (1){',' if other != others[-1] else ''}" for other in others]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Name -> (parser, one line), of the commands directly below."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (command, lines[name]) for name, command in action.choices.items()}
    return {}


def _summary(parser: argparse.ArgumentParser, command: argparse.ArgumentParser) -> str:
    summary = next(line for found, line in _commands(parser).values() if found is command)
    return summary[0].upper() + summary[1:] + "."


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".B {_text(parser.prog)}"
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._VersionAction):
            continue
        if not action.option_strings:
            value = _value(action)
            value = {"?": f"[{value}]", argparse.REMAINDER: f"{value}...", argparse.PARSER: f"{value} ..."}.get(
                action.nargs, value
            )
            yield f".RI {_quoted(value)}"
            continue
        option = action.option_strings[0]
        dots = " ..." if isinstance(action, argparse._AppendAction) else ""
        if action.nargs == 0:
            yield f'.RB [ {_quoted(option)} "]{dots}"'
        else:
            yield f'.RB [ {_quoted(option)} " \\fI{_text(_value(action))}\\fP]{dots}"'


def _arguments(parser: argparse.ArgumentParser, heading: str, own_page: bool = False) -> Iterator[str]:
    """Arguments, options by group, and commands with a page of their own."""
    titles = {"positional arguments": "ARGUMENTS", "options": "OPTIONS"}
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if any(isinstance(action, argparse._SubParsersAction) for action in shown):
            yield f"{heading} COMMANDS"
            for name, (command, line) in _commands(parser).items():
                yield ".TP"
                yield f".BR {_text(command.prog.replace(' ', '-'))} (1)" if own_page else f".B {_text(name)}"
                yield _text(line)
        elif shown:
            yield f"{heading} {_quoted(titles.get(group.title, (group.title or '').upper()))}"
            for action in shown:
                yield ".TP"
                yield _head(action)
                yield _text(_help(parser, action))


def _head(action: argparse.Action) -> str:
    if not action.option_strings:
        return f".I {_text(_value(action))}"
    options = ", ".join(f"\\fB{_text(option)}\\fP" for option in action.option_strings)
    return options if action.nargs == 0 else f"{options} \\fI{_text(_value(action))}\\fP"


def _value(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """With what --help puts in place of %(default)s and the like."""
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _text(text: str) -> str:
    """One line that roff takes as it stands: backslash, hyphen, and a control character at its start."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    line = line.replace("'", "\\(aq").replace("`", "\\(ga").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{line}" if line.startswith(".") else line


def _quoted(text: str) -> str:
    return f'"{_text(text)}"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
