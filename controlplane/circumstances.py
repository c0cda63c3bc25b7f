# SPDX-License-Identifier: GPL-2.0-only
"""What a reason is told from: around the program's own trace, what the kernel and the operator have there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.frame import Head
from controlplane.neighbour import Details
from controlplane.route_get import Answer
from controlplane.settings import Settings


@dataclass(frozen=True)
class Reason:
    text: str
    remedy: str = ""
    """a command, or what to do; empty where this is as it should be"""


@dataclass(frozen=True)
class Circumstances:
    """What the trace alone does not tell."""

    port: str
    head: Head
    mac: str = ""
    """of the interface that the frame belongs to"""
    owner: str = ""
    """that interface, by the kernel's devices: whether it is on the fast path or not"""
    vlan: bool = False
    """it is a VLAN interface, whose tags the frame has"""
    slow: str = ""
    """why it is not on the fast path, as far as its place tells"""
    names: Mapping[int, str] = field(default_factory=dict)
    """of all devices, by ifindex"""
    ports: Mapping[str, str] = field(default_factory=dict)
    """name of each port -> why nothing can be redirected to it; empty if it can"""
    egress_slow: str = ""
    """why the device that the FIB names is not on the fast path, as far as its place tells"""
    egress_mtu: int = 0
    """its own"""
    way_out: str = ""
    """the port by which it leaves"""
    bridge: str = ""
    """that the packet comes in by; or leaves by, once the FIB is asked"""
    bridged_mac: str = ""
    """of the host behind it: the sender; or the next hop, then"""
    learned_on: str = ""
    """the member where the data plane knows that host"""
    settings: Settings = field(default_factory=Settings)
    findings: tuple[str, ...] = ()
    """of the guard, that concern where it comes in"""
    neighbour: Details | None = None
    kernel: Answer | None = None
    blackhole: str = ""
    """the route's prefix, if it is known"""
    option: str = ""
    """` --netns NAME`, for a command of ours"""

    def name(self, ifindex: int) -> str:
        return self.names.get(ifindex, f"#{ifindex}")
