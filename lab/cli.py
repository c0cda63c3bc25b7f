"""`xdprouter lab`: list, up, down, exec, show.

Exit codes: 0 good, 1 failed, 2 usage or an unknown topology; `exec` passes on its command's own.
"""

import argparse
import json
import subprocess
import sys

from lab.errors import LabError, TopologyError
from lab.lab import Lab
from lab.topology import Topology, diagram, load, names

EXIT_GOOD, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `lab` to a command line. The chosen subcommand's function is `args.lab_command`."""
    parser = subparsers.add_parser(
        "lab",
        help="routers and hosts in network namespaces, to try things on",
        description="Routers and hosts in network namespaces, to try things on. Nothing outside of them is touched.",
    )
    parser.set_defaults(command=main)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="the topologies there are, and which labs are up")
    listing.add_argument("--json", action="store_true", help="the stable form, for programs")
    listing.set_defaults(lab_command=_list)

    up = commands.add_parser("up", help="build a lab")
    up.add_argument("topology", metavar="NAME", help="a shipped topology, or the path of a TOML file")
    up.add_argument("--name", help="the lab's name, to have a topology twice (default: the topology's)")
    up.add_argument("--no-xdprouter", action="store_true", help="leave the forwarding to the kernel")
    up.set_defaults(lab_command=_up)

    down = commands.add_parser("down", help="remove a lab, with everything that runs in it")
    which = down.add_mutually_exclusive_group(required=True)
    which.add_argument("name", metavar="NAME", nargs="?", help="the lab's name")
    which.add_argument("--all", action="store_true", help="every lab that is up")
    down.set_defaults(lab_command=_down)

    execute = commands.add_parser("exec", help="run a command on a node (vtysh and birdc reach its own daemon)")
    execute.add_argument("name", metavar="NAME", help="the lab's name")
    execute.add_argument("node", metavar="NODE", help="a node of the topology")
    execute.add_argument("argv", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")
    execute.set_defaults(lab_command=_exec)

    show = commands.add_parser("show", help="a lab's diagram, nodes and addresses, and whether it is up")
    show.add_argument("name", metavar="NAME", help="a lab's or a topology's name, or the path of a TOML file")
    show.add_argument("--json", action="store_true", help="the stable form, for programs")
    show.set_defaults(lab_command=_show)


def main(args: argparse.Namespace) -> int:
    """Carry out what `add_parser`'s parser understood; returns the exit code, prints one line on failure."""
    try:
        return args.lab_command(args)
    except TopologyError as error:
        print(f"xdprouter lab: {error}", file=sys.stderr)
        return EXIT_USAGE
    except LabError as error:
        print(f"xdprouter lab: {error}", file=sys.stderr)
        return EXIT_FAILED


def _list(args: argparse.Namespace) -> int:
    if args.json:
        topologies = [{"name": name, "description": load(name).description} for name in names()]
        return _print_json({"topologies": topologies, "up": Lab.all_up()})
    for name in names():
        print(f"{name:16} {load(name).description}")
    for name in Lab.all_up():
        print(f"up: {name}")
    return EXIT_GOOD


def _up(args: argparse.Namespace) -> int:
    lab = Lab(load(args.topology), args.name)
    lab.up(xdprouter=not args.no_xdprouter)
    print(f"{lab.name} is up: {', '.join(lab.ns(node) for node in lab.topology.nodes)}")
    return EXIT_GOOD


def _down(args: argparse.Namespace) -> int:
    for name in Lab.all_up() if args.all else [args.name]:
        lab = Lab.find(name)
        was_up = lab.is_up
        lab.down()
        print(f"{name} is down" if was_up else f"{name} was not up")
    return EXIT_GOOD


def _exec(args: argparse.Namespace) -> int:
    lab = Lab.find(args.name)
    if not args.argv:
        print("xdprouter lab: exec needs a command", file=sys.stderr)
        return EXIT_USAGE
    return subprocess.call(lab.command(args.node, args.argv))


def _show(args: argparse.Namespace) -> int:
    lab = Lab(load(args.name)) if args.name.endswith(".toml") else Lab.find(args.name)
    if args.json:
        nodes = [_node(lab.topology, node, lab.ns(node)) for node in lab.topology.nodes]
        return _print_json({"name": lab.name, "up": lab.is_up, "nodes": nodes})
    print(diagram(lab.topology))
    print(f"\nlab {lab.name} is {'up' if lab.is_up else 'down'}\n")
    for node in lab.topology.nodes:
        _show_node(lab.topology, node, lab.ns(node))
    return EXIT_GOOD


def _show_node(topology: Topology, name: str, ns: str) -> None:
    node = topology.nodes[name]
    print(f"{name} ({node.kind}), namespace {ns}")
    if node.loopback:
        print(f"    {'lo':15}  {' '.join(str(address) for address in node.loopback)}")
    for end in topology.ports(name):
        mark = "  xdprouter" if end.port in node.xdprouter else ""
        print(f"    {end.port:15}  {' '.join(str(address) for address in end.addresses)}{mark}")


def _node(topology: Topology, name: str, ns: str) -> dict:
    """What `show` prints of a node."""
    node = topology.nodes[name]
    return {
        "name": name,
        "kind": node.kind,
        "netns": ns,
        "loopback": [str(address) for address in node.loopback],
        "ports": [
            {"name": end.port, "addresses": [str(a) for a in end.addresses], "xdprouter": end.port in node.xdprouter}
            for end in topology.ports(name)
        ],
    }


def _print_json(table: dict) -> int:
    json.dump(table, sys.stdout, indent=2)
    print()
    return EXIT_GOOD
