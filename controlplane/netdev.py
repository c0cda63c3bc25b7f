# SPDX-License-Identifier: GPL-2.0-only
"""XDP abilities of devices, from the generic netlink family `netdev` (Linux 6.3 and later).

Layouts: include/uapi/linux/netdev.h and genetlink.h.
"""

import socket
import struct
import sys

from controlplane.errors import NetlinkError
from controlplane.netlink import HEADER, NetlinkSocket, attribute, attributes, objects

NETLINK_GENERIC = socket.NETLINK_GENERIC if hasattr(socket, "NETLINK_GENERIC") else 16

NDO_XMIT = 1 << 2
"""NETDEV_XDP_ACT_NDO_XMIT: other ports may redirect to this device."""
NDO_XMIT_SG = 1 << 6
"""NETDEV_XDP_ACT_NDO_XMIT_SG: also frames of several buffers."""

_GENL = struct.Struct("=BBH")  # struct genlmsghdr: command, version, reserved
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 0x10, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME, _CTRL_ATTR_MCAST_GROUPS = 1, 2, 7
_CTRL_ATTR_MCAST_GRP_NAME, _CTRL_ATTR_MCAST_GRP_ID = 1, 2
_NETDEV_CMD_DEV_GET = 1
_NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 3


class NetdevSocket:
    """Asks for XDP features and follows their changes. `available` is False on kernels without it."""

    def __init__(self):
        self.socket = NetlinkSocket(NETLINK_GENERIC)
        self._family = 0
        name = attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        try:
            (answer, *_) = self.socket.request(_GENL_ID_CTRL, _GENL.pack(_CTRL_CMD_GETFAMILY, 1, 0) + name)
        except NetlinkError:
            return
        found = dict(attributes(answer[HEADER.size + _GENL.size :]))
        (self._family,) = struct.unpack("=H", found[_CTRL_ATTR_FAMILY_ID])
        for _, group in attributes(found.get(_CTRL_ATTR_MCAST_GROUPS, b"")):
            fields = dict(attributes(group))
            if fields[_CTRL_ATTR_MCAST_GRP_NAME].rstrip(b"\0") == b"mgmt":
                self.socket.join(struct.unpack("=I", fields[_CTRL_ATTR_MCAST_GRP_ID])[0])

    @property
    def available(self) -> bool:
        return self._family != 0

    def dump(self) -> dict[int, int]:
        """ifindex -> feature bits of every device of the namespace, over a socket of its own so that
        the dump does not mix with the changes that `socket` receives."""
        with NetlinkSocket(NETLINK_GENERIC) as dump_socket:
            buffers = dump_socket.dump(self._family, _GENL.pack(_NETDEV_CMD_DEV_GET, 1, 0))
        return dict(entry for data in buffers for entry in self.parse(data))

    def parse(self, data: bytes) -> list[tuple[int, int]]:
        """(ifindex, features) of each device message in a buffer."""
        out = []
        for _, found in objects(data, _GENL, {self._family}):
            ifindex, features = found.get(_NETDEV_A_DEV_IFINDEX, b""), found.get(_NETDEV_A_DEV_XDP_FEATURES, b"")
            if len(ifindex) == 4 and len(features) == 8:
                out.append((int.from_bytes(ifindex, sys.byteorder), int.from_bytes(features, sys.byteorder)))
        return out
