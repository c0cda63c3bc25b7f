# SPDX-License-Identifier: GPL-2.0-only
"""What the engine knows at one moment."""

from dataclasses import dataclass

from controlplane import neighbour
from controlplane.census import RouteCensus
from controlplane.features import Feature
from controlplane.finding import Finding
from controlplane.monitor import NetlinkCounters
from controlplane.port_guard import GuardPolicy
from controlplane.ports import PortView
from controlplane.reconcile import Plan
from controlplane.settings import Settings
from controlplane.swap import Swap
from controlplane.vrf import VrfTraffic


@dataclass(frozen=True)
class Snapshot:
    """Everything `status` tells."""

    ports: list[PortView]
    out_of_sync: list[str]
    routes: RouteCensus
    last_route_change_s: float | None
    route_events: int
    neighbours: neighbour.Census
    managed_neighbours: int
    netlink: NetlinkCounters
    transmitting: dict[int, int]
    program_id: int
    last_swap: Swap | None
    guard: GuardPolicy
    findings: list[Finding]
    plan: Plan
    vrfs: dict[str, VrfTraffic]
    features: frozenset[Feature]
    settings: Settings
    refusals: dict[str, str]
    """port -> why nothing can be redirected to it; empty: it can"""
