# SPDX-License-Identifier: GPL-2.0-only
"""Replies for people: `rich` tables from the same tables that `--json` prints."""

import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xdprouter.quantity import duration as _duration
from xdprouter.quantity import si as _si

_STATE_STYLE = {
    "active": "green",
    "down": "yellow",
    "absent": "yellow",
    "guarded": "yellow",
    "slow": "yellow",
    "unsupported": "red",
}

_NEIGHBOUR_STYLE = {
    "reachable": "green",
    "permanent": "green",
    "failed": "red",
    "absent": "red",
    "incomplete": "yellow",
}
_TOP_REASONS = 5
_MOST_ODD = 10


def print_json(reply: dict) -> None:
    json.dump(reply, sys.stdout, indent=2)
    print()


def print_done(reply: dict) -> None:
    print(reply["message"])


def print_ports(reply: dict) -> None:
    _console().print(_ports_table(reply["ports"]))


def print_interfaces(reply: dict) -> None:
    console = _console()
    console.print(_interfaces_table(reply["interfaces"], "interfaces"))
    if reply["vrfs"]:
        console.print(_vrfs_table(reply["vrfs"]))


def print_neighbours(reply: dict) -> None:
    table = Table(title="next hops", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("device", "address", "mac", "state", "managed"):
        table.add_column(name, no_wrap=True)
    for name in ("age", "idle", "packets", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for hop in reply["neighbours"]:
        table.add_row(
            hop["device"],
            hop["address"],
            hop["mac"] or "-",
            Text(hop["state"], style=_NEIGHBOUR_STYLE.get(hop["state"], "")),
            "yes" if hop["managed"] else "no",
            "-" if hop["age_s"] is None else _duration(hop["age_s"]),
            _duration(hop["idle_s"]),
            str(hop["packets"]),
            str(hop["bytes"]),
        )
    _console().print(table)


def print_status(status: dict) -> None:
    console = _console()
    word, style = ("in sync", "bold green") if status["in_sync"] else ("out of sync", "bold red")
    console.print(Text.assemble((word, style), f"  {_head(status)}"))
    for reason in status["out_of_sync_reasons"]:
        console.print(f"  - {reason}")
    console.print(_ports_table(status["ports"]))
    odd = [entry for entry in status["interfaces"] if entry["kind"] != "port" and entry["state"] != "active"]
    if odd:
        title = f"not on the fast path{f', the first {_MOST_ODD} of {len(odd)}' if len(odd) > _MOST_ODD else ''}"
        console.print(_interfaces_table(odd[:_MOST_ODD], title))
    if status["vrfs"]:
        console.print(_vrfs_table(status["vrfs"]))
    reasons = _slow_path_table(status)
    if reasons.row_count:
        console.print(reasons)
    console.print(_facts_table(status))


def print_reloaded(reply: dict) -> None:
    """Plain lines, whole: reasons are not to be cut off."""
    for line in reply["changed"]:
        print(line)
    for line in reply["restart"]:
        print(f"needs a restart: {line}")
    for line in reply["failed"]:
        print(f"not possible: {line}")
    if not any(reply[key] for key in ("changed", "restart", "failed")):
        print("nothing has changed")


def print_blackholes(reply: dict) -> None:
    table = Table(title=f"{reply['routes']} blackhole routes", title_justify="left", box=None, pad_edge=False)
    table.add_column("prefix", no_wrap=True)
    table.add_column("packets", justify="right")
    table.add_column("bytes", justify="right")
    for entry in reply["busiest"]:
        table.add_row(entry["prefix"], str(entry["packets"]), str(entry["bytes"]))
    _console().print(table)


def _console() -> Console:
    # Piped output has no width of its own; a table cut to 80 columns would lose what scripts grep for.
    # Names and reasons come from outside: nothing in them is markup.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False)


def _head(status: dict) -> str:
    return (
        f"instance {status['instance']}, xdprouter {status['version']}, pid {status['pid']}, "
        f"up {_duration(status['uptime_s'])}"
    )


def _ports_table(ports: list[dict]) -> Table:
    table = Table(title="ports", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("port", "state", "mode", "mtu"):
        table.add_column(name, no_wrap=True)
    for name in ("fast pps", "fast bps", "slow pps", "slow bps", "drop pps", "forwarded", "passed", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for port in ports:
        rates, ingress = port["rates"], port["ingress"]
        table.add_row(
            port["name"],
            Text(port["state"], style=_STATE_STYLE.get(port["state"], "")),
            port["mode"],
            str(port["mtu"] or "-"),
            _si(rates["fast_pps"]),
            _si(rates["fast_bps"]),
            _si(rates["slow_pps"]),
            _si(rates["slow_bps"]),
            _si(rates["drop_pps"]),
            str(_packets(ingress, "forward")),
            str(_packets(ingress, "pass")),
            str(port["redirect_errors"]),
            port["reason"],
        )
    return table


def _interfaces_table(interfaces: list[dict], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("interface", "kind", "ports", "tags", "vrf", "mtu", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("note")
    for entry in interfaces:
        table.add_row(
            entry["name"],
            entry["kind"],
            ",".join(entry["ports"]) or "-",
            entry["tags"] or "-",
            entry["vrf"] or "-",
            str(entry["mtu"]),
            Text(entry["state"], style=_STATE_STYLE.get(entry["state"], "")),
            entry["reason"],
        )
    return table


def _vrfs_table(vrfs: list[dict]) -> Table:
    table = Table(title="VRFs", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("vrf", no_wrap=True)
    for name in ("table", "interfaces", "forwarded", "passed", "dropped"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for vrf in vrfs:
        packets = (str(vrf[kind]["packets"]) for kind in ("forwarded", "passed", "dropped"))
        table.add_row(vrf["name"], str(vrf["table"]), str(len(vrf["interfaces"])), *packets, vrf["reason"])
    return table


def _slow_path_table(status: dict) -> Table:
    """The verdicts that kept most packets off the fast path, over all ports."""
    totals: dict[str, int] = {}
    for port in status["ports"]:
        for verdict, traffic in port["ingress"].items():
            if verdict != "forward":
                totals[verdict] = totals.get(verdict, 0) + traffic["packets"]
    table = Table(title="top reasons not to forward", title_justify="left", box=None, pad_edge=False)
    table.add_column("verdict")
    table.add_column("packets", justify="right")
    table.add_column("meaning")
    for verdict in sorted(totals, key=totals.__getitem__, reverse=True)[:_TOP_REASONS]:
        table.add_row(verdict, str(totals[verdict]), status["verdicts"].get(verdict, ""))
    return table


def _facts_table(status: dict) -> Table:
    fib, neighbours, netlink, daemon = (status[key] for key in ("fib", "neighbours", "netlink", "daemon"))
    protocols = ", ".join(f"{name} {number}" for name, number in sorted(fib["by_protocol"].items())) or "none"
    change = "never" if fib["last_change_s"] is None else f"{_duration(fib['last_change_s'])} ago"
    devmap = [port["name"] for port in status["ports"] if port["transmitting"]]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("fib", f"{fib['ipv4_routes']} IPv4, {fib['ipv6_routes']} IPv6; {protocols}; last change {change}")
    active = sum(entry["state"] == "active" for entry in status["interfaces"])
    features = ", ".join(status["features"]) or "none"
    table.add_row("interfaces", f"{active} of {len(status['interfaces'])} active; compiled in: {features}")
    table.add_row("cache", _cache(status["cache"]))
    table.add_row("guard", _guard(status["guard"]))
    table.add_row(
        "neighbours",
        f"{neighbours['managed']} managed, {neighbours['resolved']} resolved, {neighbours['unresolved']} unresolved",
    )
    table.add_row("devmap", ", ".join(devmap) or "empty: nothing can be forwarded")
    table.add_row(
        "netlink", f"{netlink['events']} events, {netlink['overruns']} overruns, {netlink['resyncs']} resyncs"
    )
    table.add_row("daemon", f"{daemon['rss_bytes'] / 1e6:.0f} MB, {daemon['cpu_s']:.2f} s of CPU")
    return table


def _cache(cache: dict) -> str:
    if not cache["enabled"]:
        return f"off: {cache['reason']}"
    asked = cache["hits"] + cache["misses"]
    rate = f"{100 * cache['hits'] / asked:.1f} % of {asked} recalled" if asked else "nothing asked yet"
    lease = "" if cache["lease_ok"] else "; at rest: the daemon's lease is over"
    return (
        f"by {cache['key']}; {rate}; {cache['entries']} entries, {cache['bytes'] / 1e6:.0f} MB; "
        f"{cache['invalidations']} invalidations{lease}"
    )


def _guard(guard: dict) -> str:
    found = [f"{entry['device'] or 'all ports'}: {entry['text']}" for entry in guard["findings"]]
    return "\n".join([f"{guard['policy']}; {len(found) or 'no'} finding{'' if len(found) == 1 else 's'}", *found])


def _packets(ingress: dict, prefix: str) -> int:
    return sum(traffic["packets"] for verdict, traffic in ingress.items() if verdict.startswith(prefix))
