# SPDX-License-Identifier: GPL-2.0-only
"""The comparison notices a broken program. A small corpus is enough."""

import pytest

from tests.conformance.configurations import configuration
from tests.conformance.corpus import CASES
from tests.conformance.mutations import MUTATIONS
from tests.conformance.pair import ROOT
from tests.conformance.run import compare

ROWS = ("L4 ports and ECMP", "destination MAC", "IPv6 length and MTU", "egress that is no port", "same-port redirect")
_CASES = [case for case in CASES if case.row in ROWS]


def test_the_small_corpus_shows_nothing_when_nothing_is_broken(root):
    assert compare(configuration("ecmp 1"), 0, 0, cases=_CASES).differences == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_mutation_is_caught(mutation, tmp_path, root):
    mutation.apply(ROOT, tmp_path)
    assert compare(configuration("ecmp 1"), 0, 0, cases=_CASES, root=tmp_path).differences
