# SPDX-License-Identifier: GPL-2.0-only
"""The kernel takes every program that can be compiled. Verifiers differ: this runs on the kernels of tests/vm too."""

import re

import pytest

from controlplane import dataplane, source
from controlplane.variants import FEATURES, variants


def test_the_features_are_those_of_the_header():
    known = re.findall(r"^#ifndef FEATURE_(\w+)", (source.SOURCE_DIR / "features.h").read_text(), re.MULTILINE)
    """But for the one that explain.py compiles in, with a map of its own."""
    assert set(known) - {"EXPLAIN"} == {name for features in FEATURES for name in features} == set(FEATURES[-1])


@pytest.mark.parametrize("variant", variants(), ids=str)
def test_every_variant_is_taken(variant, pins, monkeypatch):
    """For more than one CPU: an index into a table then has a part that the compiler does not know."""
    monkeypatch.setattr(dataplane, "table_cpus", lambda: 2)
    dataplane.Dataplane(pins, variant.defines, variant.cache_sets).close()


def test_the_largest_for_one_cpu_is_taken(pins, monkeypatch):
    monkeypatch.setattr(dataplane, "table_cpus", lambda: 1)
    largest = variants()[-1]
    dataplane.Dataplane(pins, largest.defines, largest.cache_sets).close()
