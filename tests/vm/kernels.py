# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels: found and downloaded by apt, unpacked beside each other in a cache, never installed.

    <cache>/<label>/<release>/vmlinux
                             /lib/modules/<release>/   only what a network test can ask for, decompressed

apt works on directories of its own, so the machine's package lists and suites are left as they are.
"""

import fcntl
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.errors import GuestError

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
META_PACKAGE = "linux-image-amd64"
"""Of the generic flavour; the cloud flavour has no 9p."""
SUITES = {"6.1": "bookworm", "6.12": "trixie", "7": "trixie-backports"}
"""First numbers of the version -> the suite that has it."""
FRESH_S = 7 * 86400
"""The mirror is asked for a newer one so often."""
MODULES = (
    "net", "lib", "crypto", "arch/x86/crypto", "fs/9p", "fs/netfs", "fs/fscache", "fs/overlayfs", "drivers/virtio",
    "drivers/net/*.ko*", "drivers/net/bonding", "drivers/net/ipvlan", "drivers/net/macvlan", "drivers/net/team",
    "drivers/net/vxlan", "drivers/net/wireguard",
)  # fmt: skip
"""Under kernel/ of the modules. The rest are drivers of hardware, nine tenths of the space."""
_PART = re.compile(r"linux-(?:image|binary|modules)-\d[^ ]*-amd64")
"""From 7.2 on the image is split in three."""


@dataclass(frozen=True)
class Kernel:
    label: str
    release: str
    """As `uname -r` says it"""
    directory: Path

    @property
    def image(self) -> Path:
        """An uncompressed ELF file: boots two seconds sooner than a bzImage."""
        return self.directory / "vmlinux"

    @property
    def modules(self) -> Path:
        return self.directory / "lib" / "modules" / self.release


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xdprouter" / "kernels"


def fetch(label: str) -> Kernel:
    """The newest kernel of a suite, from the cache if it was looked for in the last days or the mirror cannot be
    reached. Raises GuestError."""
    if label not in SUITES:
        raise GuestError(f"no kernel {label}: there are {', '.join(SUITES)}")
    home = cache_directory() / label
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        cached = _cached(label, home)
        asked = home / "asked"
        if cached and asked.exists() and time.time() - asked.stat().st_mtime < FRESH_S:
            return cached
        try:
            kernel = _newest(label, home)
        except GuestError:
            if cached is None:
                raise
            return cached
        asked.touch()
        for old in _unpacked(home)[:-2]:  # the last but one may be in use
            shutil.rmtree(old)
        return kernel


def _unpacked(home: Path) -> list[Path]:
    """Oldest first."""
    return sorted(
        (path for path in home.glob("[0-9]*") if (path / "vmlinux").exists()), key=lambda p: p.stat().st_mtime
    )


def _cached(label: str, home: Path) -> Kernel | None:
    found = _unpacked(home)
    return Kernel(label, found[-1].name, found[-1]) if found else None


def _newest(label: str, home: Path) -> Kernel:
    apt = _Apt(SUITES[label], home / "apt")
    apt.run("apt-get", "update", "-qq")
    (image,) = apt.parts(META_PACKAGE) or (None,)
    if image is None:
        raise GuestError(f"{SUITES[label]} has no {META_PACKAGE}")
    release = image.removeprefix("linux-image-")
    if not release.startswith(f"{label}."):
        raise GuestError(f"{SUITES[label]} has Linux {release}, not {label}")
    kernel = Kernel(label, release, home / release)
    if kernel.image.exists():
        return kernel
    # Under another name until it is complete.
    with tempfile.TemporaryDirectory(dir=home, prefix=".unpack") as scratch:
        for package in apt.download([image, *apt.parts(image)], Path(scratch)):
            _checked(["dpkg-deb", "-x", str(package), f"{scratch}/root"])
        made = Kernel(label, release, Path(scratch) / "made")
        _keep(Path(scratch) / "root", made)
        made.directory.rename(kernel.directory)
    return kernel


class _Apt:
    """apt-get on directories of its own: one suite, no installed packages."""

    def __init__(self, suite: str, directory: Path):
        for name in ("lists/partial", "archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        sources = directory / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
        self._options = [
            "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null",
            "-o", f"Dir::State::lists={directory}/lists", "-o", "Dir::State::status=/dev/null",
            "-o", f"Dir::Cache={directory}", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
        ]  # fmt: skip

    def run(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        return _checked([tool, *self._options, *arguments], cwd)

    def parts(self, package: str) -> list[str]:
        """The kernel packages that a package depends on."""
        lines = self.run("apt-cache", "depends", package).splitlines()
        words = [line.split() for line in lines]
        return [word[1] for word in words if word[0] == "Depends:" and _PART.fullmatch(word[1])]

    def download(self, packages: list[str], directory: Path) -> list[Path]:
        self.run("apt-get", "download", "-qq", *packages, cwd=directory)
        return sorted(directory.glob("*.deb"))


def _keep(root: Path, kernel: Kernel) -> None:
    """What is needed of unpacked packages, into `kernel.directory`."""
    (kernel.directory / "lib" / "modules").mkdir(parents=True)
    # /lib or /usr/lib, by suite; the image in /boot or beside the modules.
    (modules,) = root.glob(f"**/lib/modules/{kernel.release}")
    images = [*root.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz")]
    for pattern in MODULES:
        for found in modules.glob(f"kernel/{pattern}"):
            for path in [found] if found.is_file() else found.rglob("*.ko*"):
                target = kernel.modules / path.relative_to(modules)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    for name in ("modules.builtin", "modules.order"):
        if (modules / name).exists():
            shutil.copy(modules / name, kernel.modules)
    # Decompressing them in the guest costs fifteen seconds.
    for tool, ending in (("xz", ".xz"), ("zstd", ".zst")):
        packed = [str(path) for path in kernel.modules.rglob(f"*.ko{ending}")]
        if packed:
            _checked([tool, "-dq", *(["--rm"] if tool == "zstd" else []), *packed])
    _checked(["busybox", "depmod", "-b", str(kernel.directory), kernel.release])
    kernel.image.write_bytes(vmlinux(images[0].read_bytes()))


def vmlinux(image: bytes) -> bytes:
    """The ELF file inside a bzImage (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length)."""
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]  # the last four bytes are the length when unpacked
    if payload.startswith(b"\xfd7zXZ"):
        found = lzma.decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        found = subprocess.run(["zstd", "-dqc"], input=payload, capture_output=True, check=True).stdout
    else:
        raise GuestError(f"a kernel image packed in an unknown way: {payload[:6].hex()}")
    if not found.startswith(b"\x7fELF"):
        raise GuestError("the kernel image holds no ELF file")
    return found


def _checked(argv: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise GuestError(f"{argv[0]} is not installed: make setup installs it") from error
    if done.returncode != 0:
        raise GuestError(f"{argv[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two runs at once fetch a kernel once."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
