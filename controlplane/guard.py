# SPDX-License-Identifier: GPL-2.0-only
"""What keeps ports off the fast path: everything that a forwarded packet meets in the kernel's own path and
that XDP, which runs before it, would go past. What cannot be found out counts as found."""

import errno
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from controlplane import conntrack, ipvs, traffic_control
from controlplane.bpf_query import NetfilterLinks
from controlplane.errors import NetlinkError, NetlinkOverrun
from controlplane.finding import Finding
from controlplane.netfilter import Netfilter
from controlplane.netfilter_hooks import NetfilterHooks
from controlplane.netlink import RTNLGRP_TC, NetlinkSocket
from controlplane.ruleset import NETLINK_NETFILTER
from controlplane.xfrm import NETLINK_XFRM, Xfrm
from controlplane.xtables import Xtables

__all__ = ["Examiner", "Finding", "GuardWatch", "examine"]

log = logging.getLogger("xdprouter.guard")

_NFNLGRP_NFTABLES, _XFRMNLGRP_POLICY = 7, 4
_FORWARD_HOOKS = {0: "prerouting", 2: "forward", 4: "postrouting"}
_MODULES = Path("/proc/modules")
_IP_PROTOCOLS = {2: "IPv4", 10: "IPv6"}


def examine(devices: Mapping[str, int]) -> list[Finding]:
    """Everything that packets forwarded over the ports would meet. `devices`: name -> ifindex of the ports and of
    what sits on them or belongs to them, in the caller's network namespace. Never raises."""
    return Examiner().examine(devices)


class Examiner:
    """Examines again and again, and remembers what is costly to read. One for each network namespace."""

    def __init__(self):
        self._netfilter = Netfilter()
        self._xtables = Xtables()
        self._hooks = NetfilterHooks()
        self._links = NetfilterLinks()
        self._xfrm = Xfrm()

    def examine(self, devices: Mapping[str, int], changed: bool = True, bridges: Collection[str] = ()) -> list[Finding]:
        """As the function of that name. `bridges`: which of the devices are. `changed=False` is the periodic look, for when no event has come: it
        reads everything that has no events, and of the rest what shows whether it has changed."""
        found = _careful("nftables rules", lambda: self._netfilter.examine(devices, changed, bridges))
        found += _careful("iptables rules", self._xtables.examine)
        found += _careful("netfilter hooks", lambda: self._netfilter_hooks(devices, changed, found, bridges))
        found += _careful("IPVS services", ipvs.examine)
        found += _careful("tc", lambda: traffic_control.examine(devices))
        found += _careful("xfrm policies", lambda: self._xfrm.examine(changed))
        return found

    def _netfilter_hooks(
        self, devices: Mapping[str, int], changed: bool, found: list[Finding], bridges: Collection[str]
    ) -> list[Finding]:
        """What is hooked in besides rules: the kernel's list, or what can be known without it."""
        hooks = self._hooks.examine(devices, changed, bridges)
        if hooks is not None:
            return hooks
        out = _ebtables(bridges)
        out += [
            Finding(None, f"netfilter: a BPF program sees {_IP_PROTOCOLS[family]} packets at {_FORWARD_HOOKS[number]}")
            for family, number in dict.fromkeys(self._links.hooks())
            if family in _IP_PROTOCOLS and number in _FORWARD_HOOKS
        ]
        if any(finding.text.startswith("conntrack:") for finding in found):
            return out
        return out + conntrack.examine()


def _ebtables(bridges: Collection[str]) -> list[Finding]:
    """Legacy tables, of which only their modules can be seen: asking for one would load it."""
    if not bridges:
        return []
    modules = [line.split()[0] for line in _MODULES.read_text().splitlines()] if _MODULES.exists() else []
    tables = [name for name in modules if name.startswith("ebtable_")]
    return [Finding(bridge, f"ebtables: {tables[0]} is loaded") for bridge in bridges if tables]


def _careful(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except Exception as error:  # whatever it is, the answer to "is there a firewall?" is then yes
        log.debug("%s cannot be read", what, exc_info=True)
        why = str(error) or type(error).__name__
        return [Finding(None, f"{what} cannot be read: {why}; counted as a firewall")]


class GuardWatch:
    """Netlink sockets that hear of changes of nftables, tc and XFRM in the caller's network namespace.

    `filters`: fds of the programs in bpf/guard_events.h by name (Dataplane.guard_filter_fds); without one, a
    socket hears everything in its group and stops nothing. What the kernel has not is left out.
    """

    _GROUPS = (
        ("nftables_event", NETLINK_NETFILTER, _NFNLGRP_NFTABLES),
        ("traffic_control_event", 0, RTNLGRP_TC),
        ("xfrm_event", NETLINK_XFRM, _XFRMNLGRP_POLICY),
    )

    def __init__(self, filters: Mapping[str, int], receive_buffer: int = 1 << 20):
        self._filters = filters
        self._receive_buffer = receive_buffer
        self.sockets: list[NetlinkSocket] = []
        """To wait on: readable when something has changed, then `drain`."""

    def __enter__(self) -> "GuardWatch":
        try:
            for name, protocol, group in self._GROUPS:
                self._listen(name, protocol, group)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def drain(self) -> bool:
        """Empty the sockets. True if anything had come, or was lost: look again, with `changed=True`."""
        heard = False
        for sock in self.sockets:
            while True:
                try:
                    if sock.receive() is None:
                        break
                except NetlinkOverrun:
                    pass
                heard = True
        return heard

    def _listen(self, name: str, protocol: int, group: int) -> None:
        try:
            sock = NetlinkSocket(protocol, self._receive_buffer)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                return
            raise NetlinkError(f"cannot follow firewall changes: {error.strerror}", error.errno) from error
        self.sockets.append(sock)
        if name in self._filters:
            sock.attach_filter(self._filters[name])
        sock.join(group)
