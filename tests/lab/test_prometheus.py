# SPDX-License-Identifier: GPL-2.0-only
"""A real Prometheus beside a router with FRR: it scrapes, calculates rates, and has the alerts."""

import json
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from lab import namespace
from lab.wait import wait_until
from tests.lab.command import ROOT, xdprouter
from tests.lab.conftest import Router
from tests.lab.wire import stream

pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus (Debian package) is not here")

METRICS = "127.0.0.1:9474"
WEB = "127.0.0.1:9090"
PATIENCE_S = 60.0
RULES = ROOT / "contrib" / "prometheus" / "xdprouter.rules.yml"
CONFIGURATION = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: xdprouter
    static_configs: [{{targets: ["{METRICS}"]}}]
rule_files: ["{RULES}"]
"""


@pytest.fixture
def lab(lab_of):
    made = lab_of("frr_ospf_bgp", xdprouter=False)
    for address in ("10.2.0.2", "fd02::2"):
        wait_until(
            lambda address=address: made.exec("h1", ["ping", "-c", "1", "-W", "1", address]).returncode == 0,
            PATIENCE_S,
            "FRR to converge",
        )
    return made


def start(office: str, ns: str, directory: Path, metrics: str = METRICS) -> subprocess.Popen:
    ports = "".join(f'[[port]]\nname = "{name}"\n' for name in ("west_a", "west_b", "east_a", "east_b"))
    config = directory / "xdprouter.toml"
    config.write_text(f'metrics = "{metrics}"\n{ports}')
    command = [sys.executable, "-m", "xdprouter", "run", "--netns", ns, "-c", str(config)]
    with open(directory / "xdprouter.log", "ab") as log:
        return namespace.popen(office, command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def answers(ns: str) -> bool:
    return xdprouter("status", "--json", "--netns", ns).returncode == 0


@pytest.fixture
def r2(lab, office, tmp_path):
    daemon = start(office, lab.ns("r2"), tmp_path)
    try:
        wait_until(lambda: answers(lab.ns("r2")), PATIENCE_S, "the daemon")
        yield Router(lab, "r2")
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


class Prometheus:
    def __init__(self, ns: str, directory: Path):
        self._ns = ns
        (directory / "prometheus.yml").write_text(CONFIGURATION)
        self._log = open(directory / "prometheus.log", "wb")
        self._process = namespace.popen(
            ns,
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={WEB}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def api(self, path: str, **query: str):
        """`data` of an answer of its HTTP API."""
        url = f"http://{WEB}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with namespace.entered(self._ns), urllib.request.urlopen(url, timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def is_up(self) -> bool:
        try:
            return any(target["health"] == "up" for target in self.api("targets")["activeTargets"])
        except OSError:
            return False

    def value(self, query: str) -> float | None:
        """Of the one series that the query yields; None: there is none."""
        found = self.api("query", query=query)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()


@pytest.fixture
def prometheus(office, tmp_path):
    made = Prometheus(office, tmp_path)
    try:
        yield made
    finally:
        made.close()


FORWARD = 'xdprouter_port_ingress_packets_total{port="west_a",verdict="forward"}'


def test_prometheus_scrapes_a_router_with_frr(lab, office, r2, prometheus):
    wait_until(prometheus.is_up, PATIENCE_S, "the first scrape")
    with stream(lab, "h1", "h2", "10.2.0.2", 1000) as flow:
        wait_until(lambda: (prometheus.value(f"rate({FORWARD}[10s])") or 0) > 0, PATIENCE_S, "a rate")
        assert flow.stop() == 0
        sent = flow.sent
    assert r2.verdict("forward", "west_a") >= 0.9 * sent, "the rest before the next hop was resolved"
    wait_until(lambda: prometheus.value(FORWARD) == r2.verdict("forward", "west_a"), PATIENCE_S, "the same number")
    wait_until(
        lambda: (
            prometheus.value('xdprouter_fib_protocol_routes{protocol="bgp"}')
            == r2.status()["fib"]["by_protocol"]["bgp"]
        ),
        PATIENCE_S,
        "FRR's routes",
    )
    assert prometheus.value("xdprouter_in_sync") == 1
    with namespace.entered(office), urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=30) as answer:
        done = subprocess.run(["promtool", "check", "metrics"], input=answer.read(), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert prometheus.value('count(xdprouter_port_state{state="active"} == 1)') == 4
    sent_by = 'xdprouter_port_transmit_packets_total{port="east_a"}'
    assert prometheus.value(sent_by) >= prometheus.value('xdprouter_port_egress_packets_total{port="east_a"}') > 0


def test_its_rules_are_loaded_and_watch(lab, r2, prometheus):
    wait_until(prometheus.is_up, PATIENCE_S, "the first scrape")

    def rules() -> dict[str, dict]:
        return {rule["name"]: rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]}

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules().values()), PATIENCE_S, "a first evaluation")
    found = rules()
    assert len(found) == 8
    assert {name: rule["state"] for name, rule in found.items()} == dict.fromkeys(found, "inactive")
    assert (
        lab.exec("r2", ["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"]).returncode
        == 0
    )
    assert lab.exec("r2", ["nft", "add rule ip t f udp dport 53 drop"]).returncode == 0
    wait_until(lambda: rules()["XdprouterPortGuarded"]["state"] == "pending", PATIENCE_S, "the alert to wait its time")
    alerts = [
        alert for alert in prometheus.api("alerts")["alerts"] if alert["labels"]["alertname"] == "XdprouterPortGuarded"
    ]
    assert {alert["labels"]["port"] for alert in alerts} == {"west_a", "west_b", "east_a", "east_b"}


def test_a_port_in_use_ends_the_start_and_nothing_else(lab, office, r2, tmp_path):
    """The first daemon ends and leaves its ports; what comes next finds its address taken."""
    with stream(lab, "h1", "h2", "10.2.0.2", 1000) as flow:
        before = r2.verdict("forward", "west_a")
        assert xdprouter("stop", "--netns", lab.ns("r2")).returncode == 0
        wait_until(lambda: not answers(lab.ns("r2")), PATIENCE_S, "the daemon to end")
        taken = namespace.popen(
            office,
            [sys.executable, "-m", "http.server", "9474", "--bind", "127.0.0.1"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: _listens(office), PATIENCE_S, "the other server")
            assert start(office, lab.ns("r2"), tmp_path).wait(timeout=30) == 1
        finally:
            taken.terminate()
            taken.wait(timeout=30)
        last = (tmp_path / "xdprouter.log").read_text().splitlines()[-1]
        assert last == f"xdprouter: metrics: cannot listen on {METRICS}: Address already in use"
        daemon = start(office, lab.ns("r2"), tmp_path)
        try:
            wait_until(lambda: answers(lab.ns("r2")), PATIENCE_S, "the daemon that follows")
            assert r2.verdict("forward", "west_a") > before, "counters and ports were kept"
            assert flow.stop() == 0
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)


def _listens(ns: str) -> bool:
    return METRICS in namespace.run(ns, ["ss", "-Hltn"]).stdout


def test_an_address_that_is_none_is_a_usage_error(office, tmp_path):
    daemon = start(office, office, tmp_path, metrics="localhost:9474")
    assert daemon.wait(timeout=30) == 2
    assert "metrics is 'localhost:9474': must be address:port" in (tmp_path / "xdprouter.log").read_text()
