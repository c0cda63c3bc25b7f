# SPDX-License-Identifier: GPL-2.0-only
"""Routers with a cache, over a network of their own."""

from collections.abc import Iterator

import pytest

from controlplane.pins import PinDirectory
from tests.bpf.cache.cached import Cached
from tests.bpf.network import whole_network


@pytest.fixture(scope="package")
def shared(tmp_path_factory) -> Iterator[Cached]:
    """A router of this folder's own, whose network the tests may change for a moment."""
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    with whole_network() as ns:
        ns.ip("route add 10.99.0.0/16 via 10.0.2.2 dev big0")
        ns.ip("route add 2a00:1::/32 via 2001:db8:0:2::2 dev big0", family=6)
        try:
            router = Cached(ns, pins)
            yield router
            router.close()
        finally:
            pins.remove()


@pytest.fixture
def router(shared) -> Cached:
    shared.calm()
    return shared


@pytest.fixture(scope="package")
def one_set(shared, tmp_path_factory) -> Iterator[Cached]:
    """All packets meet in one set: only the key tells them apart."""
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    try:
        router = Cached(shared.ns, pins, cache_sets=1)
        yield router
        router.close()
    finally:
        pins.remove()
