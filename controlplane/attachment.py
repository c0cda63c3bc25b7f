# SPDX-License-Identifier: GPL-2.0-only
"""The links between devices and the XDP program. They are pinned, so that they outlive this process; the program
in them is replaced in place, which loses no packet."""

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from controlplane import libbpf
from controlplane.errors import AttachError, DataplaneError, NetlinkError
from controlplane.libbpf import Libbpf
from controlplane.netlink import NetlinkSocket, attribute
from controlplane.pins import PinDirectory
from controlplane.program import Program
from controlplane.reconcile import Mode

_MODE_FLAGS = {Mode.NATIVE: libbpf.XDP_FLAGS_DRV_MODE, Mode.GENERIC: libbpf.XDP_FLAGS_SKB_MODE}
RTM_SETLINK, IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS = 19, 43, 1, 3
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0


class Attachments:
    """Of one instance, in the caller's network namespace. `pins`: open."""

    def __init__(self, lib: Libbpf, pins: PinDirectory):
        self._lib = lib
        self._pins = pins
        self._modes: dict[int, Mode] = {}

    def read(self, modes: Mapping[int, str | None]) -> tuple[dict[int, Mode], set[int]]:
        """(ifindex -> mode of each living link, ifindexes whose link has lost its device), as the kernel has it.
        `modes`: ifindex -> how XDP is attached, from netlink; used for links made by an earlier process."""
        attached, dead = {}, set()
        for ifindex in self._pins.link_ifindexes():
            if self._alive(ifindex):
                known = self._modes.get(ifindex) or modes.get(ifindex)
                attached[ifindex] = Mode.GENERIC if known == Mode.GENERIC else Mode.NATIVE
            else:
                dead.add(ifindex)
        return attached, dead

    def attach(self, program: Program, name: str, ifindex: int, mode: Mode) -> None:
        """Raises AttachError, in words for the operator, when the device refuses."""
        try:
            link = self._lib.link_create(program.fd, ifindex, _MODE_FLAGS[mode])
        except DataplaneError as error:
            raise AttachError(self._why_refused(program, name, ifindex, mode, error), error.errno) from error
        try:
            self._lib.pin(link, str(self._pins.link(ifindex)))
        finally:
            os.close(link)
        self._modes[ifindex] = mode

    def detach(self, ifindex: int) -> None:
        """Also a link that has lost its device. Raises DataplaneError."""
        if self._alive(ifindex):
            with self._link(ifindex) as link:
                self._lib.link_detach(link)
        self._pins.link(ifindex).unlink()
        self._modes.pop(ifindex, None)

    def replace(self, program: Program) -> None:
        """Put this program in the place of any other, link by link: each packet meets the old one or the new one.
        Raises DataplaneError; then some links may have the new one."""
        for ifindex in self._pins.link_ifindexes():
            with self._link(ifindex) as link:
                device, running = self._lib.link_info(link)
                if device == ifindex and running != program.id:
                    self._update(link, program.fd)

    def programs(self) -> dict[int, int]:
        """ifindex -> id of the program, of each link that has a device."""
        out = {}
        for ifindex in self._pins.link_ifindexes():
            with self._link(ifindex) as link:
                device, running = self._lib.link_info(link)
                if device == ifindex:
                    out[ifindex] = running
        return out

    def hold(self) -> dict[int, int]:
        """ifindex -> fd of the program in the link, which keeps it loaded until `let_go`."""
        out: dict[int, int] = {}
        for ifindex, number in self.programs().items():
            try:
                out[ifindex] = self._lib.program_by_id(number)
            except DataplaneError:
                continue  # the link has just gone
        return out

    def put(self, ifindex: int, program_fd: int) -> None:
        """A program into one link."""
        if ifindex in self._pins.link_ifindexes():
            with self._link(ifindex) as link:
                self._update(link, program_fd)

    # --- inside ---------------------------------------------------------------------------------

    @contextmanager
    def _link(self, ifindex: int) -> Iterator[int]:
        """An fd of the pinned link, for the length of a with block."""
        fd = self._lib.get(str(self._pins.link(ifindex)))
        try:
            yield fd
        finally:
            os.close(fd)

    def _update(self, link: int, program_fd: int) -> None:
        try:
            self._lib.link_update(link, program_fd)
        except DataplaneError as error:
            if error.errno != errno.ENOLINK:  # the device has just gone
                raise

    def _alive(self, ifindex: int) -> bool:
        with self._link(ifindex) as link:
            return self._lib.link_info(link)[0] == ifindex

    def _why_refused(self, program: Program, name: str, ifindex: int, mode: Mode, error: DataplaneError) -> str:
        if error.errno in (errno.EBUSY, errno.EEXIST):  # EEXIST: it is there in the other mode
            return f"{name} already carries another XDP program, which was left alone: remove it, then attach again"
        reason = driver_reason(program.fd, ifindex, mode) or os.strerror(error.errno)
        advice = "; mode generic works on any device, slowly" if mode is Mode.NATIVE else ""
        return f"{name} refused the program in {mode} mode: {reason}{advice}"


def let_go(programs: dict[int, int]) -> None:
    """Of what `Attachments.hold` gave: empty afterwards."""
    for fd in programs.values():
        os.close(fd)
    programs.clear()


def driver_reason(program_fd: int, ifindex: int, mode: Mode) -> str:
    """The driver's own words. A bpf_link attach cannot carry them, the same attach over netlink can; should it
    succeed after all, it is undone."""
    flags = _MODE_FLAGS[mode]
    with NetlinkSocket() as sock:
        try:
            sock.request(RTM_SETLINK, set_xdp(ifindex, program_fd, flags | XDP_FLAGS_UPDATE_IF_NOEXIST))
        except NetlinkError as refused:
            return str(refused)
        sock.request(RTM_SETLINK, set_xdp(ifindex, -1, flags))
    return ""


def set_xdp(ifindex: int, program_fd: int, flags: int) -> bytes:
    """An RTM_SETLINK payload with IFLA_XDP."""
    nested = attribute(IFLA_XDP_FD, struct.pack("=i", program_fd))
    nested += attribute(IFLA_XDP_FLAGS, struct.pack("=I", flags))
    return struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0) + attribute(IFLA_XDP, nested)
