# SPDX-License-Identifier: GPL-2.0-only
"""Which VLAN tags a device's hardware strips, before XDP could see them. By ioctl; layouts: include/uapi/linux/ethtool.h."""

import array
import fcntl
import socket
import struct
from collections.abc import Iterable

from controlplane.link import VLAN_8021AD, VLAN_8021Q

_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_FEATURE_STRINGS, _STRING_LEN = 4, 32  # ETH_SS_FEATURES, ETH_GSTRING_LEN
_STRIPPERS = {"rx-vlan-hw-parse": VLAN_8021Q, "rx-vlan-stag-hw-parse": VLAN_8021AD}


class Offloads:
    """In the network namespace in which it is made."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def close(self) -> None:
        self._socket.close()

    def stripping(self, names: Iterable[str]) -> dict[str, frozenset[int]]:
        """Device -> protocols of the tags it strips; devices that strip none, or do not tell, are left out."""
        found = {name: self._stripping(name) for name in names}
        return {name: protocols for name, protocols in found.items() if protocols}

    def _stripping(self, name: str) -> frozenset[int]:
        try:
            bits = self._bits(name)
            words = max(bits, default=0) // 32 + 1
            # struct ethtool_gfeatures: command, number of words, and each word: available, requested, active, fixed
            answer = self._ask(name, struct.pack("=II", _GFEATURES, words) + bytes(16 * words))
        except OSError:
            return frozenset()
        active = [struct.unpack_from("=I", answer, 8 + 16 * word + 8)[0] for word in range(words)]
        return frozenset(protocol for bit, protocol in bits.items() if active[bit // 32] >> bit % 32 & 1)

    def _bits(self, name: str) -> dict[int, int]:
        """Number of the feature -> protocol that it strips. The same for all devices, but the kernel wants to be asked
        for one."""
        if not _numbers:
            sset = self._ask(name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _FEATURE_STRINGS, 0))
            count = struct.unpack_from("=I", sset, 16)[0]
            request = struct.pack("=III", _GSTRINGS, _FEATURE_STRINGS, count) + bytes(_STRING_LEN * count)
            strings = self._ask(name, request)[12:]
            for number in range(count):
                text = strings[number * _STRING_LEN : (number + 1) * _STRING_LEN].split(b"\0")[0].decode()
                if text in _STRIPPERS:
                    _numbers[number] = _STRIPPERS[text]
        return _numbers

    def _ask(self, name: str, request: bytes) -> bytes:
        buffer = array.array("B", request)
        ifreq = struct.pack("16sP", name.encode()[:15], buffer.buffer_info()[0]).ljust(40, b"\0")
        fcntl.ioctl(self._socket, _SIOCETHTOOL, ifreq)
        return buffer.tobytes()


_numbers: dict[int, int] = {}
