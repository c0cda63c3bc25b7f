# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures: routers over namespaces of their own. The machine's own namespace is never touched."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from controlplane.dataplane import Dataplane
from controlplane.explain import Explainer
from controlplane.pins import PinDirectory
from tests.bpf import links
from tests.bpf.links import Links
from tests.bpf.network import PORTS, Namespace, Router, build_links, whole_network


def pytest_collection_modifyitems(items) -> None:
    """The hook sees the tests of every directory."""
    if os.geteuid() == 0:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs root: namespaces and BPF"))


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """Everything that network.py describes."""
    with whole_network() as ns:
        yield ns


@pytest.fixture(scope="session")
def addressless() -> Iterator[Namespace]:
    """Links and one IPv6 route, but no IPv6 address anywhere: the kernel finds no source address."""
    ns = Namespace()
    try:
        build_links(ns)
        ns.ip(
            "route add 2001:db8:10::/48 dev out0",
            f"neigh add 2001:db8:10::5 dev out0 lladdr {PORTS['out0'].next_hop_mac}",
            family=6,
        )
        yield ns
    finally:
        ns.delete()


@pytest.fixture
def pins(tmp_path) -> Iterator[PinDirectory]:
    directory = PinDirectory(tmp_path)
    directory.open()
    yield directory
    directory.remove()


@pytest.fixture(scope="module")
def dataplane(tmp_path_factory) -> Iterator[Dataplane]:
    """One that attaches nowhere. Its socket filters see what is announced in the namespace of their socket, whichever
    they were loaded in."""
    pins = PinDirectory(tmp_path_factory.mktemp("pins"))
    try:
        made = Dataplane(pins)
        yield made
        made.close()
    finally:
        pins.remove()


@pytest.fixture(scope="session")
def router(namespace, tmp_path_factory) -> Iterator[Router]:
    yield from _router(namespace, tmp_path_factory)


@pytest.fixture(scope="session")
def fib_refused(namespace, tmp_path_factory) -> Iterator[Router]:
    """Its FIB lookups carry a flag that no kernel knows."""
    yield from _router(namespace, tmp_path_factory, "-DFIB_LOOKUP_FLAGS=0x8000")


@pytest.fixture(scope="session")
def fib_other(addressless, tmp_path_factory) -> Iterator[Router]:
    """Its FIB lookups ask for a source address (BPF_FIB_LOOKUP_SRC), which the router never does."""
    yield from _router(addressless, tmp_path_factory, "-DFIB_LOOKUP_FLAGS=(1<<4)")


@pytest.fixture(scope="module")
def explainers() -> Iterator[dict]:
    """By router: each compiles its variant once."""
    made: dict[Router, Explainer] = {}
    yield made
    for explainer in made.values():
        explainer.close()


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This thread stays on one CPU: each has a cache of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def cached_router(namespace, tmp_path_factory) -> Iterator[Router]:
    yield from _router(namespace, tmp_path_factory, cache_sets=1024)


@pytest.fixture(scope="session")
def cached_fib_refused(namespace, tmp_path_factory) -> Iterator[Router]:
    yield from _router(namespace, tmp_path_factory, "-DFIB_LOOKUP_FLAGS=0x8000", cache_sets=1024)


@pytest.fixture(scope="session")
def cached_fib_other(addressless, tmp_path_factory) -> Iterator[Router]:
    yield from _router(addressless, tmp_path_factory, "-DFIB_LOOKUP_FLAGS=(1<<4)", cache_sets=1024)


@pytest.fixture(scope="session")
def link_network() -> Iterator[Namespace]:
    """Everything that links.py describes."""
    with links.network() as ns:
        yield ns


@pytest.fixture(scope="session")
def links_with(link_network, tmp_path_factory) -> Iterator[Callable[..., Links]]:
    """`links_with("VLAN", "VRF", cached=True)` -> a data plane with these features, made once."""
    made: dict[tuple, Links] = {}

    def get(*features: str, cached: bool = False) -> Links:
        if (features, cached) not in made:
            pins = PinDirectory(tmp_path_factory.mktemp("pins"))
            stack.callback(pins.remove)
            defines = tuple(f"-DFEATURE_{feature}=1" for feature in features)
            made[features, cached] = Links(link_network, pins, defines, 1024 if cached else 0)
            stack.callback(made[features, cached].close)
        return made[features, cached]

    with ExitStack() as stack:
        yield get


@pytest.fixture(scope="session")
def encap_route(namespace) -> None:
    """Lightweight-tunnel routes, 10.50/16 and 2001:db8:50::/48."""
    for family, encap in ((4, "encap ip id 100 dst 10.0.1.2"), (6, "encap ip6 id 100 dst 2001:db8:0:1::2")):
        prefix = "10.50.0.0/16" if family == 4 else "2001:db8:50::/48"
        with namespace.entered():
            command = f"ip -{family} route add {prefix} {encap} dev out0"
            done = subprocess.run(command.split(), capture_output=True, text=True)
        if "encapsulation type not supported" in done.stderr or "CONFIG_LWTUNNEL" in done.stderr:
            pytest.skip("the kernel has no CONFIG_LWTUNNEL")
        assert done.returncode == 0, done.stderr


def _router(ns: Namespace, tmp_path_factory, *defines: str, cache_sets: int = 0) -> Iterator[Router]:
    directory = PinDirectory(tmp_path_factory.mktemp("pins"))
    try:
        router = Router(ns, directory, defines, cache_sets)
        yield router
        router.close()
    finally:
        directory.remove()
