# SPDX-License-Identifier: GPL-2.0-only
"""What the documentation names is there: files, commands, options, configuration keys, verdicts."""

import argparse
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from controlplane.source import verdicts
from xdprouter import cli, completion, config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
(COMMANDS,) = (a.choices for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"{page.name})" not in readme] == []


@each_page
def test_commands_and_their_options_are_there(page):
    """Between backticks, or at the beginning of a line of code, behind a prompt or not."""
    text = page.read_text()
    inline = re.findall(r"`xdprouter ([a-z]+)([^`\n]*)`", text)
    lines = re.findall(r"^ {4}(?:# )?xdprouter ([a-z]+)([^;#|\n]*)", text, re.M)
    for used in inline + lines:
        name, arguments = used
        assert name in COMMANDS, used
        if name in ("lab", "completion"):
            continue
        known = {option for action in completion.actions(COMMANDS[name]) for option in action.option_strings}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", arguments)) <= known, used


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"xdprouter {name}" not in readme] == []


def test_the_readmes_configuration_has_every_key_and_its_default():
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    table = tomllib.loads(block)
    parsed = config.parse(table)
    assert table.keys() == {field.name for field in dataclasses.fields(config.Config)}
    assert dataclasses.replace(parsed, port=()) == config.Config()


@each_page
def test_verdicts_are_those_of_the_program(page):
    named = set(re.findall(r"`((?:pass|drop)_[a-z_]+)`", page.read_text()))
    assert named <= verdicts().keys()
