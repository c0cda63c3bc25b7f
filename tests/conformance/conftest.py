# SPDX-License-Identifier: GPL-2.0-only
"""The comparison needs root."""

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items) -> None:
    """The hook sees the tests of every directory."""
    if os.geteuid() == 0:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents and "root" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="needs root: namespaces and BPF"))


@pytest.fixture(scope="session")
def root() -> None:
    """Marks a test that makes namespaces."""
