# SPDX-License-Identifier: GPL-2.0-only
"""Events for people: one line each."""

import time
from collections.abc import Callable


def line(event: dict) -> str:
    """With the local time. What comes from outside (names of devices and chains) cannot break the line or the
    terminal."""
    at = event["time"]
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return f"{clock}.{int(at * 1000) % 1000:03d} {text(event)}"


def text(event: dict) -> str:
    """Without the time."""
    describe = _TEXTS.get(event["kind"])
    # A newer daemon may tell of what this program does not know.
    words = describe(event) if describe else f"{event['kind']} {_unknown(event)}"
    return "".join(c if c.isprintable() else "?" for c in words)


def _unknown(event: dict) -> str:
    return ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("version", "seq", "time", "pid", "kind"))


def _port(event: dict) -> str:
    reason = f": {event['reason']}" if event["reason"] else ""
    before = f" (was {event['before']})" if event["before"] not in (None, event["state"]) else ""
    return f"port {event['port']} is {event['state']}{reason}{before}"


def _guard(event: dict) -> str:
    where = event["device"] or "all ports"
    return f"guard {where}: {'found' if event['found'] else 'gone'}: {event['text']}"


def _neighbour(event: dict) -> str:
    head = f"neighbour {event['address']} dev {event['device']}"
    mac = event["mac"] or "no MAC"
    match event["change"]:
        case "unresolved":
            return f"{head} is unresolved ({event['state']}): its traffic takes the slow path"
        case "resolved":
            return f"{head} is resolved: {mac}"
        case "moved":
            return f"{head} has moved from {event['mac_before']} to {mac}"
        case "managed":
            return f"{head} is kept fresh: {mac}"
        case "unmanaged":
            return f"{head} is no longer kept fresh by the kernel ({event['state']})"
        case "idle":
            return f"{head} is idle and left to itself ({event['state']})"
    return f"{head}: {event['change']}, {event['state']}, {mac}"


def _routes(event: dict) -> str:
    rates = [
        f"{name} +{rate['added_per_s']:g}/s -{rate['deleted_per_s']:g}/s" for name, rate in event["by_protocol"].items()
    ]
    if not rates:
        return f"routes rest: {event['changes']} changes in {event['lasted_s']:g} s"
    return f"routes churn: {', '.join(rates)}; {event['changes']} changes in {event['lasted_s']:g} s"


def _sync(event: dict) -> str:
    return "in sync" if event["in_sync"] else f"out of sync: {'; '.join(event['reasons'])}"


_TEXTS: dict[str, Callable[[dict], str]] = {
    "daemon": lambda e: f"daemon {e['pid']} {'has started' if e['state'] == 'started' else 'stops'}: {e['text']}",
    "port": _port,
    "port_removed": lambda e: f"port {e['port']} is no port any more",
    "device": lambda e: f"port {e['port']} has {e['what']} {e['now']} (was {e['before']})",
    "guard": _guard,
    "neighbour": _neighbour,
    "omitted": lambda e: f"{e['of']}: {e['number']} more at the same moment",
    "netlink": lambda e: f"netlink events were lost ({e['overruns']} overruns); everything is read anew",
    "routes": _routes,
    "cache": lambda e: "cache in use" if e["granted"] else f"cache not in use: {e['reason']}",
    "program": lambda e: f"program {e['program_id']} runs instead of {e['before']}",
    "sync": _sync,
    "disconnected": lambda _: "the daemon has gone away",
    "connected": lambda _: "the daemon is back",
    "lost": lambda e: f"{e['number']} events were lost: not read in time",
}
