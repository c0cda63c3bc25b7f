# SPDX-License-Identifier: GPL-2.0-only
"""The command line of `xdprouter explain`. What is large is imported when a packet is made."""

import argparse
import ipaddress
import re
from pathlib import Path

from xdprouter import api
from xdprouter.errors import UsageError
from xdprouter.explain.flow import PROTOCOLS, Flow
from xdprouter.instance import Instance

MAX_FRAME = 32_000
"""Bytes; in hexadecimal digits they fit a request"""


def add_parser(commands) -> None:
    """Add `explain` to a command line."""
    parser = commands.add_parser(
        "explain",
        help="what becomes of a packet, and why",
        description="Runs one packet through the running program, over its live tables, and shows step by step what "
        "becomes of it: made from addresses, or taken from a capture. Nothing is sent, counted or remembered. Exit "
        "code 0 whatever the verdict is.",
    )
    parser.set_defaults(command=main)
    parser.add_argument("source", metavar="SRC", nargs="?", help="source address, IPv4 or IPv6")
    parser.add_argument("destination", metavar="DST", nargs="?", help="destination address")
    parser.add_argument("--netns", metavar="NAME", help="network namespace; default: the one you are in")
    parser.add_argument("--json", action="store_true", help="the stable form, for programs")
    parser.add_argument(
        "--iif",
        metavar="DEV",
        default="",
        help="port, VLAN interface, bond or bridge that it comes in by, with the tags that it has there; "
        "default: where the source is reached",
    )
    packet = parser.add_argument_group("the packet")
    packet.add_argument("--proto", metavar="P", help="tcp, udp, icmp or a number; default: udp with ports, else icmp")
    packet.add_argument("--sport", metavar="N", help="source port")
    packet.add_argument("--dport", metavar="N", help="destination port")
    packet.add_argument("--size", metavar="N", help=f"bytes of the IP datagram; default: {Flow.size}")
    packet.add_argument("--tos", metavar="N", help="TOS or traffic class, such as 0xb8; default: 0")
    packet.add_argument("--ttl", metavar="N", help=f"or hop limit; default: {Flow.ttl}")
    packet.add_argument(
        "--vlan",
        metavar="ID[.ID]",
        help="802.1Q tag, on the port; with two, the outer one first, which is then 802.1ad",
    )
    capture = parser.add_argument_group("or a captured frame, as it is, with its own tags: --iif names the port")
    capture.add_argument("--pcap", metavar="FILE", type=Path, help="pcap or pcapng, of an Ethernet device")
    capture.add_argument("--packet", metavar="N", help="its number in the file, from 1; default: 1")


def main(args: argparse.Namespace) -> int:
    if args.pcap:
        _check_alone(args)
        number = _number("--packet", args.packet or "1", 1, 1 << 62)
    else:
        if args.packet:
            raise UsageError("--packet is a frame's number in a capture: give the file with --pcap FILE")
        flow = read_flow(args)
    instance = Instance(args.netns)

    from xdprouter import client

    client.check_listening(instance, instance.socket)
    if args.pcap:
        from xdprouter.explain import capture

        frame = capture.frame(args.pcap, number)
    else:
        from xdprouter.explain import packet

        frame = packet.build(flow)
    if len(frame) > MAX_FRAME:
        raise UsageError(f"a frame of {len(frame)} bytes is too long: at most {MAX_FRAME} can be tried")
    reply = client.ask(instance, api.ExplainRequest(frame.hex(), args.iif, own_mac=not args.pcap))

    from xdprouter.explain import render

    render.print_json(reply) if args.json else render.print_explanation(reply)
    return 0


def read_flow(args: argparse.Namespace) -> Flow:
    """Raises UsageError."""
    if not (args.source and args.destination):
        raise UsageError("give SRC and DST, or a capture with --pcap FILE")
    source, destination = _address(args.source), _address(args.destination)
    if source.version != destination.version:
        raise UsageError(
            f"{source} is IPv{source.version} and {destination} is IPv{destination.version}: give two of one family"
        )
    protocol = _protocol(args.proto, source.version, bool(args.sport or args.dport))
    if (args.sport or args.dport) and protocol not in PROTOCOLS.values():
        raise UsageError(f"--sport and --dport are for tcp and udp, not for protocol {protocol}")
    flow = Flow(
        source=str(source),
        destination=str(destination),
        protocol=protocol,
        sport=_number("--sport", args.sport, 0, 0xFFFF, Flow.sport),
        dport=_number("--dport", args.dport, 0, 0xFFFF, Flow.dport),
        size=_number("--size", args.size, 0, 0xFFFF, Flow.size),
        tos=_number("--tos", args.tos, 0, 0xFF, Flow.tos),
        ttl=_number("--ttl", args.ttl, 0, 0xFF, Flow.ttl),
        tags=_tags(args.vlan),
    )
    if flow.size < flow.smallest:
        raise UsageError(f"--size {flow.size} has no room for the headers: at least {flow.smallest}")
    return flow


def _check_alone(args: argparse.Namespace) -> None:
    """A captured frame is taken as it is."""
    if args.source:
        raise UsageError("give SRC and DST or a capture, not both")
    for name in ("proto", "sport", "dport", "size", "tos", "ttl", "vlan"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name} changes nothing about a captured frame: leave it out")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no IP address") from None
    if getattr(address, "scope_id", None):
        raise UsageError(f"{text!r} has a zone: name the port with --iif")
    return address


def _protocol(text: str | None, version: int, ports: bool) -> int:
    icmp = 1 if version == 4 else 58
    if text is None:
        return PROTOCOLS["udp"] if ports else icmp
    known = {**PROTOCOLS, "icmp": icmp, "icmpv6": 58}
    if text.lower() in known:
        return known[text.lower()]
    if not text.isascii() or not text.isdecimal() or int(text) > 255:
        raise UsageError(f"--proto {text!r}: must be {', '.join(known)} or a number up to 255")
    return int(text)


def _number(option: str, text: str | None, low: int, high: int, default: int = 0) -> int:
    if text is None:
        return default
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not low <= number <= high:
        raise UsageError(f"{option} {text!r}: must be a number from {low} to {high}")
    return number


def _tags(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4})?", text) or any(int(vid) > 4094 for vid in text.split(".")):
        raise UsageError(f"--vlan {text!r}: must be a VLAN id up to 4094, or two with a dot between")
    return tuple(int(vid) for vid in text.split("."))
