# SPDX-License-Identifier: GPL-2.0-only
"""From the configuration to a data plane in the kernel; to a lesser one, with a word in the log, if it refuses."""

import logging

from controlplane.cache import cache_sets
from controlplane.dataplane import Dataplane, table_cpus
from controlplane.errors import DataplaneError
from controlplane.features import NONE, Feature
from controlplane.memory import LARGEST, cache_bytes
from controlplane.pins import PinDirectory
from xdprouter.errors import UsageError

log = logging.getLogger("xdprouter")


def make_dataplane(pins: PinDirectory, cache_entries: int, features: frozenset[Feature] = NONE) -> Dataplane:
    """With a cache, if the kernel lets us, and compiled with `features`. Raises ControlPlaneError when it does not even
    do without, and UsageError when the memory is not there."""
    sets = sets_that_fit(cache_entries, table_cpus(), available_bytes())
    try:
        return _with_features(pins, sets, features)
    except DataplaneError as error:
        if not cache_entries:
            raise
        log.warning("without a destination cache: %s", error)
        dataplane = _with_features(pins, 0, features)
        dataplane.cache.reason = str(error)
        return dataplane


def _with_features(pins: PinDirectory, sets: int, features: frozenset[Feature]) -> Dataplane:
    """Without them if the kernel refuses; the engine then tries again, and says so."""
    try:
        return Dataplane(pins, cache_sets=sets, features=features)
    except DataplaneError as error:
        if not features:
            raise
        log.warning("without %s: %s", ", ".join(sorted(features)), error)
        return Dataplane(pins, cache_sets=sets)


def sets_that_fit(cache_entries: int, cpus: int, available: int) -> int:
    """cache_sets(), with a word in the log if that is more than asked for."""
    sets = cache_sets(cache_entries)
    wanted, possible = cache_bytes(cpus, sets), min(available, 2 * LARGEST)
    if wanted > possible:
        raise UsageError(
            f"cache_entries is {cache_entries}: on {cpus} CPUs that takes {wanted // 10**6} MB, and at most "
            f"{possible // 10**6} MB are possible here"
        )
    if 4 * sets != cache_entries:
        log.warning("cache_entries %d is rounded up to %d", cache_entries, 4 * sets)
    return sets


def available_bytes() -> int:
    """What the kernel could give without swapping."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
