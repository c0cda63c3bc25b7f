# SPDX-License-Identifier: GPL-2.0-only
"""What the explaining variant tells of a frame, beside what the running program does with it."""

import ctypes as ct
import os

from controlplane import source
from controlplane.cache_key import Key
from controlplane.explain import ACTIONS, Explainer, Step, Trace, Traces
from tests.bpf.network import Router, rise

CPU = min(os.sched_getaffinity(0))


def explain(explainers: dict, router: Router, frame: bytes, ingress: str) -> Traces:
    if router not in explainers:
        explainers[router] = router.dataplane.explainer()
        explained(explainers[router], router, frame, ingress)  # compiles, for longer than a lease
    return explained(explainers[router], router, frame, ingress)


def explained(explainer: Explainer, router: Router, frame: bytes, ingress: str = "in0") -> Traces:
    router.beat()
    with router.ns.entered():
        return explainer.run(router.dataplane.program, frame, router.indexes[ingress])


def live(router: Router, frame: bytes, ingress: str) -> tuple[str, str, bytes, set[int], int]:
    """(verdict, action, frame afterwards, FIB codes, cache hits) of the running program"""
    before = router.counters()
    action, after = router.run(frame, ingress)
    counted = rise(before, router.counters()).values()
    (verdict,) = {name for counters in counted for name in counters.ingress}
    codes = {code for counters in counted for code in counters.fib_codes}
    return verdict, ACTIONS[action], after, codes, sum(counters.cache_hits for counters in counted)


class Disturbed(Exception):
    """While something was asked, the cache's lease ran out, as it does on a busy machine, or the kernel announced a
    change: all begins anew."""


def agree(explainers: dict, router: Router, frame: bytes, ingress: str, key: Key | None = None) -> Trace:
    """Explained, run, explained and run again: with a cache, the second time it may answer. What was told at last."""
    if router not in explainers:
        explain(explainers, router, frame, ingress)
    for _ in range(50):
        try:
            for turn in range(2):
                told = agree_once(explainers, router, frame, ingress, key, turn)
            return told
        except Disturbed:
            router.dataplane.cache.invalidate()
    raise AssertionError("never was a packet left in peace")


def agree_once(explainers: dict, router: Router, frame: bytes, ingress: str, key: Key | None, turn: int) -> Trace:
    if key is not None:
        router.grant(key)  # the tables are cleared where it is another than before
    announced, before = router.announced, contents(router)
    traces = leased(router, key, lambda: explain(explainers, router, frame, ingress))
    moved = changed(before, contents(router))
    if router.announced != announced:
        raise Disturbed
    assert moved == set()
    verdict, action, after, codes, hits = leased(router, key, lambda: live(router, frame, ingress))
    trace = traces.cached[CPU]
    told = (turn, trace.verdict, trace.action, trace.frame, _counted(trace.fib_code))
    assert told == (turn, verdict, action, after, codes)
    assert (Step.HIT in trace.steps) == bool(hits)
    plain = traces.plain
    assert (plain.verdict, plain.action, plain.frame, plain.way) == (verdict, action, after, trace.way)
    assert not plain.steps & (Step.LEASED | Step.FOUND | Step.HIT)
    assert not traces.differ
    return trace


def leased(router: Router, key: Key | None, act):
    """With a key, what `act` returns while the cache's lease ran from its beginning to its end."""
    if key is not None:
        router.grant(key)
    out = act()
    if key is not None and not router.dataplane.cache.lease_ok:
        raise Disturbed
    return out


def _counted(code: int | None) -> set[int]:
    return set() if code is None else {source.limits()["FIB_CODE_NEGATIVE"] if code < 0 else code}


def contents(router: Router) -> dict[str, bytes]:
    """Every map of the running program, byte by byte."""
    dataplane = router.dataplane
    out = {name: bytes(dataplane._memory.view(name)[:]) for name in dataplane._memory.sizes}
    for name in MAPS:
        table = dataplane._tables[name.encode()]
        if name in ("counters", "vrf_counters"):
            rows = {bytes(key): b"".join(map(bytes, table[key])) for key in _used(router, table, name)}
        else:
            rows = {bytes(key): bytes(leaf) for key, leaf in table.items()}
        out[name] = repr(sorted(rows.items())).encode()
    return out


def _used(router: Router, table, name: str) -> list:
    return [ct.c_int(slot) for slot in ([0, *router.slots.values()] if name == "counters" else range(VRFS))]


MAPS = (
    "counters", "vrf_counters", "next_hops", "interfaces", "tagged_interfaces", "fdb", "own_sources", "narrow_routes4",
    "narrow_routes6", "blackholes4", "blackholes6", "settings", "known_neighbours",
)  # fmt: skip
VRFS = 4
"""More than any of the tables' networks has"""
CLOCKED = {"coherence"}
"""Moves with the lease"""


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before if before[name] != after[name]} - CLOCKED
