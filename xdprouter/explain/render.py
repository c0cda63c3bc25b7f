# SPDX-License-Identifier: GPL-2.0-only
"""An explanation for people, step by step."""

from rich.console import Console
from rich.text import Text

from xdprouter.render import print_json

__all__ = ["print_explanation", "print_json"]

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 89: "OSPF", 132: "SCTP"}
_PATHS = {
    "fast": ("fast path", "bold green"),
    "slow": ("slow path: the kernel takes it", "bold yellow"),
    "dropped": ("dropped", "bold red"),
}
_CACHE = {
    "not asked": "not asked: the verdict falls before",
    "at rest": "at rest: nothing may be recalled at this moment",
    "not remembered": "this way is not remembered: the FIB is asked",
    "void": "what it remembers of this way holds no longer: the FIB is asked",
}
_MEMBER = {
    "": "",
    "has learned the sender": ", where it has learned the sender",
    "active": ", an active member",
    "any": ", any member of it",
}
_NAMES = 12
_ROW = 16
_CHANGED = "bold reverse"


def print_explanation(reply: dict, console: Console | None = None) -> None:
    # No table: a command that is to be typed must not be broken into lines.
    console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    word, style = _PATHS[reply["path"]]
    console.print(Text.assemble((word, style), f"  {reply['verdict']}: {reply['meaning']}"))
    for name, text in _steps(reply):
        console.print(Text.assemble((f"{name:<{_NAMES}}", "bold"), text))
    for title, line in _frames(reply):
        console.print(Text(title, style="bold") if title else line)


def _steps(reply: dict) -> list[tuple[str, str | Text]]:
    out: list[tuple[str, str | Text]] = [("came in on", _came_in(reply)), ("packet", _packet(reply["packet"]))]
    out.append(("cache", _cache(reply["cache"])))
    out.append(("FIB", _lookup(reply["fib"])))
    if hop := reply["next_hop"]:
        mac = f", {hop['mac']}" if hop["mac"] else ""
        out.append(("next hop", f"{hop['address']} on {hop['device']}: {hop['state']}{mac}"))
    if back := reply["reverse_path"]:
        out.append(("way back", _lookup(back)))
    if egress := reply["egress"]:
        out.append(("leaves by", _egress(egress)))
    out.append(("verdict", f"{reply['verdict']}: {reply['action']}"))
    if kernel := reply["kernel"]:
        out.append(("kernel", kernel["command"]))
        out.append(("", kernel["route"] or kernel["error"]))
        if kernel["matched"]:
            out.append(("", f"by the route {kernel['matched']}"))
    for reason in reply["reasons"]:
        out.append(("why", reason["text"]))
        if reason["remedy"]:
            out.append(("to mend", Text(reason["remedy"], style="green")))
    return out


def _came_in(reply: dict) -> str:
    port, interface = reply["port"], reply["packet"]["interface"]
    how = {
        "given": "",
        "destination MAC": ": the frame is for its MAC",
        "only port": ": the only port",
        "way back to the source": ": the kernel's way to the source",
    }[port["chosen"]]
    named = port["interface"]
    of = ""
    if named != port["name"]:
        of = f", for {named}{_MEMBER[port['member']]}"
    belongs = f"; it belongs to {interface}" if interface not in (None, named) else ""
    vrf = f", in VRF {reply['packet']['vrf']}" if reply["packet"]["vrf"] else ""
    return f"{port['name']} (ifindex {port['ifindex']}){of}{how}{belongs}{vrf}"


def _packet(packet: dict) -> str:
    tags = "".join(f"{tag}, " for tag in packet["tags"])
    if packet["source"] is None:
        return (
            f"{tags}EtherType {packet['ethertype']:#06x}, {packet['source_mac']} -> {packet['destination_mac']}, "
            f"a frame of {packet['frame_bytes']} bytes"
        )
    protocol = packet["protocol"]
    words = [f"{packet['source']} -> {packet['destination']}"]
    if protocol is not None:
        name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
        ports = packet["source_port"] or packet["destination_port"]
        words.append(f"{name} {packet['source_port']} -> {packet['destination_port']}" if ports else name)
    if packet["datagram_bytes"] is not None:
        words.append(f"{packet['datagram_bytes']} bytes")
    words.append(f"{'hop limit' if ':' in packet['source'] else 'TTL'} {packet['ttl']}")
    if packet["tos"]:
        words.append(f"TOS {packet['tos']:#04x}")
    return tags + ", ".join(words)


def _cache(cache: dict) -> str:
    if cache["state"] == "off":
        return f"off: {cache['reason']}"
    if cache["state"] == "recalled":
        cpus = ", ".join(map(str, cache["recalled_on"]))
        agrees = "otherwise than the FIB answers now" if cache["differs"] else "as the FIB answers"
        return f"recalled by {cache['key']} on CPU {cpus}, {agrees}"
    key = f" (by {cache['key']})" if cache["key"] and cache["state"] != "not asked" else ""
    return _CACHE[cache["state"]] + key


def _lookup(lookup: dict | None) -> str:
    if lookup is None:
        return "not asked: the verdict falls before"
    device = f", by {lookup['device']}" if lookup["device"] else ""
    mtu = f", the path takes {lookup['mtu']} bytes" if lookup["mtu"] else ""
    return f"{lookup['code']}: {lookup['name']}{device}{mtu}"


def _egress(egress: dict) -> str:
    words = [egress["device"]]
    if egress["port"] != egress["device"]:
        words.append(f"by port {egress['port']}" if egress["port"] else "no port")
    words.append(f"slot {egress['slot']}")
    if not egress["transmitting"]:
        words.append("not in the devmap")
    words.append(f"MTU {egress['mtu']}")
    words += egress["tags"] or []
    words.append(f"{egress['source_mac']} -> {egress['destination_mac']}")
    return ", ".join(words)


def _frames(reply: dict) -> list[tuple[str, Text | None]]:
    before, after = bytes.fromhex(reply["frame"]), bytes.fromhex(reply["frame_after"])
    if before == after:
        return [(f"frame, {len(before)} bytes, untouched", None), *[("", line) for line in hexdump(before, before)]]
    if len(before) != len(after):  # other tags: aligned at the end, where the datagram is
        shift = len(after) - len(before)
        old = bytes(max(0, shift)) + before if shift > 0 else before
        new = after if shift > 0 else bytes(-shift) + after
        marks = [a != b for a, b in zip(old, new, strict=True)]
        of_before, of_after = marks[max(0, shift) :], marks[max(0, -shift) :]
    else:
        of_before = of_after = [a != b for a, b in zip(before, after, strict=True)]
    return [
        (f"frame before, {len(before)} bytes", None),
        *[("", line) for line in _dump(before, of_before)],
        (f"frame after, {len(after)} bytes; what changed is marked", None),
        *[("", line) for line in _dump(after, of_after)],
    ]


def hexdump(frame: bytes, other: bytes) -> list[Text]:
    """Sixteen octets a line, those that differ from `other`, of the same length, marked."""
    return _dump(frame, [a != b for a, b in zip(frame, other, strict=True)])


def _dump(frame: bytes, changed: list[bool]) -> list[Text]:
    """Marked with reverse video, and with `*` before the octet, which is seen without colours too. Of a long frame the
    head, where everything happens."""
    lines = []
    shown = len(frame) if len(frame) <= 8 * _ROW else 5 * _ROW
    for start in range(0, shown, _ROW):
        line = Text(f"  {start:04x} ")
        for place in range(start, min(start + _ROW, shown)):
            mark = changed[place]
            line.append("*" if mark else " ")
            line.append(f"{frame[place]:02x}", style=_CHANGED if mark else "")
        lines.append(line)
    if shown < len(frame):
        lines.append(Text(f"  ... {len(frame) - shown} bytes more, as they were"))
    return lines
