# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs of a guest: busybox, and the modules that the root file system needs."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.vm.errors import GuestError
from tests.vm.kernels import Kernel

HERE = Path(__file__).resolve().parent
ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""As initramfs.sh loads them"""
APPLETS = ("sh", "mount", "umount", "mkdir", "modprobe", "poweroff", "switch_root", "cp")
DIRECTORIES = ("bin", "proc", "sys", "dev", "lower", "layer", "root")


def initramfs(kernel: Kernel) -> bytes:
    """A cpio archive. Raises GuestError when the machine has no static busybox."""
    with tempfile.TemporaryDirectory(prefix="xdprouter-initramfs-") as scratch:
        root = Path(scratch)
        for name in DIRECTORIES:
            (root / name).mkdir()
        shutil.copy(_busybox(), root / "bin" / "busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copy(HERE / "initramfs.sh", root / "init")
        (root / "init").chmod(0o755)
        modules = root / "lib" / "modules" / kernel.release
        modules.mkdir(parents=True)
        lines = _dependencies(kernel)
        (modules / "modules.dep").write_text("".join(f"{line}\n" for line in lines))
        for path in {path for line in lines for path in line.replace(":", "").split()}:
            (modules / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kernel.modules / path, modules / path)
        names = b"\0".join(bytes(path.relative_to(root)) for path in sorted(root.rglob("*")))
        done = subprocess.run(
            ["busybox", "cpio", "-o", "-0", "-H", "newc"], cwd=root, input=names, capture_output=True, check=True
        )
        return done.stdout


def _busybox() -> str:
    found = shutil.which("busybox")
    if found is None:
        raise GuestError("busybox is not installed: apt install busybox-static")
    with open(found, "rb") as file:
        if b"/ld-linux" in file.read():
            raise GuestError("busybox is not the static one: apt install busybox-static")
    return found


def _dependencies(kernel: Kernel) -> list[str]:
    """The lines of modules.dep for ROOT_MODULES and all they need. What is missing is built in."""
    lines = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        lines[path] = needs.split()
    wanted = [path for path in lines if Path(path).name.removesuffix(".ko") in ROOT_MODULES]
    out: dict[str, list[str]] = {}
    while wanted:
        path = wanted.pop()
        if path not in out:
            out[path] = lines[path]
            wanted += lines[path]
    return [f"{path}: {' '.join(needs)}" for path, needs in sorted(out.items())]
