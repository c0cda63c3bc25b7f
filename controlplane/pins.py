# SPDX-License-Identifier: GPL-2.0-only
"""Where an instance keeps what must outlive the daemon: a bpffs of its own, with maps and links in it.

<run dir>/bpf/            bpffs mount
<run dir>/bpf/vN/         maps of layout version N, LAYOUT_VERSION
<run dir>/bpf/vN/links/   one pinned XDP link for each port, named by ifindex
<run dir>/layout-vN.json  what these maps look like, for other versions (controlplane/layout.py)
"""

import errno
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from controlplane.errors import DataplaneError

log = logging.getLogger("xdprouter.pins")

LAYOUT_VERSION = 4
"""Goes up when a struct or a size in bpf/maps.h changes: pins of another layout are read by their description alone."""


class PinDirectory:
    """The bpffs under `run_dir`; mounting is idempotent, `remove` undoes it all."""

    def __init__(self, run_dir: Path):
        self.mount_point = run_dir / "bpf"
        self.maps = self.mount_point / f"v{LAYOUT_VERSION}"
        self.links = self.maps / "links"

    def open(self) -> None:
        """Mount, make the folders, and take over the links of other layouts."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.mount_point):
            command = ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(self.mount_point)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise DataplaneError(f"cannot mount bpffs at {self.mount_point}: {done.stderr.strip()}")
            if _mounts_end_with_us():
                log.warning(
                    "mounted bpffs at %s in a mount namespace of this service's or command's own: ports leave XDP and counters "
                    "are lost when it ends; mount it beforehand, as contrib/systemd does",
                    self.mount_point,
                )
        self.links.mkdir(parents=True, exist_ok=True)
        for other in self.other_layouts():
            for link in (other / "links").glob("*"):  # the ports stay on XDP until their program is replaced
                link.rename(self.links / link.name)

    def other_layouts(self) -> list[Path]:
        """Their maps are still pinned."""
        return sorted(p for p in self.mount_point.iterdir() if re.fullmatch(r"v\d+", p.name) and p != self.maps)

    def description(self, name: str) -> Path:
        """Of the layout that is called so, such as v2."""
        return self.mount_point.parent / f"layout-{name}.json"

    def forget_maps(self) -> None:
        """Unpin this layout's maps; the links stay."""
        for path in self.maps.iterdir():
            if path != self.links:
                path.unlink()

    def link_ifindexes(self) -> list[int]:
        """Devices that have a link here; none before `open`."""
        return sorted(int(path.name) for path in self.links.glob("*"))

    def link(self, ifindex: int) -> Path:
        return self.links / str(ifindex)

    def remove(self) -> None:
        """Unpin everything, which detaches every port, and unmount."""
        if os.path.ismount(self.mount_point):
            for path in (self.maps, *self.other_layouts()):
                shutil.rmtree(path, ignore_errors=True)
                self.description(path.name).unlink(missing_ok=True)
            subprocess.run(["umount", "--lazy", str(self.mount_point)], check=True, capture_output=True)
        if self.mount_point.is_dir():
            try:
                self.mount_point.rmdir()
            except OSError as error:
                # Mounted outside of a service's sandbox, where it is empty now, and not for us to unmount.
                if error.errno != errno.EBUSY:
                    raise


def _mounts_end_with_us() -> bool:
    """Whether what is mounted here is seen by this process and its children alone, as under `ip netns exec`."""
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except OSError:  # without CAP_SYS_PTRACE: a copy of the machine's mounts hears of changes there
        with open("/proc/self/mountinfo") as file:
            return any(line.split()[4] == "/" and " master:" in line for line in file)
