# SPDX-License-Identifier: GPL-2.0-only
"""VLAN tags of received frames. The kernel takes the outer one out before it shows a frame to a packet socket, and tells
it beside the frame, to those who ask for PACKET_AUXDATA (packet(7))."""

import socket
import struct

SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
AUXDATA_SPACE = socket.CMSG_SPACE(20)
DOT1Q, DOT1AD = 0x8100, 0x88A8


def show(sock: socket.socket) -> None:
    """Let recvmsg with AUXDATA_SPACE tell the tags."""
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)


def with_tag(frame: bytes, control: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with its outer tag where it was on the wire; `control` is recvmsg's ancillary data."""
    for _, kind, data in control:
        if kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack_from("=IIIHHHH", data)
            if status & TP_STATUS_VLAN_VALID:
                protocol = tpid if status & TP_STATUS_VLAN_TPID_VALID else DOT1Q
                return frame[:12] + struct.pack("!HH", protocol, tci) + frame[12:]
    return frame
