# SPDX-License-Identifier: GPL-2.0-only
"""bpf/router.c, compiled with one set of definitions: the XDP program in the kernel, and what else is in the file.

Several may be loaded at once. They share the pinned maps, and the maps of one value whose fds are among the
definitions (Memory.defines); so one can take another's place in a link (Attachments.replace) and go on with its
counters, interfaces and devmap.
"""

import os

from controlplane import compiler, libbpf
from controlplane.libbpf import Libbpf, XdpMd


class Program:
    """Compiles and loads. `definitions`: for the compiler, such as `-DCPUS=2`.

    Raises MissingDependency without BCC, DataplaneError when it does not compile or the kernel refuses it.
    """

    def __init__(self, lib: Libbpf, definitions: tuple[str, ...]):
        self._lib = lib
        self._fds: list[int] = []
        self._bcc = compiler.compiled("router.c", definitions)
        try:
            # Without the flag for frames of several buffers, no native attach above an MTU of about 3.5 kB.
            self.fd = self._load(
                libbpf.BPF_PROG_TYPE_XDP, "router", flags=libbpf.BPF_F_XDP_HAS_FRAGS, attach_type=libbpf.BPF_ATTACH_XDP
            )
        except BaseException:
            self.close()
            raise

    @property
    def tables(self):
        """BCC's tables, by name in bytes. They are closed with the program."""
        return self._bcc

    @property
    def id(self) -> int:
        """The kernel's number for the XDP program."""
        return self._lib.object_id(self.fd)

    def filter(self, name: str) -> int:
        """Load one of the file's socket filters: its fd, which is closed with the program."""
        return self._load(libbpf.BPF_PROG_TYPE_SOCKET_FILTER, name)

    def trace(self, name: str, tracepoint: str) -> None:
        """Load one of the file's tracepoint programs, and let it run at a raw tracepoint until `close`."""
        fd = self._load(libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, name)
        self._fds.append(self._lib.raw_tracepoint_open(tracepoint, fd))

    def run(self, frame: bytes, ifindex: int, repeat: int = 1) -> tuple[int, bytes]:
        """Run it on one frame as if that had come in on `ifindex`: (XDP action, frame after)."""
        return self._lib.run_on(self.fd, frame, XdpMd(data_end=len(frame), ingress_ifindex=ifindex), repeat)

    def close(self) -> None:
        """Let go of what was loaded; an XDP program in a pinned link goes on."""
        for fd in self._fds:
            os.close(fd)
        self._bcc.cleanup()

    def _load(self, kind: int, name: str, **options: int) -> int:
        fd = self._lib.load(kind, name, self._bcc.dump_func(name.encode()), **options)
        self._fds.append(fd)
        return fd
