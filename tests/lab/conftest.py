"""Labs with a running xdprouter. Names carry the pid, so that two test runs at once do not meet."""

import itertools
import json
import os
from collections.abc import Callable, Iterator

import pytest

from lab import instance, namespace
from lab.lab import Lab
from lab.topology import Topology, load
from lab.wait import wait_until
from xdprouter import api, client
from xdprouter.instance import Instance

_number = itertools.count()


class Router:
    """One router's daemon, asked over its control socket."""

    def __init__(self, lab: Lab, node: str):
        self.lab = lab
        self.node = node
        self.instance = Instance(lab.ns(node))

    def ask(self, request: api.Request) -> dict:
        return client.ask(self.instance, request)

    def status(self) -> dict:
        return self.ask(api.StatusRequest())

    def port(self, name: str) -> dict:
        return next(port for port in self.status()["ports"] if port["name"] == name)

    def verdict(self, verdict: str, *ports: str) -> int:
        """Packets of one verdict, over the named ports or all."""
        return sum(
            port["ingress"].get(verdict, {}).get("packets", 0)
            for port in self.status()["ports"]
            if not ports or port["name"] in ports
        )

    def egress(self, port: str) -> int:
        return self.port(port)["egress"]["packets"]


def xdp(ns: str, name: str) -> dict:
    """A device's XDP program as `ip` tells it, {} if there is none."""
    done = namespace.run(ns, ["ip", "-j", "link", "show", "dev", name], check=True)
    return json.loads(done.stdout)[0].get("xdp", {})


def _labs() -> Iterator[Callable[[str | Topology], Lab]]:
    labs = []

    def make(topology: str | Topology, xdprouter: bool = True) -> Lab:
        declared = topology if isinstance(topology, Topology) else load(topology)
        lab = Lab(declared, name=f"x{os.getpid()}n{next(_number)}")
        labs.append(lab)
        lab.up(xdprouter=xdprouter)
        return lab

    yield make
    for lab in labs:
        lab.down()


@pytest.fixture
def lab_of() -> Iterator[Callable[[str | Topology], Lab]]:
    """`lab_of("two_hosts")` -> a Lab that is up, with its daemons; gone after the test."""
    yield from _labs()


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Callable[[str | Topology], Lab]]:
    """As lab_of, for all tests of a file: they leave the lab as they found it."""
    yield from _labs()


@pytest.fixture
def two_hosts(lab_of):
    return lab_of("two_hosts")


@pytest.fixture
def r1(two_hosts):
    return Router(two_hosts, "r1")


@pytest.fixture(scope="module")
def bare_lab() -> Iterator[Lab]:
    """two_hosts without a daemon, for all tests of a file."""
    made = Lab(load("two_hosts"), name=f"x{os.getpid()}n{next(_number)}")
    made.up(xdprouter=False)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def ns(bare_lab) -> Iterator[str]:
    """bare_lab's r1, without a daemon and with its ports off XDP again after the test."""
    name, directory = bare_lab.ns("r1"), bare_lab.directory("r1")
    yield name
    instance.stop(directory)
    instance.remove_state(name)
    # The kernel detaches a link some time after its last pin has gone.
    wait_until(lambda: not any(xdp(name, port) for port in ("left", "right")), 30, "the ports to be off XDP")


@pytest.fixture
def office() -> Iterator[str]:
    """A namespace for an operator's things beside the router's, its loopback up."""
    name = f"x{os.getpid()}o{next(_number)}"
    namespace.create(name)
    try:
        namespace.run(name, ["ip", "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        namespace.delete(name)
