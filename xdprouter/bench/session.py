# SPDX-License-Identifier: GPL-2.0-only
"""A whole benchmark: builds the network, grows the tables, lets the contenders take turns, takes all away."""

import os
import shutil
import signal
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from controlplane.errors import ControlPlaneError
from lab import namespace
from lab.errors import LabError
from xdprouter.bench import destinations, machine, network
from xdprouter.bench.contenders import Contender, other_program, routers
from xdprouter.bench.harness import INTERRUPT, Harness
from xdprouter.bench.plan import Plan
from xdprouter.bench.progress import progress
from xdprouter.bench.results import LINUX, Result, Results, Run, Scenario
from xdprouter.bench.routes import RouteTable
from xdprouter.bench.updates import updates
from xdprouter.errors import XdprouterError

_CALIBRATION_PACKETS = 50_000
_SEED_SCENARIO = Scenario(4, 1, "hot")


def measure(plan: Plan) -> Results:
    """Everything in the plan, in a namespace made for it. Raises XdprouterError; leaves nothing behind."""
    try:
        with _one_interrupt(), ExitStack() as stack:
            return Session(plan, stack).run()
    except (ControlPlaneError, LabError, OSError) as error:  # OSError: a command such as nsenter is missing
        raise XdprouterError(str(error)) from error


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, and the first of either is the last: taking away must not be cut short."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _) -> None:
        for every in signals:
            signal.signal(every, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in signals}
    before[INTERRUPT] = signal.signal(INTERRUPT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Session:
    """The network and the contenders, for as long as `stack` is not closed."""

    def __init__(self, plan: Plan, stack: ExitStack):
        self._plan = plan
        self._cpus = sorted(os.sched_getaffinity(0))
        self._queues = max(plan.cores)
        self._cores = 0  # the number of queues in use now
        self._ns = stack.enter_context(network.network("forward"))
        network.build(self._ns, self._queues, plan.next_hops)
        self._ports = {port: network.ifindex(self._ns, port) for port in ("in0", "in0p", "out0", "out0p")}
        directory = Path(tempfile.mkdtemp(prefix="xdprouter-bench-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.enter_context(namespace.entered(self._ns))
        self._harness = Harness(self._ports, plan.sequence, stack)
        others = [other_program(number, self._harness.lib, stack) for number in plan.programs]
        own = [router.contender for router in routers(directory, self._ports, plan.cache_entries, plan.vlan, stack)]
        self._contenders = [self._harness.static_contender(), *own, Contender(LINUX, None), *others]
        self._seeds = self._harness.seeds() if plan.seeds else []
        for contender in [*self._contenders, *self._seeds]:
            self._harness.enter(contender)
        self._orders: dict[str, array] = {}

    def run(self) -> Results:
        plan = self._plan
        method = {
            "rounds": plan.rounds, "seconds": plan.seconds, "packets": plan.packets, "sequence": plan.sequence,
            "traffic": "UDP, one flow to each destination; rates include generator and sink",
        }  # fmt: skip
        out = Results(machine.describe(), method)
        scenarios = plan.scenarios()
        tables = {
            family: RouteTable(family, network.next_hops(family, plan.next_hops), self._ports["out0"])
            for family in (4, 6)
        }
        aimed = None
        with progress(len(scenarios) + bool(self._seeds)) as show:
            if self._seeds:
                show.now("drop, mirror, redirect, pass")
                out.seeds = self._measure_seeds()
                show.advance()
            for scenario in scenarios:
                family = scenario.family
                table = tables[family]
                if len(table) < scenario.routes:
                    show.now(f"IPv{family}, putting in {scenario.routes:,} routes")
                    table.grow(scenario.routes)
                if aimed != (family, scenario.routes, scenario.destinations):
                    aimed = (family, scenario.routes, scenario.destinations)
                    self._aim(table, scenario)
                show.now(" ".join(scenario.words))
                out.results.append(self._measure(scenario))
                show.advance()
        return out

    def _measure_seeds(self) -> Result:
        """No table is looked up, so any addresses do."""
        self._use_cores(1)
        order = self._order("hot")
        self._harness.aim(destinations.sequence(4, range(1 << 24, (1 << 24) + len(order)), order), len(order))
        return self._rounds(_SEED_SCENARIO, self._seeds, lambda: 0)

    def _aim(self, table: RouteTable, scenario: Scenario) -> None:
        """Destinations in this table. Contenders that remember get to see all of them once."""
        order = self._order(scenario.destinations)
        addresses = table.destinations(destinations.population(scenario.destinations))
        self._harness.aim(destinations.sequence(scenario.family, addresses, order), len(order))
        self._use_cores(1)
        for contender in self._contenders:
            if contender.remembers:
                self._run(contender, scenario, len(order), 1, lambda: 0)

    def _order(self, distribution: str) -> array:
        if distribution not in self._orders:
            self._orders[distribution] = destinations.draw(distribution, self._plan.sequence)
        return self._orders[distribution]

    def _measure(self, scenario: Scenario) -> Result:
        self._use_cores(scenario.cores)
        if not scenario.updates:
            return self._rounds(scenario, self._contenders, lambda: 0)
        free = set(self._cpus) - set(self._measuring(scenario.cores)) or set(self._cpus)
        ifindex = self._ports["out0"]
        with updates(self._ns, scenario.updates, scenario.family, ifindex, free) as running:
            return self._rounds(scenario, self._contenders, lambda: running.done)

    def _rounds(self, scenario: Scenario, contenders: list[Contender], updated: Callable[[], int]) -> Result:
        """Every contender plan.rounds times, in an order that turns by one each round."""
        out = Result(scenario, {contender.name: [] for contender in contenders})
        packets = {contender.name: self._enough(contender, scenario, updated) for contender in contenders}
        for number in range(self._plan.rounds):
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                run = self._run(contender, scenario, packets[contender.name], scenario.cores, updated)
                out.runs[contender.name].append(run)
        return out

    def _enough(self, contender: Contender, scenario: Scenario, updated: Callable[[], int]) -> int:
        """How many packets take the time asked for; a short run beforehand tells, and warms up."""
        run = self._run(contender, scenario, _CALIBRATION_PACKETS, scenario.cores, updated)
        return self._plan.packets or max(int(run.sent / run.seconds * self._plan.seconds), 1)

    def _run(
        self, contender: Contender, scenario: Scenario, packets: int, cores: int, updated: Callable[[], int]
    ) -> Run:
        cpus = self._measuring(cores)
        return self._harness.measure(contender, scenario.family, scenario.size, packets, cpus, updated)

    def _measuring(self, cores: int) -> list[int]:
        """The last CPUs: interrupts tend to go to the first."""
        return self._cpus[-cores:]

    def _use_cores(self, cores: int) -> None:
        if cores != self._cores:
            network.use_queues(self._ns, self._measuring(cores), self._queues)
            self._cores = cores
