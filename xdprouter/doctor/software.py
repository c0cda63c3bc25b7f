# SPDX-License-Identifier: GPL-2.0-only
"""What the system and its packages lack."""

from collections.abc import Iterator

from xdprouter.doctor.facts import Facts, Software
from xdprouter.doctor.finding import Finding, Group, Severity

OLDEST_LLVM = 9
"""BCC below that has no read-only data and no atomics that fetch."""


def examine(facts: Facts) -> Iterator[Finding]:
    software = facts.software
    if not software.root:
        yield _bad(
            "root",
            "not root: the kernel can only be asked by root, so most of this is missing",
            "sudo xdprouter doctor",
        )
    yield _bcc(software)
    if software.bcc:
        yield _llvm(software.llvm)
    if software.headers:
        yield _good("libc-headers", "the kernel's user API headers are installed")
    else:
        yield _bad(
            "libc-headers",
            "no /usr/include/linux/types.h: nothing can be compiled",
            "apt-get install -y linux-libc-dev",
        )
    yield _packages(software)
    yield from _places(facts)


def _bcc(software: Software) -> Finding:
    if software.bcc:
        return _good("bcc", f"BCC {software.bcc}")
    if software.wrong_bcc:
        command = f"{software.python} -m pip uninstall -y bcc && apt-get install -y python3-bpfcc"
        return _bad("bcc", software.bcc_error, command)
    if software.bcc_error.startswith("BCC is not installed"):
        return _bad("bcc", software.bcc_error, "apt-get install -y python3-bpfcc")
    return _bad("bcc", software.bcc_error, no_command="the message says what is wrong")


def _llvm(version: str) -> Finding:
    if not version:
        return _say("llvm", Severity.INFO, "the version of LLVM cannot be told: it is part of libbcc itself")
    number = version.split(".")[0]
    if number.isdigit() and int(number) < OLDEST_LLVM:
        reason = f"LLVM {version} is old: {OLDEST_LLVM} or later is needed"
        return _bad(
            "llvm", reason, no_command="it comes with the distribution's BCC: a later distribution has a later one"
        )
    return _good("llvm", f"LLVM {version}")


def _packages(software: Software) -> Finding:
    missing = [name for name, version in software.packages.items() if version is None]
    if missing:
        return _bad(
            "python-packages",
            f"Python packages are missing: {', '.join(missing)}",
            f"{software.python} -m pip install {' '.join(missing)}",
        )
    return _good("python-packages", ", ".join(f"{name} {version}" for name, version in software.packages.items()))


def _places(facts: Facts) -> Iterator[Finding]:
    software = facts.software
    if software.bpffs in ("mounted", "mountable"):
        where = "is mounted for this instance" if software.bpffs == "mounted" else "can be mounted"
        yield _good("bpffs", f"bpffs {where}")
    else:
        yield _bad(
            "bpffs", f"bpffs cannot be mounted: {software.bpffs}", no_command="the kernel has none, or forbids it"
        )
    if software.run_writable:
        yield _good("run-directory", f"/run/xdprouter/{facts.instance}: {software.run_directory} can be written to")
    else:
        yield _bad(
            "run-directory",
            f"/run/xdprouter/{facts.instance}: {software.run_directory} cannot be written to",
            no_command="a read-only /run, or a sandbox: ReadWritePaths=/run/xdprouter in a systemd unit",
        )
    if software.memlock:
        yield _bad(
            "memlock",
            f"this kernel counts BPF maps against the memory lock limit, which is {software.memlock}",
            no_command="`ulimit -l unlimited` before the daemon's start, or LimitMEMLOCK=infinity in its systemd unit",
        )
    else:
        yield _good("memlock", "BPF maps do not count against the memory lock limit")


def _good(key: str, reason: str) -> Finding:
    return _say(key, Severity.OK, reason)


def _bad(key: str, reason: str, command: str = "", no_command: str = "") -> Finding:
    return _say(key, Severity.ERROR, reason, command, no_command)


def _say(key: str, severity: Severity, reason: str, command: str = "", no_command: str = "") -> Finding:
    return Finding(key, Group.SOFTWARE, severity, reason, command, no_command)
