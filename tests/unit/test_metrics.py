# SPDX-License-Identifier: GPL-2.0-only
"""Metrics that Prometheus's own tool accepts, that the documentation lists, and that dashboard and alerts can rely on."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from controlplane.reconcile import PortState
from controlplane.source import limits, verdicts
from xdprouter import api
from xdprouter.exporter import render
from xdprouter.metrics import FIB_CODES, METRICS, PROCESS, STATES, markdown

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = ROOT / "contrib" / "grafana" / "xdprouter.json"
RULES = ROOT / "contrib" / "prometheus" / "xdprouter.rules.yml"
RULES_TEST = ROOT / "tests" / "contrib" / "xdprouter.rules.test.yml"
SAMPLES = {metric.sample_name for metric in METRICS} | set(PROCESS)
BYTES_A_PORT = 10_000
"""of text"""

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian package prometheus) is not here")


def port(name: str = "eth0", **changes) -> api.Port:
    values = dict(
        name=name, ifindex=2, slot=1, state="active", reason="", mode="native", mtu=1500, mac="02:00:00:00:00:01",
        transmitting=True, ingress={"forward": api.Traffic(7, 700), "pass_ttl": api.Traffic(2, 140)},
        egress=api.Traffic(5, 500), redirect_errors=3, fib_codes={"0": 7, "7": 2, "12": 1},
        rates=api.Rates(0, 0, 0, 0, 0), cache_hits=11,
        accounting=api.Accounting(
            5.0, api.LinkStats(*range(100, 108)), api.Received(9, 7, 0, 2, 0, True), api.Sent(6, 5, 3, 4, 0, None)
        ),
    )  # fmt: skip
    return api.Port(**values | changes)


def status(*ports: api.Port, **changes) -> api.Status:
    values = dict(
        schema=1, version="1.2.3", instance="default", pid=1, uptime_s=60.5, program_id=9, in_sync=True,
        out_of_sync_reasons=[], ports=list(ports), fib=api.Fib(10, 20, {"bgp": 25, "kernel": 5}, 3.5),
        neighbours=api.Neighbours(3, 4, 1), guard=api.Guard("refuse", [api.Finding(None, "a chain")]),
        cache=api.Cache(True, "", "destination", 1024, 65536, 11, 10, 5, True), netlink=api.Netlink(8, 0, 0),
        daemon=api.Process(10**8, 1.5), verdicts=verdicts(),
    )  # fmt: skip
    return api.Status(**values | changes)


def text(*ports: api.Port, accept: str = "", **changes) -> str:
    return render(status(*ports, **changes), accept)[0].decode()


def values(document: str) -> dict[tuple, float]:
    """(sample name, sorted labels) -> value"""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(document)
        for sample in family.samples
    }


@promtool
@pytest.mark.parametrize("ports", [(), (port(), port("eth1", accounting=None, state="absent"))], ids=["bare", "full"])
def test_promtool_finds_nothing_to_say(ports):
    done = subprocess.run(["promtool", "check", "metrics"], input=text(*ports), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_openmetrics_is_spoken_to_whom_asks_for_it():
    body, kind = render(status(port()), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    names = {family.name for family in openmetrics(body.decode())}
    assert {metric.name for metric in METRICS} <= names


def test_values_are_those_of_status():
    found = values(text(port()))
    eth0 = ("port", "eth0")
    assert found["xdprouter_port_ingress_packets_total", eth0, ("verdict", "forward")] == 7
    assert found["xdprouter_port_ingress_bytes_total", eth0, ("verdict", "pass_ttl")] == 140
    assert found["xdprouter_port_ingress_packets_total", eth0, ("verdict", "drop_blackhole")] == 0
    assert found["xdprouter_port_egress_packets_total", eth0] == 5
    assert found["xdprouter_port_redirect_errors_total", eth0] == 3
    assert found["xdprouter_port_fib_lookups_total", ("code", "no_neighbour"), eth0] == 2
    assert found["xdprouter_port_fib_lookups_total", ("code", "12"), eth0] == 1
    assert found["xdprouter_port_state", eth0, ("state", "active")] == 1
    assert sum(value for key, value in found.items() if key[0] == "xdprouter_port_state") == 1
    assert found["xdprouter_port_receive_packets_total", eth0] == 9
    assert found["xdprouter_port_transmit_packets_total", eth0] == 6
    assert found["xdprouter_port_kernel_receive_packets_total", eth0] == 100
    assert found["xdprouter_port_kernel_transmit_dropped_packets_total", eth0] == 107
    assert found["xdprouter_port_kernel_counts_xdp", ("direction", "receive"), eth0] == 1
    assert ("xdprouter_port_kernel_counts_xdp", ("direction", "transmit"), eth0) not in found
    assert found["xdprouter_fib_protocol_routes", ("protocol", "bgp")] == 25
    assert found["xdprouter_neighbours", ("state", "unresolved")] == 1
    assert found["xdprouter_build_info", ("netns", "default"), ("version", "1.2.3")] == 1
    assert found["xdprouter_guard_findings",] == 1


def test_every_metric_has_a_sample_or_a_reason():
    found = {key[0] for key in values(text(port()))}
    assert found == SAMPLES


def test_out_of_sync_shows():
    found = values(text(in_sync=False, out_of_sync_reasons=["port eth9 is absent"]))
    assert (found["xdprouter_in_sync",], found["xdprouter_out_of_sync_reasons",]) == (0, 1)


def test_names_of_devices_are_escaped():
    name = 'a"b\\c{}'
    assert values(text(port(name)))["xdprouter_port_transmitting", ("port", name)] == 1


def test_all_ports_and_verdicts_stay_within_bounds():
    ports = [port(f"port{number:011d}") for number in range(limits()["MAX_PORTS"] - 1)]
    document = text(*ports)
    assert len(document) < BYTES_A_PORT * len(ports)
    assert {label for metric in METRICS for label in metric.labels} == {
        "port", "verdict", "state", "code", "direction", "family", "protocol", "version", "netns",
    }  # fmt: skip


def test_states_and_codes_are_the_engines():
    assert {state.value for state in PortState} <= set(STATES)
    assert str(limits()["FIB_CODE_NEGATIVE"]) in FIB_CODES


def test_conventions():
    for metric in METRICS:
        assert not metric.name.endswith("_total"), metric.name
        assert metric.help.endswith((".", "choice.")), metric.name
        assert "|" not in metric.help
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_documentation_has_the_table():
    assert markdown() in (ROOT / "docs" / "metrics.md").read_text(), (
        "docs/metrics.md is not up to date: its table is what `python -m xdprouter.metrics` prints"
    )


# --- dashboard and alerts -------------------------------------------------------------------------


def expressions() -> dict[str, str]:
    """What it is for -> PromQL, of all that is shipped."""
    found = {}
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["definition"]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            found[f"alert {rule['alert']}"] = rule["expr"]
    return found


LABEL_VALUES = {
    "verdict": lambda: set(verdicts()),
    "state": lambda: set(STATES) | {"resolved", "unresolved"},
    "code": lambda: set(FIB_CODES.values()),
}


@pytest.mark.parametrize("expression", [pytest.param(text, id=what) for what, text in expressions().items()])
def test_what_is_asked_for_is_there(expression):
    names = set(re.findall(r"\b(?:xdprouter|process)_[a-z0-9_]+", expression))
    assert names or re.search(r"\bup\{", expression)
    assert names <= SAMPLES
    for label, _, pattern in re.findall(r'(\w+)(=~|!~|!=|=)"([^"$]*)"', expression):
        if label in LABEL_VALUES:
            for wanted in pattern.split("|"):
                assert any(re.fullmatch(wanted, value) for value in LABEL_VALUES[label]()), wanted
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        known = {"instance", "job"} | {
            label for metric in METRICS if metric.sample_name in names for label in metric.labels
        }
        assert set(re.split(r",\s*", labels)) <= known


@promtool
def test_the_dashboard_is_promql(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression).replace("$", "")}
        for number, (what, expression) in enumerate(expressions().items())
        if not what.startswith("variable")
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap():
    taken = {}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell[0] < 24 and cell not in taken, (panel["title"], taken.get(cell))
            taken[cell] = panel["title"]


PROMQL = {"sum", "rate", "increase", "by", "and", "or", "unless", "time", "clamp_min", "topk"}
"""Words of the language that are used"""


def panels() -> list[dict]:
    return json.loads(DASHBOARD.read_text())["panels"]


def test_each_panel_says_what_it_is_of_and_in_what():
    """A unit, `none` too, is chosen; a row is but a headline."""
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    source = {"type": "prometheus", "uid": "${datasource}"}
    titles = [panel["title"] for panel in panels()]
    assert all(titles) and len(set(titles)) == len(titles)
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"].get("unit"), panel["title"]
        assert panel["datasource"] == source, panel["title"]
        assert all(target["datasource"] == source for target in panel["targets"]), panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters), panel["title"]
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all", "__interval"}
    assert used == variables


@pytest.mark.parametrize("expression", [pytest.param(text, id=what) for what, text in expressions().items()])
def test_nothing_else_is_asked_for(expression):
    """A name that is misspelt at its head would not look like one of ours."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|on|ignoring|without) ?\([^)]*\)', " ", expression)
    bare = re.sub(r"label_values\((\w+)[^)]*\)", r"\1", bare)
    names = {name for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)}
    assert names - PROMQL <= SAMPLES | {"up"}


@pytest.mark.parametrize("expression", [pytest.param(text, id=what) for what, text in expressions().items()])
def test_rates_are_of_counters_and_only_they(expression):
    counters = {name for name in SAMPLES if name.endswith("_total")}
    for name, interval in re.findall(r"\b([a-z_]+)(?:\{[^}]*\})?(\[[^]]*\])?", expression):
        if name in SAMPLES and not expression.startswith("label_values"):
            assert bool(interval) == (name in counters), name


@promtool
def test_the_alerts_fire_when_they_must():
    for command in (["check", "rules", RULES], ["test", "rules", RULES_TEST]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, cwd=RULES_TEST.parent)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested():
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    cases = yaml.safe_load(RULES_TEST.read_text())["tests"]
    quiet = {case["alertname"] for case in cases[0]["alert_rule_test"]}
    loud = set(re.findall(r'alertname="(\w+)", alertstate="firing"', RULES_TEST.read_text()))
    assert alerts == quiet == loud
