"""Packets from h1 through r1 of `two_hosts`, and what became of them: the verdicts counted, the frames on the wire."""

import itertools
import socket
import struct
from collections import Counter

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from lab import namespace, network
from lab.wait import wait_until
from tests.lab.conftest import Router
from tests.lab.wire import Wire, mac

PACKETS = 5
PORT = 9
TRUTH_S = 30.0
"""Bound of every wait, generous; what the kernel does not announce is found by the second."""
H1 = {4: "10.1.0.2", 6: "fd01::2"}
H2 = {4: "10.2.0.2", 6: "fd02::2"}
_TAG = struct.Struct("!4sI")
_COUNTED_LATE = {"pass_not_ip", "pass_multicast", "pass_icmp", "pass_local_or_no_route"}
"""Verdicts of the hosts' own ARP and neighbour discovery, which may come at any time"""


class Probe:
    """A context manager. Packets are UDP, each with a tag of its own at its end."""

    def __init__(self, lab, r1: Router):
        self.lab, self.r1 = lab, r1
        self._numbers = itertools.count(1)
        for family, address in H2.items():
            done = lab.exec("h1", ["ping", f"-{family}", "-c", "1", "-w", "20", address])
            assert done.returncode == 0, done.stdout + done.stderr
        self._left = mac(lab.ns("r1"), "left")
        self._h1 = mac(lab.ns("h1"), "eth0")
        self._forwarded_macs = bytes.fromhex(
            (mac(lab.ns("h2"), "eth0") + mac(lab.ns("r1"), "right")).replace(":", ""),
        )

    def __enter__(self) -> "Probe":
        # Somebody must listen, or h2 says that nobody does.
        with namespace.entered(self.lab.ns("h2")):
            self._sink = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._sink.bind(("::", PORT))
        self.h1, self.h2 = Wire(self.lab.ns("h1"), "eth0"), Wire(self.lab.ns("h2"), "eth0")
        return self

    def __exit__(self, *_) -> None:
        self._sink.close()
        self.h1.__exit__()
        self.h2.__exit__()

    def ip(self, line: str, check: bool = True) -> None:
        """An `ip` command on r1."""
        done = self.lab.exec("r1", ["ip", *line.split()])
        assert not check or done.returncode == 0, done.stderr

    def sysctl(self, name: str, value: int) -> None:
        network.write_sysctls(self.lab.ns("r1"), {name: str(value)})

    def packet(self, src: str = "", dst: str = "", size: int = 100, flags: str = "") -> Packet:
        """From h1 to h2 unless `src` and `dst` say otherwise; `size` with the IP header. IPv4 may be fragmented
        unless `flags` has DF."""
        family = 6 if ":" in src + dst else 4
        src, dst = src or H1[family], dst or H2[family]
        number = next(self._numbers)
        head = IP(src=src, dst=dst, id=number & 0xFFFF, flags=flags) if family == 4 else IPv6(src=src, dst=dst)
        body = bytes(size - len(head) - 8 - _TAG.size) + _TAG.pack(b"tag:", number)
        return Ether(src=self._h1, dst=self._left) / head / UDP(sport=4000, dport=PORT) / Raw(body)

    def verdicts(self, **fields) -> Counter:
        """What PACKETS packets made r1's port left count."""
        before = self._ingress()
        for _ in range(PACKETS):
            self.h1.send(bytes(self.packet(**fields)))

        def counted() -> Counter:
            rise = self._ingress() - before
            return rise if rise.total() >= PACKETS else Counter()

        return wait_until(counted, TRUTH_S, "the packets to be counted")

    def becomes(self, verdict: str, **fields) -> None:
        """Such packets get this verdict, all of them, within TRUTH_S."""
        last: list[Counter] = [Counter()]

        def all_so() -> bool:
            last[0] = self.verdicts(**fields)
            return last[0] == {verdict: PACKETS}

        try:
            wait_until(all_so, TRUTH_S, f"{fields} to be {verdict}")
        except Exception as error:
            raise AssertionError(f"{error}; the last ones: {dict(last[0])}") from error

    def arrives(self, **fields) -> bytes:
        """One packet arrives at h2 as a router must send it; returned as it arrived."""
        sent = self.packet(**fields)
        self.h1.send(bytes(sent))
        tag = bytes(sent)[-_TAG.size :]
        found = self.h2.expect(1, lambda frame: frame.endswith(tag))
        assert found, f"{sent.summary()} did not arrive"
        arrived, again = found[0], sent.copy()
        if IP in again:
            again[IP].ttl -= 1
            del again[IP].chksum
        else:
            again[IPv6].hlim -= 1
        assert arrived == self._forwarded_macs + bytes(again)[12:]
        return arrived

    def vanishes(self, marker: dict | None = None, **fields) -> None:
        """None of PACKETS packets arrives at h2; known when one sent after them, as `marker` says, does."""
        lost = [self.packet(**fields) for _ in range(PACKETS)]
        for sent in lost:
            self.h1.send(bytes(sent))
        last = self.packet(**(marker or {}))
        self.h1.send(bytes(last))
        tags = {bytes(sent)[-_TAG.size :] for sent in lost}
        for frame in self.h2.frames(TRUTH_S):
            assert frame[-_TAG.size :] not in tags
            if frame.endswith(bytes(last)[-_TAG.size :]):
                return
        raise AssertionError("not even the packet behind them arrived")

    def _ingress(self) -> Counter:
        ingress = self.r1.port("left")["ingress"]
        return Counter({name: traffic["packets"] for name, traffic in ingress.items() if name not in _COUNTED_LATE})
