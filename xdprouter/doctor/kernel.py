# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel lacks."""

from collections.abc import Iterator

from xdprouter.doctor.facts import Facts, Feature
from xdprouter.doctor.finding import Finding, Group, Severity

_INFO_ONLY = {
    "btf",
    "fib_lookup_mark",
    "fib_lookup_vlan",
    "netfilter_hooks",
    "vlan",
    "vrf",
    "bond",
    "bond_xdp",
    "xdp_features",
}
"""What many a good router does without"""
_JIT = "sysctl -w net.core.bpf_jit_enable=1"


def examine(facts: Facts) -> Iterator[Finding]:
    for name, feature in facts.features.items():
        yield _finding(name, feature, facts.software.jit_sysctl_here)


def _finding(name: str, feature: Feature, jit_sysctl_here: bool) -> Finding:
    key = f"kernel-{name.replace('_', '-')}"
    detail = f" ({feature.detail})" if feature.detail else ""
    if feature.answer == "yes":
        return Finding(key, Group.KERNEL, Severity.OK, f"{feature.meaning}{detail}")
    if feature.answer == "unknown":
        return Finding(
            key, Group.KERNEL, Severity.INFO, f"{feature.meaning}: cannot be told{detail}",
            no_command="it was left as it is, since asking further would change the machine",
        )  # fmt: skip
    command, no_command = "", f"this kernel was made without it; it came with {_origin(feature.since)}"
    if name == "jit":
        command = _JIT if jit_sysctl_here else f"nsenter --net=/proc/1/ns/net {_JIT}"
        no_command = ""
    without = "xdprouter does not run without it" if feature.needed else feature.without
    return Finding(
        key,
        Group.KERNEL,
        _severity(name, feature),
        f"this kernel lacks {feature.meaning}{detail}: {without}",
        command,
        no_command,
    )


def _severity(name: str, feature: Feature) -> Severity:
    if feature.needed:
        return Severity.ERROR
    return Severity.INFO if name in _INFO_ONLY else Severity.WARNING


def _origin(since: str) -> str:
    return since if since.startswith("CONFIG_") else f"Linux {since}"
