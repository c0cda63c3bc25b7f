# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's arithmetic: what is sent, what is planned, what follows from the rounds."""

import io
import ipaddress
import json
import struct
from collections import Counter

import pytest
from rich.console import Console

from xdprouter.bench import destinations, report, results
from xdprouter.bench.plan import QUICK, Plan
from xdprouter.bench.results import LINUX, PLAIN, ROUTER, STATIC, Result, Results, Run, Scenario
from xdprouter.bench.routes import RouteMessages, RouteTable
from xdprouter.bench.updates import messages
from xdprouter.cli import main
from xdprouter.errors import UsageError

DRAWS = 200_000


# --- destinations and sizes -----------------------------------------------------------------------


def test_hot_is_each_of_4096_in_turn():
    assert list(destinations.draw("hot", DRAWS)) == list(range(4096))


def test_uniform_reaches_everything_alike():
    drawn = destinations.draw("uniform", DRAWS)
    assert len(drawn) == DRAWS
    assert 0 <= min(drawn) and max(drawn) < destinations.POPULATION
    quarters = Counter(number * 4 // destinations.POPULATION for number in drawn)
    assert all(abs(count / DRAWS - 0.25) < 0.01 for count in quarters.values())


def test_zipf_has_the_shares_of_its_exponent():
    drawn = Counter(destinations.draw("zipf", DRAWS))
    total = sum((rank + 1) ** -1.1 for rank in range(destinations.POPULATION))
    for rank in (0, 1, 9):
        share = (rank + 1) ** -1.1 / total
        assert abs(drawn[rank] / DRAWS - share) < 0.1 * share + 0.001
    top = sum((rank + 1) ** -1.1 for rank in range(1000)) / total
    assert abs(sum(drawn[rank] for rank in range(1000)) / DRAWS - top) < 0.01
    assert max(drawn) > destinations.POPULATION // 2, "the tail is there too"


@pytest.mark.parametrize("distribution", destinations.DISTRIBUTIONS)
def test_draws_are_the_same_in_every_run(distribution):
    assert destinations.draw(distribution, 100) == destinations.draw(distribution, 100)


def test_imix_is_seven_four_one():
    assert Counter(destinations.IMIX) == {64: 7, 570: 4, 1514: 1}
    masks = [destinations.turns(size) for size in (64, 570, 1514)]
    assert sum(masks) == (1 << 12) - 1 and masks[0] & masks[1] == 0
    assert [mask.bit_count() for mask in masks] == [7, 4, 1]


def test_sequence_holds_addresses_as_in_the_packet():
    order = destinations.draw("hot", 0)[:2]
    first, second = int(ipaddress.ip_address("1.2.3.4")), int(ipaddress.ip_address("192.0.2.1"))
    assert destinations.sequence(4, [first, second], order) == bytes([1, 2, 3, 4, 192, 0, 2, 1])
    assert destinations.sequence(6, [0x2001_0DB8_0000_0001, 1], order).hex() == "20010db8000000010000000000000001"


# --- routes ---------------------------------------------------------------------------------------


def prefixes(table: RouteTable, size: int) -> list:
    return list(table._new(size))


@pytest.mark.parametrize(("family", "gateway"), [(4, "10.0.1.2"), (6, "fd00:0:0:2::2")])
def test_a_table_grows_by_valid_distinct_prefixes_and_is_the_same_again(family, gateway):
    first, second = (RouteTable(family, [gateway], 7) for _ in range(2))
    found = prefixes(first, 1) + prefixes(first, 5000)
    assert found == prefixes(second, 1) + prefixes(second, 5000)
    assert found[0] == (0, 0) and len(set(found)) == len(found) == 5000 == len(first)
    kind = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    for prefix in found[1:]:
        network = kind(prefix)  # raises if bits are set behind the prefix
        assert network.is_global or family == 4
        assert not network.is_multicast and not network.is_loopback
    bits = 32 if family == 4 else 64
    known = {(address >> ((32 if family == 4 else 128) - bits)) >> (bits - length) for address, length in found[1:]}
    lengths = {length for _, length in found[1:]}
    for address in first.destinations(100):
        assert any(address >> (bits - length) in known for length in lengths)


def test_a_route_message_is_what_rtnetlink_wants():
    message = RouteMessages(4, ["10.0.1.2", "10.0.1.3"], 7).add((192 << 24 | 2 << 8, 24), hop=1)
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags) == (len(message), 24, 0x1 | 0x200 | 0x400)
    assert message[16:28] == bytes([2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0])
    assert message[28:] == (
        struct.pack("=HH", 8, 1) + bytes([192, 0, 2, 0])
        + struct.pack("=HH", 8, 5) + bytes([10, 0, 1, 3])
        + struct.pack("=HHI", 8, 4, 7)
    )  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_updates_are_about_prefixes_that_no_packet_goes_to(family):
    source = messages(family, 7)
    cycle = [next(source) for _ in range(30_000)]
    kinds = Counter(struct.unpack_from("=HH", message, 4) for message in cycle)
    assert sorted(kinds.values()) == [10_000] * 3, "add, replace, delete alike"
    for message in cycle:
        address = message[32:36] if family == 4 else message[32:48]
        if family == 4:
            assert ipaddress.ip_address(address) in ipaddress.ip_network("10.128.0.0/9")
        else:
            assert ipaddress.ip_address(address) in ipaddress.ip_network("fd00::/16")


# --- plan -----------------------------------------------------------------------------------------


def test_tables_meet_destinations_and_the_rest_varies_one_at_a_time():
    plan = Plan(routes=(100, 1), routes6=(), destinations=("hot", "zipf"), updates=(0, 5), cores=(1, 2), sizes=("64",))
    assert plan.scenarios() == [
        Scenario(4, 1, "hot"),
        Scenario(4, 1, "zipf"),
        Scenario(4, 100, "hot"),
        Scenario(4, 100, "hot", updates=5),
        Scenario(4, 100, "hot", cores=2),
        Scenario(4, 100, "zipf"),
        Scenario(4, 100, "zipf", updates=5),
        Scenario(4, 100, "zipf", cores=2),
    ]


def test_quick_takes_less_than_a_minute_of_pure_measuring():
    """Four contenders; each run of 0.1 s takes twice that with what is around it."""
    assert len(QUICK.scenarios()) * 4 * (QUICK.rounds + 1) * 2 * QUICK.seconds < 40


# --- results --------------------------------------------------------------------------------------


def result(**mpps: list[float]) -> Result:
    return Result(
        Scenario(4, 1, "hot"), {name: [Run(1000, 1000, 0.001 / rate) for rate in rates] for name, rates in mpps.items()}
    )


def test_a_ratio_is_the_median_of_the_rounds_own():
    found = result(static=[4, 4, 4], xdprouter=[2, 3, 1], linux=[1, 1, 1])
    assert found.mpps(ROUTER) == pytest.approx(2)
    assert found.ratio(ROUTER, STATIC) == pytest.approx(0.5)
    assert found.ratio(ROUTER, LINUX) == pytest.approx(2)
    assert found.ratio(ROUTER, PLAIN) is None, "nobody measured it"


def test_loss_above_a_thousandth_in_any_round_leaves_no_rate():
    found = result(xdprouter=[2, 2, 2], linux=[1, 1, 1])
    found.runs[ROUTER][1] = Run(10_000, 9_990, 1.0)
    assert not found.lossy(ROUTER), "exactly a thousandth is let pass"
    found.runs[ROUTER][1] = Run(10_000, 9_989, 1.0)
    assert found.lossy(ROUTER)
    assert found.mpps(ROUTER) is None and found.ratio(ROUTER, LINUX) is None and found.ratio(LINUX, ROUTER) is None
    assert found.mpps(LINUX) == pytest.approx(1)


def some_results() -> Results:
    found = result(static=[4, 4.5], plain=[2, 2], xdprouter=[3, 3], linux=[1, 1.25])
    found.runs["strange[bold]/7"] = [Run(1000, 400, 1.0)] * 2
    seeds = result(drop=[9, 9], mirror=[5, 5])
    return Results({"cpu": "some", "kernel": "Linux"}, {"rounds": 2, "seconds": 0.1, "packets": 0}, [found], seeds)


def test_json_holds_everything():
    table = json.loads(json.dumps(results.to_json(some_results())))
    assert results.from_json(table) == some_results()
    (scenario,) = table["scenarios"]
    assert (scenario["routes"], scenario["destinations"], scenario["size"]) == (1, "hot", "64")
    own = scenario["contenders"][ROUTER]
    assert own["of_static"] == pytest.approx((3 / 4 + 3 / 4.5) / 2)
    assert own["of_plain"] == pytest.approx(1.5)
    assert (own["mpps_min"], own["mpps_max"]) == (pytest.approx(3), pytest.approx(3))
    lossy = scenario["contenders"]["strange[bold]/7"]
    assert lossy["mpps"] is None and lossy["of_linux"] is None and lossy["loss"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "broken",
    [
        [], {}, {"schema": 2}, {"schema": 1, "machine": {}, "method": {}, "scenarios": [{}], "seeds": None},
        {"schema": 1, "machine": 1, "method": {}, "scenarios": [], "seeds": None},
    ],
)  # fmt: skip
def test_json_of_anything_else_is_an_error(broken):
    with pytest.raises(UsageError):
        results.from_json(broken)


def test_json_with_wrong_types_is_an_error():
    table = results.to_json(some_results())
    table["scenarios"][0]["contenders"][ROUTER]["rounds"][0]["sent"] = "many"
    with pytest.raises(UsageError):
        results.from_json(table)


def printed(found: Results) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160, markup=False)
    console.print(report.table(found))
    return out.getvalue()


def test_the_table_says_loss_instead_of_a_rate():
    lines = {line.split()[3]: line.split()[4:] for line in printed(some_results()).splitlines() if "IPv4 1 hot" in line}
    assert lines[ROUTER] == ["0.71", "1.50", "2.70", "3.00", "3.00-3.00"]
    assert lines["strange[bold]/7"] == ["-", "-", "-", "60.0%", "lost"]


def test_a_scenario_in_short():
    assert Scenario(6, 200_000, "zipf").words == ["IPv6", "200k", "zipf"]
    odd = Scenario(4, 1_234, "hot", updates=1_500, cores=2, size="1500", next_hops=3)
    assert odd.words == ["IPv4", "1234", "hot", "1500 B", "3 hops", "2 cores", "1.5k upd/s"]


# --- command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--routes", "x"], ["--routes", "-1"], ["--routes", "1,,2"], ["--routes", "99999999"], ["--routes", ""],
        ["--routes", "0", "--routes6", "0"], ["--destinations", "hot,cold"], ["--updates", "1e3"], ["--cores", "0"],
        ["--cores", "100000"], ["--sizes", "63"], ["--sizes", "1515"], ["--sizes", "jumbo"], ["--next-hops", "0"],
        ["--next-hops", "1,2"], ["--rounds", "0"], ["--rounds", "²"], ["--seconds", "nan"], ["--seconds", "0"],
        ["--seconds", "inf"], ["--packets", "1"], ["--packets", "5000", "--seconds", "1"], ["--program", "0"],
        ["--program", "init"], [f"--program={n}" for n in range(1, 10)], ["--from", "/nonexistent"], ["--from", "/etc/passwd"], ["--from", "/"],
    ],
)  # fmt: skip
def test_bad_arguments_are_one_line_and_code_2(arguments, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("xdprouter: ")


def test_what_was_kept_is_shown_again(tmp_path, capsys):
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(results.to_json(some_results())))
    again = tmp_path / "again.json"
    assert main(["bench", "--from", str(kept), "--json", str(again)]) == 1, "frames were lost in it"
    assert json.loads(again.read_text()) == json.loads(kept.read_text())
    assert "60.0% lost" in capsys.readouterr().out
