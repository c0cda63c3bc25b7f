# SPDX-License-Identifier: GPL-2.0-only
"""The key of the cache: whatever the FIB's answer can depend on is in it."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cache_key import Key, key_for
from controlplane.notes import BY_SOURCE, BY_TOS, MULTIPATH
from controlplane.settings import HASH_INNER, HASH_LAYER_3, HASH_LAYER_4, SELECTORS, PortSettings, Settings

FORWARDS = PortSettings(reverse_path=0, send_redirects=True, ipv6_mtu=1500, forwarding=True)
PLAIN = Settings(
    ipv6_forwarding=True, hash_policy4=HASH_LAYER_3, hash_policy6=HASH_LAYER_4, rules6_by_protocol=False,
    rule_selectors=frozenset(), nexthop_groups=False, use_neighbours=False, rules6_suppress=False,
    ports={"left": FORWARDS, "right": FORWARDS},
)  # fmt: skip
PARTS = ("source", "ports", "protocol", "tos", "ingress", "label")
EVERYTHING = {part: True for part in PARTS}

policies = st.sampled_from([HASH_LAYER_3, HASH_LAYER_4, HASH_INNER, 3])
settings = st.builds(
    lambda **fields: replace(PLAIN, **fields),
    hash_policy4=policies, hash_policy6=policies, rule_selectors=st.frozensets(st.sampled_from(SELECTORS)),
    nexthop_groups=st.booleans(),
    ports=st.dictionaries(st.text(max_size=3), st.builds(lambda on: replace(FORWARDS, forwarding=on), st.booleans())),
)  # fmt: skip
reasons = st.integers(0, MULTIPATH | BY_SOURCE | BY_TOS)
keys = st.builds(Key, *(st.booleans() for _ in PARTS), reasons)


def test_a_plain_router_needs_the_destination_alone():
    key = key_for(PLAIN, 0)
    assert key == Key()
    assert not key.wide
    assert str(key) == "destination"


CASES = {
    "a route for a source prefix": (PLAIN, BY_SOURCE, dict(source=True)),
    "a route for a tos": (PLAIN, BY_TOS, dict(tos=True)),
    "hashed by addresses": (replace(PLAIN, hash_policy6=HASH_INNER), MULTIPATH, dict(source=True)),
    "ipv4 hashed by ports": (
        replace(PLAIN, hash_policy4=HASH_LAYER_4, hash_policy6=HASH_INNER), MULTIPATH,
        dict(source=True, ports=True, protocol=True),
    ),
    "ipv6 hashed by ports": (PLAIN, MULTIPATH, dict(source=True, ports=True, protocol=True)),
    "ipv6 hashed by addresses and label": (
        replace(PLAIN, hash_policy6=HASH_LAYER_3), MULTIPATH, dict(source=True, protocol=True, label=True),
    ),
    "a port that does not forward": (
        replace(PLAIN, ports={"left": FORWARDS, "right": replace(FORWARDS, forwarding=False)}), 0, dict(ingress=True),
    ),
    **{
        f"rules on {selector}": (replace(PLAIN, rule_selectors=frozenset({selector})), 0, {selector: True})
        for selector in SELECTORS
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_needs_more(case):
    known, reasons, parts = CASES[case]
    key = key_for(known, reasons)
    assert key == Key(**parts, reasons=reasons)
    assert key.wide
    assert str(key) == ", ".join(["destination", *(part for part in PARTS if part in parts)])


def test_every_part_has_a_case():
    assert {part for _, _, parts in CASES.values() for part in parts} == set(PARTS)
    assert set(SELECTORS) == set(PARTS) == {field.name for field in fields(Key)} - {"reasons"}


def test_a_nexthop_group_is_as_good_as_a_multipath_route():
    assert key_for(replace(PLAIN, nexthop_groups=True), 0) == key_for(PLAIN, MULTIPATH)


def test_nothing_known_is_everything():
    """The settings before anything was read; with a port that was not, too."""
    assert key_for(Settings(ports={"left": PortSettings()}), 0) == Key(**EVERYTHING, reasons=MULTIPATH)
    assert key_for(replace(PLAIN, ports={"left": PortSettings()}), 0).ingress


@given(settings, settings, reasons, reasons)
def test_more_of_everything_needs_no_less(some, other, first, second):
    together = replace(
        some,
        rule_selectors=some.rule_selectors | other.rule_selectors,
        nexthop_groups=some.nexthop_groups or other.nexthop_groups,
    )
    key, wider = key_for(some, first), key_for(together, first | second)
    assert key | wider == wider


@given(settings, reasons)
def test_the_reasons_are_reckoned_with(some, known):
    key = key_for(some, known)
    assert key.reasons & known == known
    assert key.reasons | MULTIPATH == known | MULTIPATH


@given(keys, keys)
def test_a_union_has_all_of_both(a, b):
    both = a | b
    for part in PARTS:
        assert getattr(both, part) == (getattr(a, part) or getattr(b, part))
    assert both.reasons == a.reasons | b.reasons
    assert both == b | a
    assert both.wide == (a.wide or b.wide)
