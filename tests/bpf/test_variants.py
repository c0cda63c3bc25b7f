# SPDX-License-Identifier: GPL-2.0-only
"""The kernel takes every program that can be compiled. Verifiers differ: this runs on the kernels of tests/vm too."""

import inspect

import pytest

from controlplane import dataplane
from controlplane.variants import CHOICES, variants


def described(variant: dict[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in variant.items())


def test_the_choices_are_those_of_the_data_plane():
    """Without the tests' own `defines`."""
    assert [*CHOICES] == [*inspect.signature(dataplane.Dataplane).parameters][2:]


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("variant", variants(), ids=described)
def test_every_variant_is_taken(variant, cpus, pins, monkeypatch):
    """For one CPU, where the compiler knows which table it is, and for more."""
    monkeypatch.setattr(dataplane, "table_cpus", lambda: cpus)
    dataplane.Dataplane(pins, **variant).close()
