# SPDX-License-Identifier: GPL-2.0-only
"""What keeps a port off the fast path, or slow on it."""

from collections.abc import Iterator

from xdprouter.doctor.facts import Facts, Port
from xdprouter.doctor.finding import Finding, Group, Severity

_HEADROOM, _SHARED_INFO, _ETHERNET = 256, 320, 14
"""XDP_PACKET_HEADROOM, struct skb_shared_info rounded up, ETH_HLEN: what shares a page with a frame of one buffer"""
_OFF = {"native": "xdpdrv", "generic": "xdpgeneric", "offloaded": "xdpoffload"}
_LRO = {
    "rx-lro": ("lro", "large receive offload (LRO)", "lro"),
    "rx-gro-hw": ("gro-hw", "hardware GRO", "rx-gro-hw"),
}
"""Offload -> id, name, what ethtool calls it. Both hand frames over that were made of several."""


def examine(facts: Facts) -> Iterator[Finding]:
    for port in facts.ports:
        if not port.exists:
            yield _missing(port)
            continue
        said = _said_by_daemon(facts, port)
        yield from _link(port)
        yield from _program(port)
        if said or port.trial or not _too_few_queues(port):
            yield _native(facts, port, said)
        yield from _mtu(facts, port)
        yield from _queues(facts, port)
        yield from _offloads(port)
        yield from _egress(port)
        if port.reverse_path:
            yield _say(
                port, "rp-filter", Severity.INFO,
                f"rp_filter is {port.reverse_path}: each packet costs a second lookup",
                no_command="it protects against forged sources, and xdprouter keeps it; without need for it, set it to 0",
            )  # fmt: skip


def largest_mtu(page: int) -> int:
    """Of a frame in one page, as veth and virtio_net count; some drivers take a little less."""
    return page - _HEADROOM - _SHARED_INFO - _ETHERNET


def _missing(port: Port) -> Finding:
    near = f"; there is {', '.join(port.near)}" if port.near else ""
    return _say(
        port, "device", Severity.ERROR, f"no such device{near}",
        no_command="make the device (the daemon waits for it), or put its name right in the configuration",
    )  # fmt: skip


def _link(port: Port) -> Iterator[Finding]:
    if port.refusal:
        yield _say(
            port, "device", Severity.ERROR, f"it is {port.refusal}",
            no_command="take it out of there, or make another device the port",
        )  # fmt: skip
        return
    speed = f", {port.speed} Mbit/s" if port.speed and port.carrier else ""
    yield _say(port, "device", Severity.OK, f"driver {port.driver or 'unknown'}, MTU {port.mtu}{speed}")
    if not port.up:
        yield _say(port, "link", Severity.WARNING, "administratively down", f"ip link set dev {port.name} up")
    elif not port.carrier:
        yield _say(port, "link", Severity.WARNING, "no carrier", no_command="look at the cable and at the other end")
    else:
        yield _say(port, "link", Severity.OK, "up, with carrier")


def _program(port: Port) -> Iterator[Finding]:
    if not port.attached or port.ours:
        return
    if port.link_id:
        command = f"bpftool link detach id {port.link_id}"
    else:
        command = f"ip link set dev {port.name} {_OFF.get(port.attached, 'xdp')} off"
    yield _say(
        port, "other-program", Severity.ERROR,
        f"carries another XDP program: {port.program_name or 'nameless'}, id {port.program_id}, {port.attached}; "
        "take it off only if nobody needs it",
        command,
    )  # fmt: skip


def _native(facts: Facts, port: Port, said: str) -> Finding:
    netns = f" --netns {facts.netns}" if facts.netns else ""
    in_file = f'mode = "generic" for {port.name} in the configuration works on any device, slowly'
    if port.mode == "generic":
        return _say(
            port, "native-xdp", Severity.INFO, "in generic mode as configured, which is slow",
            no_command="mode = \"native\" in the configuration, if the driver has it",
        )  # fmt: skip
    if said:
        return _say(
            port, "native-xdp", Severity.ERROR, said, f"xdprouter attach{netns} {port.name} --mode generic",
        )  # fmt: skip
    if port.ours and port.attached == "native":
        return _say(port, "native-xdp", Severity.OK, "xdprouter is attached in native mode")
    if port.trial:
        return _say(port, "native-xdp", Severity.ERROR, f"refuses native XDP: {port.trial}", no_command=in_file)
    if port.native is False:
        return _say(
            port,
            "native-xdp",
            Severity.ERROR,
            f"driver {port.driver or 'unknown'} has no native XDP",
            no_command=in_file,
        )
    if port.native is None and port.trial is None:
        return _say(
            port, "native-xdp", Severity.INFO, "whether the driver has native XDP is not known",
            no_command="this kernel does not tell, and a port that is up is not tried, since some drivers reset the link",
        )  # fmt: skip
    if port.redirects is False:
        return _say(
            port, "native-xdp", Severity.ERROR, f"driver {port.driver} has XDP, but cannot redirect", no_command=in_file
        )
    return _say(port, "native-xdp", Severity.OK, f"driver {port.driver} has native XDP")


def _said_by_daemon(facts: Facts, port: Port) -> str:
    """The kernel's words, if it refused the program on this port; they came to the daemon."""
    for known in facts.status["ports"] if facts.status else ():
        if known["name"] == port.name and known["state"] == "unsupported" and not port.refusal:
            return known["reason"]
    return ""


def _mtu(facts: Facts, port: Port) -> Iterator[Finding]:
    """veth judges by the MTU of its peer, since that is what it receives."""
    limit = largest_mtu(facts.page)
    kernel_has = "xdp_frags" not in facts.features or facts.features["xdp_frags"].answer == "yes"
    by_peer = port.kind == "veth" and port.peer is not None
    mtu = port.peer_mtu or port.mtu if by_peer else port.mtu
    if port.mode == "generic" or mtu <= limit or (kernel_has and port.frags):
        return
    what = "the kernel" if not kernel_has else f"driver {port.driver or 'unknown'}"
    severity = Severity.ERROR if not kernel_has or port.frags is False else Severity.WARNING
    doubt = "cannot take" if severity is Severity.ERROR else "may not be able to take"
    device = port.peer if by_peer else port.name
    command = f"ip link set dev {device} mtu {limit}"
    if port.attached and port.ours:
        return
    yield _say(
        port, "mtu", severity,
        f"MTU {mtu}{' of its veth peer' if by_peer else ''}: {what} {doubt} frames of several buffers in XDP, and with "
        f"one the limit is about {limit}",
        _at_peer(port, command) if by_peer else command,
        "" if not by_peer or device else "its peer cannot be seen from here",
    )  # fmt: skip


def _queues(facts: Facts, port: Port) -> Iterator[Finding]:
    if _too_few_queues(port):
        command = _at_peer(port, f"ethtool -L {port.peer} tx {port.rx_queues}")
        sends = f"by {port.peer_tx_queues}" if port.peer_tx_queues else "by more"
        yield _say(
            port,
            "queues",
            Severity.ERROR,
            f"{port.rx_queues} receive queues, and its veth peer sends {sends}: native XDP is refused",
            command,
            ""
            if command
            else f"its peer is in a namespace that cannot be found: there, `ethtool -L PEER tx {port.rx_queues}`",
        )
        return
    used, most = port.combined_queues, port.max_combined_queues
    if used and most and used < min(facts.cpus, most):
        wanted = min(facts.cpus, most)
        yield _say(
            port, "queues", Severity.INFO, f"{used} of {most} queues in use, on {facts.cpus} CPUs: some CPUs do nothing",
            f"ethtool -L {port.name} combined {wanted}",
        )  # fmt: skip


def _too_few_queues(port: Port) -> bool:
    """Of a veth, which has XDP features only while its receive queues are no fewer than its peer's transmit queues
    (veth_set_xdp_features). A peer in a namespace that cannot be found cannot be counted."""
    if port.kind != "veth" or not port.rx_queues:
        return False
    return port.native is False or bool(port.peer_tx_queues and port.rx_queues < port.peer_tx_queues)


def _offloads(port: Port) -> Iterator[Finding]:
    for offload, (key, name, word) in _LRO.items():
        on, changeable = port.offloads.get(offload, (False, False))
        if on:
            command = f"ethtool -K {port.name} {word} off"
            yield _say(
                port, key, Severity.WARNING, f"{name} is on: native XDP and forwarding cannot use what it makes",
                command if changeable else "", "" if changeable else "the driver does not let it be switched off",
            )  # fmt: skip
    if not port.vlans:
        return
    above = ", ".join(port.vlans)
    if port.kind == "veth":
        if port.peer_tags_ahead:
            yield _say(
                port, "rxvlan", Severity.WARNING,
                f"its peer hands VLAN tags over beside the frame, where XDP does not see them; above it: {above}",
                _at_peer(port, f"ethtool -K {port.peer} txvlan off"),
            )  # fmt: skip
    elif port.offloads.get("rx-vlan-hw-parse", (False, False))[0]:
        yield _say(
            port, "rxvlan", Severity.WARNING,
            f"the driver takes VLAN tags off before XDP sees the frame (rxvlan); above it: {above}",
            f"ethtool -K {port.name} rxvlan off",
        )  # fmt: skip


def _egress(port: Port) -> Iterator[Finding]:
    """Only of a port that is up: a veth works it out when both ends are."""
    if port.takes_redirects is not False or not (port.up and port.carrier) or port.refusal or port.native is False:
        return
    if port.kind != "veth":
        yield _say(
            port, "takes-redirects", Severity.WARNING, "nothing can be redirected to it (no ndo_xdp_xmit)",
            no_command="of some drivers this is so until a program is attached: then `xdprouter run` mends it",
        )  # fmt: skip
        return
    command = _at_peer(port, f"sh -c 'ethtool -K {port.peer} gro off; ethtool -K {port.peer} gro on'")
    yield _say(
        port, "takes-redirects", Severity.WARNING,
        f"nothing can be redirected to it: its veth peer {port.peer} has no NAPI (gro is off, or was when they came up)",
        command, "" if command else "its peer is in a namespace that cannot be found: there, `ethtool -K PEER gro on`",
    )  # fmt: skip


def _at_peer(port: Port, command: str) -> str:
    """The command, run where the veth's other end is; empty if that is not known."""
    if not port.peer:
        return ""
    return f"nsenter --net={port.peer_namespace} {command}" if port.peer_namespace else command


def _say(
    port: Port, key: str, severity: Severity, reason: str, command: str = "", no_command: str = ""
) -> Finding:  # fmt: skip
    return Finding(key, Group.PORT, severity, reason, command, no_command, port.name)
