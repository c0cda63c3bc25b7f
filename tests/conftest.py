# SPDX-License-Identifier: GPL-2.0-only
"""The marker `needs`: kernel features without which a test says nothing. And no test of time by Hypothesis."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests import features

# A machine that is busy elsewhere is no fault of the code. The same examples each time, so that a failure is of the change at
# hand; `make search` draws new ones.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", _patient, derandomize=True)
settings.register_profile("search", _patient, print_blob=True)
settings.load_profile("steady")


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "needs(*features): kernel features, by their names in tests/features.py")
    config.addinivalue_line("markers", "alone: of answers within a time, so nothing else runs beside it")


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        for marker in item.iter_markers("needs"):
            unknown = set(marker.args) - features.FEATURES
            if unknown or not marker.args:
                raise pytest.UsageError(f"{item.nodeid}: needs what tests/features.py does not know: {unknown or '?'}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item) -> None:
    """Before any fixture is made. Without root, the tests that need a kernel are skipped anyhow."""
    needed = [feature for marker in item.iter_markers("needs") for feature in marker.args]
    if needed and os.geteuid() == 0:
        features.require(*needed)
