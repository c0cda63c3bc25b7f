"""One lab: a topology brought up under a name, and taken down without a trace."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab import instance, namespace
from lab.errors import LabError, TopologyError
from lab.topology import Topology, load

STATE_ROOT = Path("/run/xdprouter-lab")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class Lab:
    """A topology under a name. What exists of it is on the machine, not in this object: any process
    can take down, enter or list a lab that another one brought up.

    Node n is the network namespace `<name>-<n>`. Logs and pids are in `/run/xdprouter-lab/<name>/<n>/`.
    That directory exists from before the first until after the last of a lab's other resources.
    """

    def __init__(self, topology: Topology, name: str | None = None) -> None:
        self.topology = topology
        self.name = name or topology.name
        if not _NAME.fullmatch(self.name):
            raise LabError(f"{self.name!r} cannot name a lab: use letters, digits, _ and -")
        self.state = STATE_ROOT / self.name
        self._daemons: list[subprocess.Popen] = []

    @classmethod
    def find(cls, name: str) -> "Lab":
        """The lab of this name: the one that is up, else the shipped topology's. Raises TopologyError."""
        saved = list((STATE_ROOT / name).glob("*.toml"))
        return cls(load(saved[0] if saved else name), name)

    @classmethod
    def all_up(cls) -> list[str]:
        """The names of the labs that are up, wholly or in part."""
        return sorted(path.name for path in STATE_ROOT.glob("*") if path.is_dir())

    def __enter__(self) -> "Lab":
        self.up()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.down()

    @property
    def is_up(self) -> bool:
        return self.state.exists()

    def ns(self, node: str) -> str:
        """A node's network namespace. Raises TopologyError for an unknown node."""
        if node not in self.topology.nodes:
            raise TopologyError(f"{self.name} has no node {node!r}; there are: {', '.join(self.topology.nodes)}")
        return f"{self.name}-{node}"

    def directory(self, node: str) -> Path:
        """Where a node's logs, pids and the sockets of its routing daemons are."""
        return self.state / node

    def up(self, xdprouter: bool = True) -> None:
        """Build everything and start the daemons; routes may still converge after it has returned.

        Raises LabError, having removed what it made, if anything fails or the lab is up already.
        """
        if os.geteuid() != 0:
            raise LabError("a lab needs root, for network namespaces")
        with ExitStack() as undo:
            try:
                self._build(undo, xdprouter)
            except FileNotFoundError as error:
                raise LabError(f"{self.name}: {error.filename}: {error.strerror}") from error
            except (OSError, subprocess.SubprocessError) as error:
                raise LabError(f"{self.name}: {error}") from error
            undo.pop_all()

    def _build(self, undo: ExitStack, xdprouter: bool) -> None:
        """Make all resources, pushing the teardown of each to `undo`."""
        # Here, so that `lab list` and `lab show` need not load pyroute2.
        from lab import network

        self._claim_name()
        undo.callback(shutil.rmtree, self.state)
        (self.state / f"{self.topology.name}.toml").write_text(self.topology.text)
        nodes = self.topology.nodes.values()
        for node in nodes:
            undo.callback(self._remove_node, node.name)
            namespace.create(self.ns(node.name))
            network.prepare(self.ns(node.name), node)
        for link in self.topology.links:
            network.connect(link, self.ns(link.a.node), self.ns(link.b.node))
        for node in nodes:
            network.add_devices(self.ns(node.name), node, self.topology.ports(node.name))
        for node in nodes:
            names = [end.port for end in self.topology.ports(node.name)]
            names += [device.name for device in node.devices if device.kind != "table"]
            network.wait_until_usable(self.ns(node.name), names, node.members)
            network.add_routes(self.ns(node.name), node.routes)
            if node.nftables is not None:
                network.load_nftables(self.ns(node.name), node.nftables)
        for node in nodes:
            self._start_routing(node.name)
        for node in nodes:
            if xdprouter and node.xdprouter:
                self.start_xdprouter(node.name)

    def _claim_name(self) -> None:
        hint = f"xdprouter lab down {self.name}"
        for node in self.topology.nodes:
            if namespace.exists(self.ns(node)) and not self.is_up:
                raise LabError(f"network namespace {self.ns(node)} is left over; run: {hint}")
        STATE_ROOT.mkdir(exist_ok=True)
        try:
            self.state.mkdir()
        except FileExistsError as error:
            raise LabError(f"lab {self.name} is up already; take it down first: {hint}") from error

    def _start_routing(self, name: str) -> None:
        from lab import bird, frr

        node = self.topology.nodes[name]
        if node.frr is not None:
            frr.start(self.ns(name), self.directory(name), node.frr)
        if node.bird is not None:
            bird.start(self.ns(name), self.directory(name), node.bird)

    def down(self) -> None:
        """Remove everything of this lab, whoever brought it up. Nothing there: nothing to do."""
        for node in self.topology.nodes:
            self._remove_node(node)
        if self.is_up:
            shutil.rmtree(self.state)

    def _remove_node(self, node: str) -> None:
        instance.stop(self.directory(node))
        for daemon in self._daemons:
            daemon.poll()  # reaps those that were this process's children
        namespace.delete(self.ns(node))
        instance.remove_state(self.ns(node))

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on a node; vtysh and birdc find the node's own daemon."""
        from lab import bird, frr

        if argv and argv[0] == "vtysh":
            argv = frr.vtysh_command(self.directory(node), *argv[1:])
        elif argv and argv[0] == "birdc":
            argv = bird.birdc_command(self.directory(node), *argv[1:])
        return namespace.command(self.ns(node), argv)

    def exec(self, node: str, argv: Sequence[str], **kw: Any) -> subprocess.CompletedProcess:
        """`subprocess.run` on a node; output is captured as text unless `kw` says otherwise."""
        if not {"stdout", "stderr", "capture_output"} & kw.keys():
            kw["capture_output"] = True
        kw.setdefault("text", True)
        return subprocess.run(self.command(node, argv), **kw)

    def popen(self, node: str, argv: Sequence[str], **kw: Any) -> subprocess.Popen:
        """`subprocess.Popen` on a node; `down` ends it, with all that runs there."""
        return subprocess.Popen(self.command(node, argv), **kw)

    def start_xdprouter(self, node: str, extra_args: Sequence[str] = ()) -> subprocess.Popen:
        """Start xdprouter on the ports that the topology lists for a node; return when it is ready.

        Raises LabError with the last line of its log if it is not.
        """
        ports = self.topology.nodes[node].xdprouter
        if not ports:
            raise LabError(f"{self.name}: {node} lists no xdprouter ports")
        daemon = instance.start(self.ns(node), ports, self.directory(node), extra_args)
        self._daemons.append(daemon)
        return daemon

    def link_down(self, node: str, port: str) -> None:
        """Set a device down. The other end of the link loses its carrier."""
        from lab import network

        network.set_state(self.ns(node), port, "down")

    def link_up(self, node: str, port: str) -> None:
        """Set a device up, and put back the node's static routes that the kernel flushed meanwhile."""
        from lab import network

        network.set_state(self.ns(node), port, "up")
        network.restore_routes(self.ns(node), self.topology.nodes[node].routes)
