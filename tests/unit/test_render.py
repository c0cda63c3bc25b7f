# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees: every port, whatever its name or reason looks like."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdprouter import api, render
from xdprouter.api import Traffic

NO_CACHE = api.Cache(False, "cache_entries is 0", "", 0, 0, 0, 0, 0, False)


def port(name: str = "eth0", **changes) -> api.Port:
    values = dict(
        name=name, ifindex=5, slot=1, state="active", reason="", mode="native", mtu=1500, mac="02:00:00:00:00:0a",
        transmitting=True, ingress={"forward": Traffic(7, 700), "pass_ttl": Traffic(3, 180)}, egress=Traffic(7, 700),
        redirect_errors=0, fib_codes={"0": 7}, rates=api.Rates(1.0, 2.0, 3.0, 4.0, 5.0),
    )  # fmt: skip
    return api.Port(**values | changes)


def status(*ports: api.Port, **changes) -> dict:
    values = dict(
        schema=api.SCHEMA, version="0.1.0", instance="default", pid=77, uptime_s=3.25, program_id=9, in_sync=True,
        out_of_sync_reasons=[], ports=list(ports), fib=api.Fib(10, 20, {"bgp": 25, "kernel": 5}, 61.0),
        neighbours=api.Neighbours(0, 2, 1), cache=NO_CACHE,
        guard=api.Guard("refuse", []),
        netlink=api.Netlink(3, 2, 1), daemon=api.Process(90_000_000, 1.5),
        verdicts={"forward": "rewritten and redirected", "pass_ttl": "TTL or hop limit used up"},
    )  # fmt: skip
    return json.loads(json.dumps(dataclasses.asdict(api.Status(**values | changes))))


def shown(capsys, table: dict) -> str:
    capsys.readouterr()
    render.print_status(table)
    return capsys.readouterr().out


def test_status(capsys):
    out = shown(capsys, status(port("left"), port("right", state="down", reason="no carrier", transmitting=False)))
    for word in (
        "in sync", "instance default", "xdprouter 0.1.0", "pid 77", "up 3.2 s", "left", "right", "no carrier",
        "pass_ttl", "TTL or hop limit used up", "10 IPv4, 20 IPv6", "bgp 25, kernel 5", "1 min 1 s ago",
        "2 resolved, 1 unresolved", "3 events, 2 overruns, 1 resyncs", "90 MB", "1.50 s of CPU",
    ):  # fmt: skip
        assert word in out, word
    (devmap,) = (line for line in out.splitlines() if line.startswith("devmap"))
    assert "left" in devmap
    assert "right" not in devmap


CACHE = api.Cache(True, "", "destination, source", 524288, 16_777_216, 9990, 10, 77, True)


def test_cache(capsys):
    assert "off: cache_entries is 0" in shown(capsys, status())
    out = shown(capsys, status(cache=CACHE))
    for word in ("by destination, source", "99.9 % of 10000 recalled", "524288 entries, 17 MB", "77 invalidations"):
        assert word in out, word
    assert "lease" not in out
    assert "lease is over" in shown(capsys, status(cache=dataclasses.replace(CACHE, lease_ok=False)))
    assert "nothing asked yet" in shown(capsys, status(cache=dataclasses.replace(CACHE, hits=0, misses=0)))
    why = dataclasses.replace(CACHE, enabled=False, reason="the kernel said [no]")
    assert "off: the kernel said [no]" in shown(capsys, status(cache=why))


def test_out_of_sync_says_why(capsys):
    out = shown(capsys, status(in_sync=False, out_of_sync_reasons=["port [a] is absent", "[/red] is broken"]))
    assert "out of sync" in out
    assert "  - port [a] is absent\n" in out
    assert "  - [/red] is broken\n" in out


def test_nothing_at_all(capsys):
    empty = status(fib=api.Fib(0, 0, {}, None), verdicts={})
    out = shown(capsys, empty)
    assert "empty: nothing can be forwarded" in out
    assert "last change never" in out
    render.print_ports({"schema": 1, "ports": []})


MARKUP = ["[/]", "[/red]", "[bold]", "[red]x", "[link=file:///]", "[", "\\[", "[[a]]", "[@click=f()]", ":warning:"]


@pytest.mark.parametrize("text", MARKUP)
def test_what_looks_like_markup_is_shown_as_it_is(capsys, text):
    """A device may be called `[red]`, and a driver may say what it likes."""
    odd = port("port0", state="unsupported", reason=f"refused: {text} end")
    assert f"refused: {text} end" in shown(capsys, status(odd))
    capsys.readouterr()
    render.print_ports({"schema": 1, "ports": [dataclasses.asdict(odd)]})
    assert f"refused: {text} end" in capsys.readouterr().out


@pytest.mark.parametrize("text", [text for text in MARKUP if "/" not in text])
def test_a_port_whose_name_looks_like_markup(capsys, text):
    out = shown(capsys, status(port(text, transmitting=True)))
    assert any(line.startswith(text) for line in out.splitlines())
    assert any(line.startswith("devmap") and text in line for line in out.splitlines())


@pytest.mark.parametrize("text", ["[/]", "[bold]x"])
def test_other_words_that_look_like_markup(capsys, text):
    out = shown(
        capsys,
        status(
            port(state=text, mode=text, ingress={text: Traffic(1, 1)}),
            instance=text,
            fib=api.Fib(1, 1, {text: 1}, None),
            verdicts={text: text},
        ),
    )
    assert out.count(text) >= 6


def test_every_port_is_shown_in_full(capsys):
    names = [f"port-{number:08}xy" for number in range(255)]
    huge = {verdict: Traffic(10**15, 10**18) for verdict in ("forward", "pass_ttl")}
    rates = api.Rates(*[123_456_789_012.3] * 5)
    ports = [port(name, ingress=huge, rates=rates, mtu=65535, redirect_errors=10**12) for name in names]
    for printer, table in ((render.print_status, status(*ports)), (render.print_ports, status(*ports))):
        capsys.readouterr()
        printer(table)
        lines = capsys.readouterr().out.splitlines()
        for name in names:
            assert any(line.startswith(name) for line in lines), name
        assert any(line.split()[9:12] == [str(10**15), str(10**15), str(10**12)] for line in lines)


def test_an_absent_port_is_shown(capsys):
    gone = port("wan", ifindex=None, mtu=None, mac=None, state="absent", reason="no such device yet; waiting for it")
    assert "no such device yet; waiting for it" in shown(capsys, status(gone))


def test_json_is_the_reply_itself(capsys):
    table = status(port(reason="[/]"))
    render.print_json(table)
    assert json.loads(capsys.readouterr().out) == table


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30), st.floats(0, 1e18))
def test_any_reason_and_any_rate_can_be_shown(reason, rate):
    table = status(port(reason=reason, rates=api.Rates(*[rate] * 5)), uptime_s=rate)
    render.print_status(table)
    render.print_ports(table)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (14.4e6, "14.4M"), (2e9, "2.0G"), (3.5e12, "3.5T"), (7e15, "7000.0T")],
)
def test_large_numbers_are_short(value, text):
    assert render._si(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, text):
    assert render._duration(seconds) == text
