# SPDX-License-Identifier: GPL-2.0-only
"""In a guest: its kernel takes every program that was recorded on the machine. pytest is given this file by name."""

import os
from pathlib import Path

import pytest

from tests.vm import programs

_PROGRAMS = programs.read(Path(os.environ[programs.RECORDED]))


def test_there_are_some():
    assert {program.name for program in _PROGRAMS} >= {"router", "route_event", "redirect_failed"}


@pytest.mark.parametrize("program", _PROGRAMS, ids=lambda program: program.title)
def test_the_verifier_takes_it(program):
    programs.load(program)
