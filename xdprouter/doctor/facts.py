# SPDX-License-Identifier: GPL-2.0-only
"""What the doctor knows before it judges. Plain data: tests make it up."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Feature:
    """One of controlplane/kernel.py's."""

    meaning: str
    needed: bool
    without: str
    since: str
    answer: str
    """yes, no or unknown"""
    detail: str = ""


@dataclass(frozen=True)
class Software:
    root: bool = True
    bcc: str = ""
    """BCC's version; empty: not usable, and `bcc_error` says why"""
    bcc_error: str = ""
    wrong_bcc: bool = False
    """it is the unrelated PyPI package"""
    llvm: str = ""
    headers: bool = True
    """linux-libc-dev"""
    packages: dict[str, str | None] = field(default_factory=dict)
    """Python package -> version; None: missing"""
    python: str = "python3"
    bpffs: str = "mounted"
    """mounted, mountable, or why not"""
    run_directory: str = ""
    """the nearest folder that exists, on the way to the instance's own"""
    run_writable: bool = True
    memlock: str = ""
    """the limit in words if the kernel enforces it for BPF maps, else empty"""
    jit_sysctl_here: bool = True
    """net.core.bpf_jit_enable can be seen from this network namespace"""


@dataclass(frozen=True)
class Family:
    """IPv4 or IPv6."""

    name: str
    forwarding: bool
    addressed: tuple[str, ...] = ()
    """ports with an address that others can reach"""
    closed: tuple[str, ...] = ()
    """ports that do not forward, though the namespace does"""


@dataclass(frozen=True)
class Port:
    name: str
    mode: str
    exists: bool = True
    refusal: str = ""
    """why such a device cannot be a port"""
    up: bool = True
    carrier: bool = True
    kind: str = ""
    driver: str = ""
    mtu: int = 1500
    speed: int | None = None
    native: bool | None = None
    """the driver has native XDP; None: the kernel does not tell"""
    redirects: bool | None = None
    takes_redirects: bool | None = None
    """ndo_xdp_xmit"""
    frags: bool | None = None
    trial: str | None = None
    """the kernel's words when the program was tried on it; empty: it would be taken; None: not tried"""
    offloads: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    rx_queues: int | None = None
    combined_queues: int | None = None
    max_combined_queues: int | None = None
    attached: str = ""
    """native, generic or offloaded, when any program is"""
    program_id: int = 0
    program_name: str = ""
    link_id: int = 0
    ours: bool = False
    """the attached program is xdprouter's own"""
    peer: str | None = None
    """of a veth: its name; empty: cannot be seen"""
    peer_namespace: str = ""
    """a file; empty: this namespace"""
    peer_mtu: int = 0
    peer_tx_queues: int | None = None
    peer_tags_ahead: bool | None = None
    """the peer hands VLAN tags over beside the frame, where XDP does not see them"""
    vlans: tuple[str, ...] = ()
    reverse_path: int = 0
    near: tuple[str, ...] = ()
    """of a missing one: devices with such a name"""


@dataclass(frozen=True)
class Facts:
    netns: str | None = None
    instance: str = "default"
    features: dict[str, Feature] = field(default_factory=dict)
    software: Software = field(default_factory=Software)
    families: tuple[Family, ...] = ()
    ports: tuple[Port, ...] = ()
    status: dict[str, Any] | None = None
    """of the daemon; None: there is none"""
    next_hops: tuple[dict[str, Any], ...] = ()
    mute: str = ""
    """why the daemon does not answer, when there is one"""
    forwarding_alone: int = 0
    """ports that an ended daemon has left forwarding"""
    guard: tuple[tuple[str | None, str], ...] = ()
    """(port or None, what its packets would meet)"""
    guard_policy: str = "refuse"
    available_bytes: int = 0
    cache_entries: int = 0
    cache_bytes: int = 0
    cpus: int = 1
    page: int = 4096
