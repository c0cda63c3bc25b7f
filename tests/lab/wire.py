"""What is on the wire: AF_PACKET sockets in a lab's namespaces, the kernel's own counters, and streams."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import namespace
from lab.lab import Lab
from tests import vlan_tag

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33


class Wire:
    """Frames in and out of one device of a namespace, with their VLAN tags. A context manager."""

    def __init__(self, ns: str, device: str):
        with namespace.entered(ns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        vlan_tag.show(self._socket)
        self._socket.bind((device, ETH_P_ALL))

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def frames(self, timeout_s: float) -> Iterator[bytes]:
        """Frames as they come in, until none has come for `timeout_s`."""
        self._socket.settimeout(timeout_s)
        while True:
            try:
                yield self._receive()
            except TimeoutError:
                return

    def forget(self) -> None:
        """What has come in so far: a stream fills the buffer within a minute, and then nothing more gets in."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1):
                pass
        except BlockingIOError:
            pass

    def _receive(self) -> bytes:
        frame, control, _, _ = self._socket.recvmsg(65535, vlan_tag.AUXDATA_SPACE)
        return vlan_tag.with_tag(frame, control)

    def expect(self, wanted: int, matches, timeout_s: float = 30.0) -> list[bytes]:
        """The first `wanted` frames for which `matches(frame)` holds; fewer when the time is up."""
        found: list[bytes] = []
        deadline = time.monotonic() + timeout_s
        while len(found) < wanted and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame = self._receive()
            except TimeoutError:
                break
            if matches(frame):
                found.append(frame)
        return found


def mac(ns: str, device: str) -> str:
    with namespace.entered(ns):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        sock.bind((device, 0))
        return ":".join(f"{byte:02x}" for byte in sock.getsockname()[4])


def kernel_forwarded(ns: str) -> int:
    """Packets that the kernel itself forwarded in a namespace, both families."""
    v4 = snmp(ns)["Ip"]["ForwDatagrams"]
    with namespace.entered(ns):
        v6 = next(
            line for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines() if "OutForwDatagrams" in line
        )
    return v4 + int(v6.split()[1])


def snmp(ns: str) -> dict[str, dict[str, int]]:
    """/proc/net/snmp of a namespace: protocol -> counter -> value."""
    with namespace.entered(ns):
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    tables = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, _, keys = names.partition(":")
        tables[protocol] = dict(zip(keys.split(), map(int, values.split()[1:]), strict=True))
    return tables


class Stream:
    """UDP from one host to another; `stop` says what was sent and what the receiver's kernel took in."""

    PORT = 5001
    LATE_S = 3.0

    def __init__(self, lab: Lab, source: str, target: str, address: str, rate: float):
        self._ns = lab.ns(target)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespace.entered(self._ns):
            self._sink = socket.socket(family, socket.SOCK_DGRAM)
        self._sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 512 << 20)
        self._sink.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", self.PORT))
        self._process = lab.popen(
            source,
            [sys.executable, "-m", "tests.lab.traffic", address, str(self.PORT), str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "sending\n"
        self.sent = 0
        self.numbers: set[int] = set()

    def arrived(self) -> int:
        """Datagrams that have arrived so far."""
        self._sink.setblocking(False)
        while True:
            try:
                self.numbers.add(int.from_bytes(self._sink.recv(64), "big"))
            except BlockingIOError:
                return len(self.numbers)

    def stop(self) -> int:
        """End the sender; returns how many of its datagrams did not arrive within LATE_S of the last one."""
        out, _ = self._process.communicate(timeout=30)
        self.sent, refused = map(int, out.split())
        assert refused == 0, f"the sender's own kernel refused {refused} datagrams"
        self._sink.settimeout(self.LATE_S)
        while len(self.numbers) < self.sent:
            try:
                self.numbers.add(int.from_bytes(self._sink.recv(64), "big"))
            except TimeoutError:
                break
        return self.sent - len(self.numbers)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._sink.close()


@contextmanager
def stream(lab: Lab, source: str, target: str, address: str, rate: float) -> Iterator[Stream]:
    flow = Stream(lab, source, target, address, rate)
    try:
        yield flow
    finally:
        flow.close()
