# SPDX-License-Identifier: GPL-2.0-only
"""A device's own counters, as `ip -s link` shows them: struct rtnl_link_stats64 by RTM_GETSTATS."""

import struct
from dataclasses import dataclass

from controlplane.errors import NetlinkError
from controlplane.netlink import NetlinkSocket, objects

RTM_NEWSTATS, RTM_GETSTATS = 92, 94
IFLA_STATS_LINK_64 = 1
_FILTER_LINK_64 = 1 << (IFLA_STATS_LINK_64 - 1)
_MESSAGE = struct.Struct("=BBHII")  # struct if_stats_msg: family, pad, pad, ifindex, filter_mask
_COUNTERS = struct.Struct("=8Q")  # the first of struct rtnl_link_stats64; what follows are details of the errors


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Since the device exists, in packets and bytes. What they include is the driver's choice: accounting.py."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0


class LinkStatsReader:
    """Asks by ifindex, in the network namespace of the first question."""

    def __init__(self) -> None:
        self._socket: NetlinkSocket | None = None

    def read(self, ifindex: int) -> LinkStats | None:
        """None: the kernel knows no such device (any more)."""
        if self._socket is None:
            self._socket = NetlinkSocket()
        try:
            answer = self._socket.request(RTM_GETSTATS, _MESSAGE.pack(0, 0, 0, ifindex, _FILTER_LINK_64))
        except NetlinkError:
            return None
        for data in answer:
            for _, found in objects(data, _MESSAGE, (RTM_NEWSTATS,)):
                if len(counters := found.get(IFLA_STATS_LINK_64, b"")) >= _COUNTERS.size:
                    return LinkStats(*_COUNTERS.unpack_from(counters))
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
