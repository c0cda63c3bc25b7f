# SPDX-License-Identifier: GPL-2.0-only
"""One guest: boots, runs one command on the machine's own root, and is switched off.

It sees the machine's files, and writes to a layer in memory of its own; `/run/vm/share` is a directory that
both see. Software emulation: no /dev/kvm, one CPU, some twenty times slower than the machine.
"""

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import image
from tests.vm.errors import GuestError
from tests.vm.kernels import Kernel

SHARE = Path("/run/vm/share")
"""The shared directory, as the guest sees it"""
MEMORY_MB = 2048
BOOT_S = 60.0
"""Twenty times what boot and shutdown take together"""
CONSOLE_LINES = 60
QEMU = "qemu-system-x86_64"
BOOT_LINE = "console=ttyS0 panic=-1 oops=panic loglevel=4 mitigations=off nokaslr audit=0 random.trust_cpu=on nowatchdog norandmaps quiet"


@dataclass(frozen=True)
class Outcome:
    """Of a command that ran to its end, or was ended by its time limit: `code` 124."""

    code: int
    output: str
    dmesg: str
    seconds: float
    """With boot and shutdown"""


class Guest:
    """`directory` is shared with the guest, and keeps console, output, dmesg and whatever the command writes there."""

    def __init__(self, kernel: Kernel, directory: Path):
        self.kernel = kernel
        self.directory = directory

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Boot, run, switch off. Raises GuestError if the guest panics, hangs or says nothing; whatever the exit code,
        a command that ended is an Outcome."""
        self._prepare(argv, timeout_s, cwd or Path.cwd(), environment or {})
        console, started = self.directory / "console", time.monotonic()
        with tempfile.NamedTemporaryFile(prefix="xdprouter-initramfs-") as initramfs:
            initramfs.write(image.initramfs(self.kernel))
            initramfs.flush()
            hung = not self._boot(Path(initramfs.name), console, timeout_s + BOOT_S)
        seconds = time.monotonic() - started
        try:
            code = int((self.directory / "exit").read_text())
        except (FileNotFoundError, ValueError):
            raise GuestError(self._why(hung, seconds), _tail(console)) from None
        return Outcome(code, _text(self.directory / "output"), _text(self.directory / "dmesg"), seconds)

    def _prepare(self, argv: Sequence[str], timeout_s: float, cwd: Path, environment: Mapping[str, str]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("exit", "output", "dmesg", "console"):
            (self.directory / name).unlink(missing_ok=True)
        shutil.copy(image.HERE / "init.sh", self.directory)
        (self.directory / "settings.sh").write_text(
            f"GUEST_MODULES={shlex.quote(str(self.kernel.modules))}\nGUEST_TIMEOUT_S={timeout_s:.0f}\n"
        )
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        (self.directory / "command.sh").write_text(
            f"cd {shlex.quote(str(cwd.resolve()))} || exit 127\n{exports}exec {shlex.join(argv)}\n"
        )

    def _boot(self, initramfs: Path, console: Path, timeout_s: float) -> bool:
        """False when it had to be killed."""
        if shutil.which(QEMU) is None:
            raise GuestError(f"{QEMU} is not installed: make setup installs it")
        qemu = subprocess.Popen(
            self._qemu(initramfs, console), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with _ended(qemu):
            try:
                said, _ = qemu.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return False
        if qemu.returncode != 0:
            raise GuestError(f"{QEMU}: {' '.join(said.split()) or f'exit code {qemu.returncode}'}")
        return True

    def _qemu(self, initramfs: Path, console: Path) -> list[str]:
        def shared(path: Path, tag: str, more: str) -> list[str]:
            where = str(path).replace(",", ",,")
            return ["-virtfs", f"local,path={where},mount_tag={tag},security_model=none,multidevs=remap{more}"]

        return [
            # However this process dies, QEMU does not outlive the thread that started it.
            "setpriv", "--pdeathsig", "KILL", QEMU, "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "1",
            "-m", f"{MEMORY_MB}M", "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(self.kernel.image), "-initrd", str(initramfs), "-append", BOOT_LINE,
            "-serial", f"file:{console}",
            *shared(Path("/"), "root", ",readonly=on"), *shared(self.directory.resolve(), "share", ""),
        ]  # fmt: skip

    def _why(self, hung: bool, seconds: float) -> str:
        lines = _text(self.directory / "console").splitlines()
        panic = next((line.strip() for line in lines if "Kernel panic" in line or "initramfs: " in line), "")
        if panic:
            return f"Linux {self.kernel.release}: {panic}"
        if hung:
            return f"Linux {self.kernel.release}: no result after {seconds:.0f} s, switched off"
        return f"Linux {self.kernel.release}: the guest ended after {seconds:.0f} s without a result"


@contextmanager
def _ended(process: subprocess.Popen) -> Iterator[None]:
    """However the block ends, the process does too."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _tail(console: Path) -> str:
    return "\n".join(_text(console).splitlines()[-CONSOLE_LINES:])
