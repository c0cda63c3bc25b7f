# SPDX-License-Identifier: GPL-2.0-only
"""What tests/features.py says about this kernel. A probe that cannot tell is an error here, not a skip elsewhere."""

import pytest

from lab import namespace
from tests import features


@pytest.mark.parametrize("feature", sorted(features.FEATURES))
def test_each_feature_is_there_or_plainly_is_not(feature):
    assert features.has(feature) in (True, False)


def test_what_this_kernel_must_have_is_there():
    assert [feature for feature in sorted(features.expected()) if not features.has(feature)] == []


def test_a_probe_that_cannot_tell_is_an_error(monkeypatch):
    monkeypatch.setitem(features.COMMANDS, "mistaken", ["ip link add x type veth peer name"])
    with pytest.raises(RuntimeError, match="cannot tell whether the kernel has mistaken"):
        features.has("mistaken")


@pytest.mark.parametrize(("expected", "outcome"), [("", pytest.skip.Exception), ("absent", pytest.fail.Exception)])
def test_the_lack_of_a_feature_skips_or_fails(monkeypatch, expected, outcome):
    monkeypatch.setitem(features.COMMANDS, "absent", ["ip link add x type no_such_type"])
    monkeypatch.setenv(features.EXPECTED, expected)
    with pytest.raises(outcome, match="^the kernel has no absent$"):
        features.require("absent")


@pytest.mark.parametrize("feature", ["bridge", "absent"])
def test_probes_leave_nothing_behind(feature, monkeypatch):
    """Of this process: others may be at work."""
    monkeypatch.setitem(features.COMMANDS, "absent", ["ip link add x type no_such_type"])
    made = []
    monkeypatch.setattr(namespace, "create", lambda ns, create=namespace.create: (create(ns), made.append(ns)))
    features.has.__wrapped__(feature)
    assert made
    assert not [ns for ns in made if (namespace.DIRECTORY / ns).exists()]
