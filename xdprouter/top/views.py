# SPDX-License-Identifier: GPL-2.0-only
"""The model as text. Nothing in it is markup, and every line is cut to the screen's width."""

import math
import time
from collections.abc import Iterable, Sequence

from rich.text import Text

from xdprouter.event_text import text as event_text
from xdprouter.quantity import duration, si
from xdprouter.top.model import Model

_BARS = "▁▂▃▄▅▆▇█"
_STATE_STYLE = {"active": "green", "down": "yellow", "absent": "yellow", "guarded": "yellow", "unsupported": "red"}
_VERDICT_STYLE = {"forward": "green", "drop": "red"}


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values, the newest at the right, scaled to the largest of them. Negative: not known."""
    shown = list(values)[-width:] if width > 0 else []
    top = max(shown, default=0.0)
    bars = [" " if value < 0 else _bar(value / top) if top > 0 else _BARS[0] for value in shown]
    return "".join(bars).rjust(width)


def _bar(share: float) -> str:
    """Of the largest. Only nothing at all is the lowest bar."""
    return _BARS[min(len(_BARS) - 1, math.ceil(share * (len(_BARS) - 1)))]


def header(model: Model, width: int, paused: bool) -> Text:
    """Three lines: the daemon; cache and FIB; route churn."""
    status = model.status
    if status is None:
        return _lines([Text(f"xdprouter: {model.trouble}", style="bold red"), Text(), Text()], width)
    old = [_aged(line, model) for line in (_cache(model, status), _routes(model, status))]
    return _lines([_daemon(model, status, paused), *old], width)


def _daemon(model: Model, status: dict, paused: bool) -> Text:
    if trouble := model.trouble:
        state = (f"{trouble}: what follows is old", "bold red")
    elif status["in_sync"]:
        state = ("in sync", "bold green")
    else:
        state = (f"out of sync: {'; '.join(status['out_of_sync_reasons'])}", "bold red")
    mark = ("PAUSED  ", "reverse") if paused else ""
    return Text.assemble(
        mark,
        (f"{status['instance']}  ", "bold"),
        state,
        f"  pid {status['pid']}, up {duration(status['uptime_s'])}, xdprouter {status['version']}",
    )


def _cache(model: Model, status: dict) -> Text:
    cache, neighbours, guard = status["cache"], status["neighbours"], status["guard"]
    if not cache["enabled"]:
        return Text(f"cache off: {cache['reason']}")
    rate = "idle" if model.hit_rate is None else f"{100 * model.hit_rate:.1f} %"
    at_rest = "" if cache["lease_ok"] else " (at rest)"
    return Text.assemble(
        ("cache ", "bold"),
        f"{rate}{at_rest} ",
        (sparkline(model.cache_history, 20), "cyan"),
        ("  next hops ", "bold"),
        f"{neighbours['managed']} kept fresh",
        ("  guard ", "bold"),
        (f"{len(guard['findings'])} findings", "yellow" if guard["findings"] else ""),
    )


def _routes(model: Model, status: dict) -> Text:
    fib = status["fib"]
    out = Text.assemble(("routes ", "bold"), f"{fib['ipv4_routes']} IPv4, {fib['ipv6_routes']} IPv6")
    if not model.churn:
        change = "" if fib["last_change_s"] is None else f", at rest for {duration(fib['last_change_s'])}"
        return out.append(change)
    busiest = sorted(model.churn.items(), key=lambda entry: -sum(entry[1].values()))
    for name, rate in busiest:
        out.append(f"  {name}", style="bold").append(f" +{si(rate['added_per_s'])}/s -{si(rate['deleted_per_s'])}/s")
    return out


def ports(model: Model, width: int) -> Text:
    """A line for each port. One that is not active says why, where the others have their sparklines."""
    found = model.ports()
    name_width = min(15, max([4, *(len(port["name"]) for port in found)]))
    fast_width = max(4, (width - name_width - 11 - 4 * 7 - 7) * 3 // 5)
    slow_width = max(4, width - name_width - 11 - 4 * 7 - 7 - fast_width)
    head = (
        f"{'port':{name_width}} {'state':11} {'fast/s':>7} {'':{fast_width}} {'slow/s':>7} {'':{slow_width}} "
        f"{'drop/s':>7} {'lost':>7}"
    )
    lines = [Text(head, style="bold underline")]
    for port in found:
        rates, history = port["rates"], model.histories[port["name"]]
        line = Text.assemble(
            f"{port['name'][:name_width]:{name_width}} ",
            (f"{port['state']:11}", _STATE_STYLE.get(port["state"], "")),
        )
        if port["state"] != "active":
            lines.append(line.append(f" {_printable(port['reason'])}"))
            continue
        line.append(f" {si(rates['fast_pps']):>7} ").append(sparkline(history.fast, fast_width), style="green")
        line.append(f" {si(rates['slow_pps']):>7} ").append(sparkline(history.slow, slow_width), style="yellow")
        line.append(f" {si(rates['drop_pps']):>7} {si(port['redirect_errors']):>7}")
        lines.append(line)
    return _aged(_lines(lines, width), model)


def verdicts(model: Model, width: int, height: int) -> Text:
    name_width = max(0, width - 2 * 8)
    lines = [Text(f"{'verdict':{name_width}} {'pkt/s':>7} {'packets':>7}", style="bold underline")]
    for verdict in model.verdicts[: height - 1]:
        style = _VERDICT_STYLE.get(verdict.name.split("_")[0], "")
        lines.append(
            Text.assemble(
                (f"{verdict.name[:name_width]:{name_width}}", style),
                f" {si(verdict.pps):>7} {si(verdict.packets):>7}",
            )
        )
    return _aged(_lines(lines, width), model)


def hops(model: Model, width: int, height: int) -> Text:
    name_width = max(0, width - 2 * 8)
    lines = [Text(f"{'next hop':{name_width}} {'pkt/s':>7} {'bit/s':>7}", style="bold underline")]
    for hop in model.hops[: height - 1]:
        name = f"{hop.address} {hop.device}"
        style = "" if hop.state in ("reachable", "permanent", "noarp", "stale", "delay", "probe") else "red"
        lines.append(Text.assemble((f"{name[:name_width]:{name_width}}", style), f" {si(hop.pps):>7} {si(hop.bps):>7}"))
    return _aged(_lines(lines, width), model)


def events(model: Model, width: int, height: int) -> Text:
    """The newest at the bottom."""
    shown = list(model.events)[-(height - 1) :]
    lines = [Text(f"{'events':{max(0, width)}}", style="bold underline")]
    for event in shown:
        lines.append(Text(f"{time.strftime('%H:%M:%S', time.localtime(event['time']))} {event_text(event)}"))
    return _lines(lines, width)


def keys(model: Model, paused: bool) -> Text:
    return Text.assemble(
        (" q ", "reverse"), " quit  ",
        (" p ", "reverse"), f" {'go on' if paused else 'pause'}  ",
        (" s ", "reverse"), f" sort: {model.sort}  ",
        (" up/down ", "reverse"), " scroll the ports",
    )  # fmt: skip


def _aged(text: Text, model: Model) -> Text:
    """Dim, if it is not as it is now."""
    if model.trouble:
        text.stylize("dim")
    return text


def _printable(words: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in words)


def _lines(lines: Iterable[Text], width: int) -> Text:
    out = []
    for line in lines:
        line.no_wrap = True
        line.truncate(max(0, width), overflow="ellipsis")
        out.append(line)
    return Text("\n").join(out)
