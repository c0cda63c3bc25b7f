# SPDX-License-Identifier: GPL-2.0-only
"""What the engine tells, as events for the outside."""

import socket

from controlplane import notices
from controlplane.notices import Notice
from xdprouter import events


def event_of(notice: Notice) -> events.Event:
    """Devices get the names that they have now, in the caller's network namespace."""
    match notice:
        case notices.PortChanged(port, state, reason, before):
            return events.Port(port, str(state), reason, before and str(before))
        case notices.PortForgotten(port):
            return events.PortRemoved(port)
        case notices.DeviceChanged(port, what, before, now):
            return events.Device(port, what, before, now)
        case notices.FindingCame(finding):
            return events.Guard(True, finding.device, finding.text)
        case notices.FindingGone(finding):
            return events.Guard(False, finding.device, finding.text)
        case notices.NeighbourChanged(hop, change, state, managed, lladdr, lladdr_before):
            return events.Neighbour(
                change=str(change),
                device=_device(hop.ifindex),
                ifindex=hop.ifindex,
                address=str(hop),
                state=state,
                managed=managed,
                mac=lladdr or None,
                mac_before=lladdr_before or None,
            )
        case notices.NeighboursOmitted(number):
            return events.Omitted(events.Neighbour.KIND, number)
        case notices.NetlinkLost(overruns, resyncs):
            return events.Netlink(overruns, resyncs)
        case notices.RouteChurn(rates, changes, lasted_s):
            by_protocol = {
                name: events.Rate(round(rate.added, 1), round(rate.deleted, 1)) for name, rate in sorted(rates.items())
            }
            return events.Routes(by_protocol, changes, round(lasted_s, 1))
        case notices.CacheGranted():
            return events.Cache(True, "")
        case notices.CacheWithdrawn(reason):
            return events.Cache(False, reason)
        case notices.ProgramSwapped(program_id, before):
            return events.Program(program_id, before)
        case notices.SyncChanged(reasons):
            return events.Sync(not reasons, list(reasons))


def _device(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"#{ifindex}"
