# SPDX-License-Identifier: GPL-2.0-only
"""The command line. The parser is the one source of --help, of the man pages and of shell completion."""

import argparse
from pathlib import Path

from xdprouter import __version__, api, config, stdout
from xdprouter.errors import UsageError, XdprouterError
from xdprouter.instance import Instance

DESCRIPTION = """An XDP fast path for Linux routers. The kernel's FIB, filled by FRR, BIRD or `ip route`, stays the only
routing table; what the fast path is not certain about goes to the kernel. There is one daemon for each network
namespace."""
EXIT_CODES = "Exit codes: 0 good, 1 failed, 2 usage or configuration, 3 no daemon in this instance."


def main(arguments: list[str] | None = None) -> int:
    try:
        with stdout.taken():
            args = make_parser().parse_args(arguments)
            if args.command is not _run:
                stdout.check_open()
                return args.command(args)
        return args.command(args)
    except XdprouterError as error:
        stdout.complain(f"xdprouter: {error}")
        return error.exit_code
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Every command with its options. Loads nothing beyond the standard library."""
    parser = argparse.ArgumentParser(prog="xdprouter", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"xdprouter {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "be the daemon, in the foreground")
    run.add_argument("-c", "--config", type=Path, metavar="FILE", help=f"default: {config.DEFAULT_PATH}")
    run.add_argument("-i", "--interface", action="append", default=[], metavar="PORT", help="a port; repeatable")
    run.add_argument("--mode", help="native or generic, for ports that do not say it themselves")
    run.add_argument("-v", "--verbose", action="store_true", help="log every operation on the data plane")

    _asking(commands, "status", _status, "how the router is")
    _asking(commands, "ports", _ports, "the ports and their traffic")
    _asking(commands, "interfaces", _interfaces, "VLANs, bonds and bridges on the ports, and VRFs")
    _asking(commands, "blackholes", _blackholes, "what the blackhole routes have swallowed, busiest first")
    _asking(commands, "neighbours", _neighbours, "the next hops that carry traffic, and how fresh they are")
    monitor = _command(commands, "monitor", _monitor, "what happens, from now on, a line for each event")
    monitor.add_argument("--json", action="store_true", help="a JSON object for each event")
    monitor.add_argument("--follow", action="store_true", help="wait for a daemon, also when it goes away")
    _command(commands, "top", _top, "a full screen of what the router does at this moment")
    attach = _asking(commands, "attach", _attach, "put a port on the fast path")
    attach.add_argument("port", metavar="PORT", help="a network device; it may be absent as yet")
    attach.add_argument("--mode", default="", help="native or generic; default: as configured")
    detach = _asking(commands, "detach", _detach, "take a port off the fast path")
    detach.add_argument("port", metavar="PORT", help="a port of the daemon")
    _asking(commands, "reload", _reload, "read the configuration again, and change what is different")
    stop = _asking(commands, "stop", _stop, "end the daemon; forwarding goes on without it")
    stop.add_argument("--detach", action="store_true", help="take all ports off XDP too")

    from xdprouter.explain import cli as explain_cli

    explain_cli.add_parser(commands)

    from lab import cli as lab_cli

    lab_cli.add_parser(commands)

    from xdprouter.bench import cli as bench_cli

    bench_cli.add_parser(commands)

    from xdprouter.doctor import cli as doctor_cli

    doctor_cli.add_parser(commands)

    from xdprouter import completion

    completion.add_parser(commands)
    return parser


def _command(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    description = text[0].upper() + text[1:] + "."
    parser = commands.add_parser(name, help=text, description=description, epilog=EXIT_CODES)
    parser.add_argument("--netns", metavar="NAME", help="network namespace; default: the one you are in")
    parser.set_defaults(command=function)
    return parser


def _asking(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    """A command that shows the daemon's reply."""
    parser = _command(commands, name, function, text)
    parser.add_argument("--json", action="store_true", help="the stable form, for programs")
    return parser


def _run(args: argparse.Namespace) -> int:
    from xdprouter import log

    stdout.occupy_standard_streams()
    log.configure(args.verbose)
    instance = Instance(args.netns)
    settings = _settings(args)
    instance.check_netns()
    try:
        from xdprouter import daemon
    except ImportError as error:
        raise XdprouterError(
            f"a Python package is missing: {error}; install xdprouter with its dependencies"
        ) from error
    return daemon.run(instance, settings, lambda: _settings(args))


def _settings(args: argparse.Namespace) -> config.Config:
    """The file, if one is named or there is the default one and no -i; the command line over it."""
    import dataclasses

    if args.config:
        settings = config.load(args.config)
    elif args.interface:
        settings = config.Config()
    elif config.DEFAULT_PATH.exists():
        settings = config.load(config.DEFAULT_PATH)
    else:
        raise UsageError(f"no ports: give some with -i PORT, or write {config.DEFAULT_PATH}")
    if args.mode:
        settings = dataclasses.replace(settings, mode=args.mode)
    ports = tuple(config.PortConfig(name) for name in args.interface)
    return config.checked(dataclasses.replace(settings, port=settings.port + ports))


def _ask(args: argparse.Namespace, request: api.Request) -> dict:
    from xdprouter import client

    return client.ask(Instance(args.netns), request)


def _status(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.StatusRequest()), "print_status")


def _ports(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.PortsRequest()), "print_ports")


def _interfaces(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.InterfacesRequest()), "print_interfaces")


def _blackholes(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.BlackholesRequest()), "print_blackholes")


def _neighbours(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.NeighboursRequest()), "print_neighbours")


def _show(args: argparse.Namespace, reply: dict, printer: str) -> int:
    from xdprouter import render

    (render.print_json if args.json else getattr(render, printer))(reply)
    return 0


def _monitor(args: argparse.Namespace) -> int:
    from xdprouter import monitor

    return monitor.run(Instance(args.netns), args.json, args.follow)


def _top(args: argparse.Namespace) -> int:
    from xdprouter import top

    return top.run(Instance(args.netns))


def _attach(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.AttachRequest(args.port, args.mode)), "print_done")


def _detach(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.DetachRequest(args.port)), "print_done")


def _reload(args: argparse.Namespace) -> int:
    reply = _ask(args, api.ReloadRequest())
    _show(args, reply, "print_reloaded")
    return 1 if reply["failed"] else 0


def _stop(args: argparse.Namespace) -> int:
    return _show(args, _ask(args, api.StopRequest(args.detach)), "print_done")
