# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter doctor`: the command line. Exit codes: 0 all fine, 1 warnings, 2 it will not work, or a wrong option."""

import argparse
import json
import sys
from pathlib import Path

from xdprouter import config
from xdprouter.errors import XdprouterError
from xdprouter.instance import Instance

_DESCRIPTION = """Look at this machine, its kernel and its ports, before xdprouter runs and while it does. Each
finding says what is wrong and the command that mends it. Nothing is changed. Exit codes: 0 all fine, 1 warnings,
2 it will not work."""


def add_parser(commands) -> None:
    parser = commands.add_parser("doctor", help="what keeps packets off the fast path here", description=_DESCRIPTION)
    parser.add_argument("--netns", metavar="NAME", help="network namespace; default: the one you are in")
    parser.add_argument("-i", "--interface", action="append", default=[], metavar="PORT",
                        help="look at this port; repeatable; default: the daemon's or the configuration's")  # fmt: skip
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help=f"default: {config.DEFAULT_PATH}")
    parser.add_argument("--json", action="store_true", help="the stable form, for programs")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    instance = Instance(args.netns)
    instance.check_netns()
    ports = tuple(config.PortConfig(name) for name in dict.fromkeys(args.interface))
    config.checked(config.Config(port=ports))
    settings = _settings(args.config)
    try:
        from xdprouter.doctor import gather
    except ImportError as error:
        # Only pyroute2 can be missing here: without it nothing can be said of the devices.
        raise XdprouterError(
            f"a Python package is missing: {error}; install xdprouter with its dependencies"
        ) from error
    from xdprouter.doctor.report import judge

    report = judge(gather.gather(instance, settings, tuple(args.interface), args.config is not None))
    if args.json:
        json.dump(report.table(), sys.stdout, indent=2)
        print()
    else:
        from xdprouter.doctor.render import print_report

        print_report(report)
    return report.exit_code


def _settings(path: Path | None) -> config.Config:
    """The named file, the default one if it is there, or what holds without any."""
    if path is None and not config.DEFAULT_PATH.exists():
        return config.Config()
    return config.load(path or config.DEFAULT_PATH)
