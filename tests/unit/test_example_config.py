# SPDX-License-Identifier: GPL-2.0-only
"""contrib/xdprouter.toml has every key, each with a comment, and the defaults."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from xdprouter.config import Config, PortConfig, load

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "contrib" / "xdprouter.toml"


def test_it_has_every_key_and_the_defaults():
    table = tomllib.loads(EXAMPLE.read_text())
    assert set(table) == {f.name for f in fields(Config)}
    assert {key for port in table["port"] for key in port} == {f.name for f in fields(PortConfig)}
    found = load(EXAMPLE)
    for f in fields(Config):
        if f.name != "port":
            assert getattr(found, f.name) == f.default, f.name


@pytest.mark.parametrize("key", [f.name for f in fields(Config) if f.name != "port"])
def test_each_key_has_a_comment_above_it(key):
    lines = EXAMPLE.read_text().partition("[[port]]")[0].splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} = ")]
    assert lines[at - 1].startswith("# ")
