# SPDX-License-Identifier: GPL-2.0-only
"""nftables: which chains a forwarded packet meets. The structure is read from netlink, so that a missing `nft`
opens nothing; `nft`, where it is installed, only words the first rule."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping

from controlplane.errors import NetlinkError
from controlplane.finding import Finding, and_more
from controlplane.netlink import NetlinkSocket
from controlplane.ruleset import (
    FAMILIES,
    NETLINK_NETFILTER,
    BaseChain,
    Rules,
    Ruleset,
    generation,
    kernel_without,
    read,
)

_LISTED_RULE = re.compile(r"^\s*(\S.*?)\s+# handle (\d+)$", re.MULTILINE)
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w./-]*")
_NFT_TIMEOUT_S = 1
_LONGEST_TEXT = 160


class Netfilter:
    """Remembers what it found until the ruleset's generation changes: a look at an unchanged ruleset is one
    small request."""

    def __init__(self):
        self._absent = False
        self._generation: int | None = None
        self._ruleset = Ruleset()
        self._texts: dict[tuple[int, str, str, int], str] = {}

    def examine(self, devices: Mapping[str, int], changed: bool = True, bridges: Collection[str] = ()) -> list[Finding]:
        """Findings in the caller's network namespace. `changed`: forget what is remembered; `bridges`: which of the
        devices are.

        Raises NetlinkError or OSError when the kernel does not tell.
        """
        if changed:
            self._absent, self._generation = False, None
        if self._absent:
            return []
        try:
            with NetlinkSocket(NETLINK_NETFILTER) as sock:
                self._refresh(sock)
        except (NetlinkError, OSError) as error:
            self._generation = None
            if not kernel_without(error):
                raise
            # Asking again would make the kernel look for the module each time; an event comes when it is loaded.
            self._absent = True
            return []
        return self._findings(devices, bridges)

    def _refresh(self, sock: NetlinkSocket) -> None:
        for _ in range(5):
            before = generation(sock)
            if before == self._generation:
                return
            ruleset = read(sock)
            if generation(sock) == before:
                self._generation, self._ruleset = before, ruleset
                return
        raise NetlinkError("the nftables ruleset changes faster than it can be read")

    def _findings(self, devices: Mapping[str, int], bridges: Collection[str]) -> list[Finding]:
        found, old_texts = [], self._texts
        self._texts = {}
        for chain in self._ruleset.chains:
            if not self._ruleset.counts(chain):
                continue
            rules = self._ruleset.rules.get((chain.family, chain.table, chain.name))
            for device, where in _places(chain, devices, bridges):
                what = self._rule_text(chain, rules, old_texts) if rules else "policy drop"
                found.append(Finding(device, f"nftables: {chain.label}{where}: {what}"))
        for flowtable in self._ruleset.flowtables:
            for device, _ in _places(flowtable, devices):
                found.append(Finding(device, f"nftables: flowtable {flowtable.table} {flowtable.name} on {device}"))
        if self._ruleset.tracker:
            found.append(Finding(None, f"conntrack: tracks forwarded packets ({self._ruleset.tracker})"))
        return found

    def _rule_text(self, chain: BaseChain, rules: Rules, old_texts: dict) -> str:
        key = (chain.family, chain.table, chain.name, rules.first_handle)
        if key not in self._texts:
            # A handle is never given twice in a table, so the old words are still right.
            self._texts[key] = old_texts.get(key) or list_rule(chain, rules.first_handle)
        more = and_more(rules.number - 1)
        return self._texts[key] + more + (", policy drop" if chain.drops else "")


def _places(
    chain: BaseChain, devices: Mapping[str, int], bridges: Collection[str] = ()
) -> Iterator[tuple[str | None, str]]:
    """The devices that a chain concerns, and how to say that."""
    if chain.of_bridges:
        for bridge in bridges:
            yield bridge, f" (of {bridge})"
        return
    if not chain.of_devices:
        yield None, ""
        return
    for device in devices:
        if any(name == device or (name.endswith("*") and device.startswith(name[:-1])) for name in chain.devices):
            yield device, f" ({chain.place} of {device})"


def list_rule(chain: BaseChain, handle: int) -> str:
    """A rule in nft's words; its handle if nft is missing or says something else."""
    unworded = f"rule handle {handle}"
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    names = (FAMILIES.get(chain.family, ""), chain.table, chain.name)
    if program is None or not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return unworded
    try:
        done = subprocess.run(
            [program, "--handle", "--stateless", "list", "chain", *names],
            capture_output=True, text=True, errors="replace", timeout=_NFT_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return unworded
    words = next((found[1] for found in _LISTED_RULE.finditer(done.stdout) if int(found[2]) == handle), unworded)
    return words if len(words) <= _LONGEST_TEXT else words[: _LONGEST_TEXT - 3] + "..."
