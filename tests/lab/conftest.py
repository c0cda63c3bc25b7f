"""Labs with a running xdprouter. Names carry the pid, so that two test runs at once do not meet."""

import itertools
import os

import pytest

from lab.lab import Lab
from lab.topology import load
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


@pytest.fixture
def lab_of():
    """`lab_of("two_hosts")` -> a Lab that is up, with its daemons; gone after the test."""
    labs = []

    def make(topology: str, xdprouter: bool = True) -> Lab:
        lab = Lab(load(topology), name=f"x{os.getpid()}n{next(_number)}")
        labs.append(lab)
        lab.up(xdprouter=xdprouter)
        return lab

    yield make
    for lab in labs:
        lab.down()


@pytest.fixture
def two_hosts(lab_of):
    return lab_of("two_hosts")


@pytest.fixture
def r1(two_hosts):
    return Router(two_hosts, "r1")
