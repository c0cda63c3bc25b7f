# SPDX-License-Identifier: GPL-2.0-only
"""Links: what is not IP, VLAN tags, devices above a port, neighbours nobody knows."""

from scapy.layers.l2 import ARP, LLC, Dot3, Ether

from tests import packets
from tests.conformance import rows
from tests.conformance.corpus.case import Case, both, case, out
from tests.conformance.topology import address, mac

_NOT_IP = [
    case(rows.NOT_IP, "arp request", packets.arp_request("10.0.0.1")),
    case(rows.NOT_IP, "arp request for another host", packets.arp_request("10.0.0.9")),
    case(rows.NOT_IP, "arp reply", packets.padded(
        Ether(dst=mac("in0"), src=packets.HOST_MAC) / ARP(op=2, hwsrc=packets.HOST_MAC, psrc="10.0.0.9", pdst="10.0.0.1"))),
    case(rows.NOT_IP, "lldp", packets.lldp()),
    case(rows.NOT_IP, "spanning tree", Dot3(dst="01:80:c2:00:00:00", src=packets.HOST_MAC) / LLC(dsap=66, ssap=66) / bytes(35)),
    *[case(rows.NOT_IP, f"ethertype {kind:#06x}", packets.other_ethertype(kind)) for kind in (0x0026, 0x8847, 0x8864, 0x88E5, 0x9000)],
]  # fmt: skip
_VLAN = [c for vid in (0, 1, 10, 4095) for c in both(
    rows.VLAN, f"vlan {vid}", lambda f, vid=vid: packets.vlan(packets.udp(out(f)), vid))]  # fmt: skip
_VLAN += [
    *both(rows.VLAN, "two tags", lambda f: packets.qinq(packets.udp(out(f)), 100, 10)),
    *both(rows.VLAN, "two priority tags", lambda f: packets.qinq(packets.udp(out(f)), 0, 0)),
    *both(rows.VLAN, "priority tag, hop 1", lambda f: packets.vlan(packets.with_ttl(out(f), 1), 0)),
    *both(rows.VLAN, "vlan 10 to the router", lambda f: packets.vlan(packets.ping("10.0.0.1" if f == 4 else "2001:db8::1"), 10)),
]  # fmt: skip
_UPPER = [
    *both(rows.UPPER_DEVICE, "to the macvlan", lambda f: packets.udp(out(f), dst_mac="02:00:00:00:00:cc")),
    *both(rows.UPPER_DEVICE, "to the macvlan's network", lambda f: packets.udp("10.0.60.9" if f == 4 else "2001:db8:0:60::9")),
    *both(rows.UPPER_DEVICE, "at the bridge's port", lambda f: packets.udp(
        out(f), src=address("in1", f, 9), dst_mac=mac("in1")), "in1"),
    *both(rows.UPPER_DEVICE, "at the bridge's port, hop 1", lambda f: packets.with_ttl(out(f), 1), "in1"),
    *both(rows.UPPER_DEVICE, "to behind the bridge", lambda f: packets.udp(address("in1", f, 9))),
    *both(rows.UPPER_DEVICE, "bridged past the router", lambda f: packets.udp(
        out(f), src=address("in1", f, 9), dst_mac=packets.OTHER_MAC), "in1"),
]  # fmt: skip
_NEIGHBOURS = [c for host in (90, 91, 92) for port in ("out0", "out1", "in1") for c in both(
    rows.NEIGHBOURS, f"to absent host {host} behind {port}",
    lambda f, host=host, port=port: packets.udp(address(port, f, host)))]  # fmt: skip
_NEIGHBOURS += [c for host in (2, 3, 4) for port in ("out0", "out1") for c in both(
    rows.NEIGHBOURS, f"to host {host} behind {port}",
    lambda f, host=host, port=port: packets.udp(address(port, f, host)))]  # fmt: skip

CASES: list[Case] = [*_NOT_IP, *_VLAN, *_UPPER, *_NEIGHBOURS]
