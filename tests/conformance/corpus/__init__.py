# SPDX-License-Identifier: GPL-2.0-only
"""The named cases: by theme, one file each."""

from tests.conformance.corpus import addresses, headers, lengths, links, routing
from tests.conformance.corpus.case import Case

CASES: list[Case] = [*headers.CASES, *lengths.CASES, *addresses.CASES, *routing.CASES, *links.CASES]
