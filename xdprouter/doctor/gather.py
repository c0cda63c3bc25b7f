# SPDX-License-Identifier: GPL-2.0-only
"""Asks the kernel, the ports and the daemon. Nothing here changes anything."""

import dataclasses
import difflib
import os
import socket
from pathlib import Path

from pyroute2 import IPRoute

from controlplane import device, kernel, transient
from controlplane import settings as kernel_settings
from controlplane.attachment import driver_reason
from controlplane.cache import cache_sets
from controlplane.devconf import DeviceConfs
from controlplane.errors import ControlPlaneError
from controlplane.guard import Examiner
from controlplane.libbpf import BPF_F_XDP_HAS_FRAGS
from controlplane.memory import cache_bytes
from controlplane.netdev import NDO_XMIT
from controlplane.pins import PinDirectory
from controlplane.reconcile import Mode
from controlplane.stack import build
from xdprouter import api, client
from xdprouter.config import Config
from xdprouter.doctor import system
from xdprouter.doctor.facts import Facts, Family, Feature, Port
from xdprouter.errors import NoDaemon, XdprouterError
from xdprouter.instance import Instance

_BASIC, _REDIRECT, _RX_SG = 1 << 0, 1 << 1, 1 << 5
"""NETDEV_XDP_ACT_* of include/uapi/linux/netdev.h"""
_SCOPE_LINK = 253
_SYSCTL = Path("/proc/sys/net")
_DRIVER_MODE = {"native": Mode.NATIVE, "generic": Mode.GENERIC}


def gather(instance: Instance, config: Config, named: tuple[str, ...] = (), from_file: bool = False) -> Facts:
    """Everything, in the instance's namespace, which the calling thread stays in. Ports: the `named` ones, else those
    of a configuration `from_file`, else the daemon's, else the default configuration's."""
    instance.enter()
    root = os.geteuid() == 0
    status, next_hops, mute = _daemon(instance)
    wished = _wished(config, named, status, from_file)
    owned = set(PinDirectory(instance.directory).link_ifindexes()) if root else set()
    links, devices = device.read(wished)
    settings = kernel_settings.read(wished, DeviceConfs().read())
    features = _features() if root else {}
    refused = build(links, wished).refused
    ports = tuple(
        _port(name, mode, links, refused.get(name, ""), devices.get(name), settings, status, owned, features)
        for name, mode in wished.items()
    )
    policy = status["guard"]["policy"] if status else config.guard
    cpus = os.cpu_count() or 1
    return Facts(
        netns=instance.netns,
        instance=instance.name,
        features=features,
        software=system.software(instance.directory),
        families=_families(wished),
        ports=ports,
        status=status,
        next_hops=next_hops,
        mute=mute,
        forwarding_alone=0 if status else len(owned),
        guard=_guard(status, policy, {name: found.link.ifindex for name, found in devices.items()}),
        guard_policy=policy,
        available_bytes=system.available_bytes(),
        cache_entries=config.cache_entries,
        cache_bytes=cache_bytes(1 << (cpus - 1).bit_length(), cache_sets(config.cache_entries)),
        cpus=cpus,
        page=os.sysconf("SC_PAGESIZE"),
    )


def _daemon(instance: Instance) -> tuple[dict | None, tuple[dict, ...], str]:
    """(status, next hops, why it does not answer)"""
    try:
        status = client.ask(instance, api.StatusRequest())
        return status, tuple(client.ask(instance, api.NeighboursRequest())["neighbours"]), ""
    except NoDaemon:
        return None, (), ""
    except XdprouterError as error:
        return None, (), str(error)


def _wished(config: Config, named: tuple[str, ...], status: dict | None, from_file: bool) -> dict[str, str]:
    """Port -> mode."""
    running = {port["name"]: port["mode"] for port in status["ports"]} if status else {}
    configured = config.modes()
    if named:
        return {name: running.get(name) or configured.get(name) or config.mode for name in named}
    return configured if from_file or not running else running


def _features() -> dict[str, Feature]:
    return {
        name: Feature(known.meaning, known.needed, known.without, known.since, str(found.answer), found.detail)
        for (name, found), known in zip(kernel.probe().items(), kernel.FEATURES.values(), strict=True)
    }


def _port(name, mode, links, refusal, found, settings, status, owned, features) -> Port:
    if found is None:
        near = difflib.get_close_matches(name, [link.name for link in links if link.name != "lo"], n=3)
        return Port(name, mode, exists=False, near=tuple(near))
    link, bits, channels = found.link, found.xdp_features, found.channels
    program, peer = found.program, found.peer
    known = Port(
        name=name,
        mode=mode,
        refusal=refusal,
        up=link.up,
        carrier=link.carrier,
        kind=link.kind,
        driver=found.driver,
        mtu=link.mtu,
        speed=found.speed,
        native=link.kind == "veth" or None if bits is None else bool(bits & _BASIC),
        redirects=_bit(bits, _REDIRECT),
        takes_redirects=peer.napi if bits is None and peer else _bit(bits, NDO_XMIT),
        frags=_bit(bits, _RX_SG),
        offloads=found.offloads,
        rx_queues=channels.rx or channels.combined if channels else None,
        combined_queues=channels.combined if channels else None,
        max_combined_queues=channels.max_combined if channels else None,
        peer=peer.name if peer else None,
        peer_namespace=peer.namespace if peer else "",
        peer_mtu=peer.mtu if peer else 0,
        peer_tx_queues=peer.channels.tx if peer and peer.channels else None,
        peer_tags_ahead=peer.tags_ahead if peer else None,
        vlans=found.vlans,
        reverse_path=settings.of(name).reverse_path,
    )
    if program:
        ours = link.ifindex in owned or bool(status and status["program_id"] == program.id)
        return dataclasses.replace(
            known, attached=program.mode, program_id=program.id, program_name=program.name, link_id=program.link_id,
            ours=ours,
        )  # fmt: skip
    return dataclasses.replace(known, trial=_trial(known, link.ifindex, status, features))


def _bit(bits: int | None, bit: int) -> bool | None:
    return None if bits is None else bool(bits & bit)


def _trial(port: Port, ifindex: int, status: dict | None, features: dict[str, Feature]) -> str | None:
    """What the driver says when a program is put on the port and taken off again. Only while it is down, nothing is
    attached and no daemon wants it: some drivers reset the link."""
    wanted = status and any(known["name"] == port.name for known in status["ports"])
    if port.up or port.refusal or wanted or not features or features["xdp"].answer != "yes":
        return None
    flags = BPF_F_XDP_HAS_FRAGS if features["xdp_frags"].answer == "yes" else 0
    try:
        with transient.xdp_pass(flags) as program:
            return driver_reason(program, ifindex, _DRIVER_MODE[port.mode])
    except (OSError, ControlPlaneError):
        return None


def _guard(status: dict | None, policy: str, devices: dict[str, int]) -> tuple[tuple[str | None, str], ...]:
    if policy == "off":
        return ()
    if status:
        return tuple((found["device"], found["text"]) for found in status["guard"]["findings"])
    return tuple((found.device, found.text) for found in Examiner(load_modules=False).examine(devices))


def _families(ports: dict[str, str]) -> tuple[Family, ...]:
    index_of = {index: name for index, name in socket.if_nameindex() if name in ports}
    addressed: dict[int, dict[str, None]] = {socket.AF_INET: {}, socket.AF_INET6: {}}
    with IPRoute() as ipr:
        for message in ipr.get_addr():
            name = index_of.get(message["index"])
            if name and message["scope"] < _SCOPE_LINK and message["family"] in addressed:
                addressed[message["family"]][name] = None
    out = []
    for number, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
        folder = _SYSCTL / name.lower()
        switch = folder / ("ip_forward" if number == socket.AF_INET else "conf/all/forwarding")
        on = _is_on(switch) is True
        closed = tuple(port for port in index_of.values() if _is_on(folder / "conf" / port / "forwarding") is False)
        out.append(Family(name, on, tuple(addressed[number]), closed if on else ()))
    return tuple(out)


def _is_on(path: Path) -> bool | None:
    """None: there is no such switch."""
    try:
        return int(path.read_text()) != 0
    except (OSError, ValueError):
        return None
