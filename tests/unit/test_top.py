# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter top`, driven at 80x24 with a source that the test feeds; and its parts that need no screen."""

import asyncio
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdprouter.top import views
from xdprouter.top.app import TopApp
from xdprouter.top.model import HISTORY, Model
from xdprouter.top.source import Away, Happened, Item, Reading, Silent
from xdprouter.top.views import sparkline

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = (80, 24)
pytestmark = pytest.mark.timeout(30)
_CELL = 12.2
"""Width of a character in the SVG"""
_SVG = "{http://www.w3.org/2000/svg}"


def port(name: str, fast: float = 0.0, slow: float = 0.0, drop: float = 0.0, **changes) -> dict:
    rates = {"fast_pps": fast, "slow_pps": slow, "drop_pps": drop, "fast_bps": 0.0, "slow_bps": 0.0}
    known = {"state": "active", "reason": "", "ingress": {}, "redirect_errors": 0}
    return {"name": name, "rates": rates} | known | changes


def reading(at: float, *ports: dict, hops: tuple = (), hits: int = 0, misses: int = 0, **changes) -> Reading:
    status = {
        "instance": "default", "version": "1.0", "pid": 42, "uptime_s": 100.0, "in_sync": True, "out_of_sync_reasons": [],
        "ports": list(ports), "neighbours": {"managed": 2}, "guard": {"findings": []},
        "fib": {"ipv4_routes": 1000000, "ipv6_routes": 12, "last_change_s": 3.0},
        "cache": {"enabled": True, "reason": "", "lease_ok": True, "hits": hits, "misses": misses},
    }  # fmt: skip
    return Reading(at, status | changes, list(hops))


def hop(address: str, packets: int, octets: int = 0) -> dict:
    return {
        "address": address, "ifindex": 3, "device": "eth1", "state": "reachable", "packets": packets, "bytes": octets,
    }  # fmt: skip


def event(kind: str, **fields) -> Happened:
    return Happened({"version": 1, "seq": 1, "time": 0.0, "pid": 42, "kind": kind} | fields)


def churn(**rates: tuple[float, float]) -> Happened:
    by_protocol = {name: {"added_per_s": a, "deleted_per_s": d} for name, (a, d) in rates.items()}
    return event("routes", by_protocol=by_protocol, changes=1, lasted_s=1.0)


# --- the model --------------------------------------------------------------------------------------


def model(*items: Item) -> Model:
    made = Model()
    for item in items:
        made.take(item)
    return made


def forwarded(packets: int, ttl: int = 0) -> dict:
    return {"forward": {"packets": packets, "bytes": 0}, "pass_ttl": {"packets": ttl, "bytes": 0}}


def test_rates_of_verdicts_and_next_hops_are_those_between_two_readings():
    made = model(
        reading(10, port("a", ingress=forwarded(1000, 5)), port("b", ingress=forwarded(0)), hops=(hop("10.0.0.1", 50), hop("10.0.0.2", 7))),
        reading(12, port("a", ingress=forwarded(1200, 9)), port("b", ingress=forwarded(20)), hops=(hop("10.0.0.1", 50), hop("10.0.0.2", 107, 1000))),
    )  # fmt: skip
    assert [(v.name, v.pps, v.packets) for v in made.verdicts] == [("forward", 110.0, 1220), ("pass_ttl", 2.0, 9)]
    assert [(h.address, h.pps, h.bps) for h in made.hops] == [("10.0.0.2", 50.0, 4000.0), ("10.0.0.1", 0.0, 0.0)]


def test_the_first_reading_has_no_rates():
    made = model(reading(10, port("a", ingress=forwarded(1000)), hops=(hop("10.0.0.1", 50),), hits=10))
    assert [v.pps for v in made.verdicts] == [0, 0]
    assert [h.pps for h in made.hops] == [0]
    assert made.hit_rate is None


def test_counters_that_begin_anew_are_no_negative_rate():
    made = model(
        reading(10, port("a", ingress=forwarded(1000)), hits=100, misses=100),
        reading(11, port("a", ingress=forwarded(10)), hits=1, misses=1),
    )
    assert {v.pps for v in made.verdicts} == {0.0}
    assert made.hit_rate is None


def test_the_hit_rate_is_that_of_the_last_second():
    made = model(reading(1, hits=0, misses=1000), reading(2, hits=90, misses=1010))
    assert made.hit_rate == pytest.approx(0.9)
    made.take(reading(3, hits=90, misses=1010))
    assert made.hit_rate is None


def test_history_is_of_a_minute_however_long_it_runs():
    made = model(*(reading(second, port("a", fast=second)) for second in range(200)))
    assert list(made.histories["a"].fast) == list(range(200 - HISTORY, 200))


def test_ports_are_sorted_as_asked():
    made = model(reading(1, port("b", fast=1, slow=9, drop=1), port("a", fast=5, slow=2, drop=2), port("c", drop=3)))
    orders = {}
    for _ in range(4):
        orders[made.sort] = "".join(p["name"] for p in made.ports())
        made.next_sort()
    assert orders == {"name": "abc", "fast": "abc", "slow": "bac", "drop": "cab"}
    assert made.sort == "name"


def test_churn_is_shown_while_it_lasts_and_its_end_is_an_event():
    made = model(reading(1), churn(bgp=(5, 1)))
    assert (set(made.churn), len(made.events)) == ({"bgp"}, 0)
    made.take(churn())
    assert (set(made.churn), len(made.events)) == (set(), 1)


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [
        ([], 3, "   "), ([0, 0], 3, " ▁▁"), ([1, 4, 8], 3, "▂▅█"), ([9, 1, 2, 8], 3, "▂▃█"), ([-1, 1], 2, " █"),
        ([0.001, 1000], 2, "▂█"), ([5], 0, ""),
    ],
)  # fmt: skip
def test_sparklines(values, width, bars):
    assert sparkline(values, width) == bars


@given(st.lists(st.floats(min_value=-1, max_value=1e12), max_size=99), st.integers(min_value=0, max_value=99))
def test_a_sparkline_has_its_width_whatever_the_values(values, width):
    assert len(sparkline(values, width)) == width


def test_the_largest_is_the_highest_whatever_its_digits():
    assert {sparkline([value / 7 * 3, value], 2)[-1] for value in (168.8, 0.1, 1 / 3, 1e9 / 7, 5e-324)} == {"█"}


# --- the screen -------------------------------------------------------------------------------------


class Fed:
    """A source without a daemon."""

    def start(self, deliver: Callable[[Item], None]) -> None:
        self.deliver = deliver
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class Driver:
    def __init__(self, app: TopApp, source: Fed, pilot):
        self.app, self.source, self.pilot = app, source, pilot

    async def feed(self, *items: Item) -> None:
        for item in items:
            self.source.deliver(item)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def screen(self) -> list[str]:
        return lines(self.app.export_screenshot())


def lines(svg: str) -> list[str]:
    """The screen as an SVG has it, line by line. Blanks between two texts are not in there."""
    rows: dict[int, str] = {}
    for element in ET.fromstring(svg).iter(f"{_SVG}text"):
        clip = element.get("clip-path") or ""
        if "-line-" in clip:
            number = int(clip.split("-line-")[1].rstrip(")"))
            column = round(float(element.get("x")) / _CELL)
            rows[number] = rows.get(number, "").ljust(column) + element.text.replace("\xa0", " ")
    return [rows.get(number, "").rstrip() for number in range(SIZE[1])]


def drive(script: Callable[[Driver], Awaitable[None]], size: tuple[int, int] = SIZE) -> Fed:
    async def run() -> Fed:
        source = Fed()
        app = TopApp(source)
        async with app.run_test(size=size) as pilot:
            await script(Driver(app, source, pilot))
        return source

    return asyncio.run(run())


BUSY = [
    reading(
        float(second),
        port("eth0", fast=1000.0 * second, slow=3.0, ingress=forwarded(1000 * second, 3 * second), redirect_errors=7),
        port("eth1", fast=20.0, ingress=forwarded(20 * second)),
        port("eth2", state="guarded", reason="nftables: chain ip t c: drop"),
        hops=(hop("10.2.0.2", 1000 * second, 100_000 * second),),
        hits=900 * second,
        misses=100 * second,
    )
    for second in range(1, 9)
]


def test_everything_is_on_a_screen_of_80_by_24():
    async def script(driver: Driver) -> None:
        await driver.feed(*BUSY, churn(bgp=(1234, 3), ospf=(1, 0)))
        await driver.feed(
            event("port", port="eth2", state="guarded", reason="nftables: chain ip t c: drop", before="active")
        )
        screen = driver.screen()
        assert screen[:7] == [
            "default  in sync  pid 42, up 1 min 40 s, xdprouter 1.0",
            "cache 90.0 %              ███████  next hops 2 kept fresh  guard 0 findings",
            "routes 1000000 IPv4, 12 IPv6  bgp +1.2k/s -3/s  ospf +1/s -0/s",
            "port state        fast/s                    slow/s               drop/s    lost",
            "eth0 active         8.0k          ▂▃▄▅▆▇██       3     ████████       0       7",
            "eth1 active           20          ████████       0     ▁▁▁▁▁▁▁▁       0       0",
            "eth2 guarded     nftables: chain ip t c: drop",
        ]  # fmt: skip
        assert screen[11:14] == [
            "verdict                   pkt/s packets  next hop                  pkt/s   bit/s",
            "forward                    1.0k    8.2k  10.2.0.2 eth1              1.0k  800.0k",
            "pass_ttl                      3      24",
        ]
        assert screen[17] == "events"
        assert screen[18].endswith(" port eth2 is guarded: nftables: chain ip t c: drop (was active)")
        assert screen[23] == " q  quit   p  pause   s  sort: name   up/down  scroll the ports"

    assert drive(script).stopped


def test_p_freezes_the_screen_and_lets_it_go_on():
    async def script(driver: Driver) -> None:
        await driver.feed(*BUSY[:3])
        await driver.press("p")
        frozen = driver.screen()
        assert frozen[0].startswith("PAUSED ")
        await driver.feed(*BUSY[3:])
        assert driver.screen() == frozen
        await driver.press("p")
        assert "▂▃▄▅▆▇██" in driver.screen()[4], "what happened meanwhile is in the history"

    drive(script)


def test_s_sorts_the_ports():
    async def script(driver: Driver) -> None:
        await driver.feed(reading(1, port("a", fast=1), port("b", fast=5, slow=1), port("c", slow=9)))
        for order, sort in (("abc", "name"), ("bac", "fast"), ("cba", "slow"), ("abc", "drop")):
            screen = driver.screen()
            assert "".join(line[0] for line in screen[4:7]) == order
            assert f"sort: {sort}" in screen[23]
            await driver.press("s")

    drive(script)


def test_more_ports_than_fit_are_scrolled_to():
    async def script(driver: Driver) -> None:
        await driver.feed(reading(1, *(port(f"eth{n:02}") for n in range(40))))
        assert not any("eth39" in line for line in driver.screen())
        await driver.press("end")
        assert any("eth39" in line for line in driver.screen())

    drive(script)


def test_a_daemon_that_goes_and_comes_back():
    async def script(driver: Driver) -> None:
        assert driver.screen()[0] == "xdprouter: asking the daemon"
        await driver.feed(Away("no daemon; waiting for it"))
        assert driver.screen()[0] == "xdprouter: no daemon; waiting for it"
        await driver.feed(*BUSY[:2])
        await driver.feed(event("disconnected"), Away("no daemon; waiting for it"))
        screen = driver.screen()
        assert screen[0].startswith("default  no daemon; waiting for it: what follows is old")
        assert screen[4].startswith("eth0 active"), "what was known last stays"
        assert screen[18].endswith("the daemon has gone away")
        await driver.feed(*BUSY[2:], event("connected"))
        screen = driver.screen()
        assert screen[0].startswith("default  in sync")
        assert screen[19].endswith("the daemon is back")

    drive(script)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def is_dim(text) -> bool:
    return any(span.style == "dim" and span.start == 0 and span.end == len(text) for span in text.spans)


def test_a_daemon_that_is_silent_is_counted_in_seconds_and_its_values_are_dim():
    clock = Clock()
    shown = Model(clock)
    assert shown.trouble == "asking the daemon"
    clock.now += 5
    assert shown.trouble == "no answer for 5 s"
    for item in BUSY:
        shown.take(item)
    drawn = [lambda: views.ports(shown, 79), lambda: views.verdicts(shown, 39, 6), lambda: views.hops(shown, 39, 6)]
    for seconds, trouble in ((0, ""), (3, ""), (4, "no answer for 4 s"), (75, "no answer for 75 s")):
        clock.now = 105.0 + seconds
        assert shown.trouble == trouble
        assert [is_dim(draw()) for draw in drawn] == [bool(trouble)] * 3
        assert (trouble + ": what follows is old" in str(views.header(shown, 80, False))) == bool(trouble)
    shown.take(Away("no daemon; waiting for it"))
    assert shown.trouble == "no daemon; waiting for it"
    shown.take(Silent())  # another one, which does not answer
    assert shown.trouble == "no answer for 75 s"
    shown.take(BUSY[-1])
    assert shown.trouble == "" and not is_dim(views.ports(shown, 79))


def test_the_screen_gets_old_by_itself():
    clock = Clock()
    source = Fed()

    async def run() -> None:
        app = TopApp(source, Model(clock))
        async with app.run_test(size=SIZE) as pilot:
            driver = Driver(app, source, pilot)
            await driver.feed(*BUSY)
            assert driver.screen()[0].startswith("default  in sync")
            clock.now += 30
            for _ in range(100):
                await pilot.pause(0.1)
                if "no answer for 30 s" in driver.screen()[0]:
                    break
            assert "no answer for 30 s" in driver.screen()[0]
            await driver.feed(BUSY[-1])
            assert driver.screen()[0].startswith("default  in sync")

    asyncio.run(run())


def test_the_newest_events_are_at_the_bottom():
    async def script(driver: Driver) -> None:
        await driver.feed(*BUSY[:1], *(event("omitted", of="neighbour", number=n) for n in range(30)))
        assert [line.split()[2] for line in driver.screen()[18:23]] == ["25", "26", "27", "28", "29"]

    drive(script)


def test_names_from_outside_are_no_markup_and_break_nothing():
    async def script(driver: Driver) -> None:
        await driver.feed(
            reading(1, port("[red]x", state="guarded", reason="chain [bold]\x1b[2J\nb"), in_sync=False, out_of_sync_reasons=["[b]"]),
            event("guard", found=True, device=None, text="[/red]\n\x1b"),
        )  # fmt: skip
        screen = driver.screen()
        assert screen[4].startswith("[red]x guarded") and screen[4].endswith("chain [bold]?[2J?b")
        assert screen[18].endswith("guard all ports: found: [/red]??")

    drive(script)


@pytest.mark.parametrize("size", [(40, 12), (20, 5), (1, 1), (250, 70)])
def test_other_sizes_of_screens_harm_nothing(size):
    async def script(driver: Driver) -> None:
        await driver.feed(*BUSY)
        await driver.press("s", "p", "p", "down", "end")

    drive(script, size)


def test_q_ends_it():
    async def script(driver: Driver) -> None:
        await driver.press("q")
        assert driver.app.return_code == 0
        assert not driver.app.is_running

    assert drive(script).stopped


# --- without textual --------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["textual"] = None
from xdprouter import client, top
client.check_listening = lambda *_: None
from xdprouter.cli import main
sys.exit(main(["top"]))
"""


def test_without_textual_one_line_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "xdprouter: `xdprouter top` needs the Python package textual: pip install 'xdprouter[top]'\n"
    )
