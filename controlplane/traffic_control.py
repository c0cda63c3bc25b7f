# SPDX-License-Identifier: GPL-2.0-only
"""tc on the ports: qdiscs that police or shape, filters, and tcx programs.

Layouts: include/uapi/linux/rtnetlink.h and pkt_sched.h. tcx programs have no events.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.bpf_query import TCX_EGRESS, TCX_INGRESS, attached_programs
from controlplane.errors import NetlinkError
from controlplane.finding import Finding, and_more
from controlplane.netlink import NetlinkSocket, attributes, objects

RTM_NEWQDISC, RTM_GETQDISC, RTM_NEWTFILTER, RTM_GETTFILTER = 36, 38, 44, 46
_TCMSG = struct.Struct("=BBHiIII")  # family, pad, pad, ifindex, handle, parent, info
_KIND, _OPTIONS = 1, 2
_DEFAULT_QDISCS = {"noqueue", "noop", "mq", "pfifo_fast", "fq", "fq_codel"}
_CLASSIFYING_DEFAULTS = {"fq_codel"}
"""Of these, the ones that take filters."""
_FQ_FLOW_MAX_RATE, _UNLIMITED = 7, 0xFFFFFFFF
_ROOT = 0xFFFFFFFF
_CLSACT_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}  # TC_H_CLSACT with TC_H_MIN_INGRESS, _EGRESS


@dataclass(frozen=True, slots=True)
class Qdisc:
    ifindex: int
    handle: int
    parent: int
    kind: str
    shapes: bool
    """Not one of the kernel's defaults, or one that was given a rate"""


def examine(devices: Mapping[str, int]) -> list[Finding]:
    """Findings in the caller's network namespace. Raises NetlinkError or OSError when the kernel does not tell."""
    names = {ifindex: name for name, ifindex in devices.items()}
    out = []
    with NetlinkSocket() as sock:
        request = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)
        qdiscs = [found for data in sock.dump(RTM_GETQDISC, request) for found in qdiscs_of(data, names)]
        for qdisc in qdiscs:
            name = names[qdisc.ifindex]
            if qdisc.shapes:
                out.append(Finding(name, f"tc: qdisc {qdisc.kind} on {name}"))
            for place, parent in _filter_parents(qdisc):
                filters = _filters(sock, qdisc.ifindex, parent)
                if filters:
                    more = and_more(len(set(filters)) - 1).replace("rule", "filter")
                    out.append(Finding(name, f"tc: {filters[0][1]} filter on {name} {place}{more}"))
    for name, ifindex in devices.items():
        for place, attach_type in (("ingress", TCX_INGRESS), ("egress", TCX_EGRESS)):
            if number := attached_programs(ifindex, attach_type):
                more = and_more(number - 1).replace("rule", "program")
                out.append(Finding(name, f"tc: tcx program on {name} {place}{more}"))
    return list(dict.fromkeys(out))


def qdiscs_of(data: bytes, ifindexes: Mapping[int, object]) -> Iterator[Qdisc]:
    """The qdiscs of some devices in a buffer."""
    for (_, _, _, ifindex, handle, parent, _), row in objects(data, _TCMSG, {RTM_NEWQDISC}):
        if ifindex in ifindexes:
            name = row.get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
            yield Qdisc(ifindex, handle, parent, name, shapes(name, row.get(_OPTIONS, b"")))


def shapes(kind: str, options: bytes) -> bool:
    """Whether a qdisc does more than the defaults do. clsact and ingress only hold filters."""
    if kind in ("clsact", "ingress"):
        return False
    if kind == "fq":
        rate = dict(attributes(options)).get(_FQ_FLOW_MAX_RATE)
        return rate is not None and struct.unpack("=I", rate)[0] != _UNLIMITED
    return kind not in _DEFAULT_QDISCS


def filters_of(data: bytes) -> Iterator[tuple[int, str]]:
    """(preference and protocol, kind) of each filter in a buffer; one filter can come in several messages."""
    for (*_, info), row in objects(data, _TCMSG, {RTM_NEWTFILTER}):
        yield info, row.get(_KIND, b"").rstrip(b"\0").decode(errors="replace") or "unknown"


def _filter_parents(qdisc: Qdisc) -> Iterator[tuple[str, int]]:
    """Where to ask for filters: nowhere for a qdisc that counts already, or that takes none."""
    if qdisc.kind in ("clsact", "ingress"):
        yield "ingress", _CLSACT_PARENTS["ingress"]
    if qdisc.kind == "clsact":
        yield "egress", _CLSACT_PARENTS["egress"]
    if qdisc.kind in _CLASSIFYING_DEFAULTS and (qdisc.handle or qdisc.parent == _ROOT):
        yield f"qdisc {qdisc.kind}", qdisc.handle


def _filters(sock: NetlinkSocket, ifindex: int, parent: int) -> list[tuple[int, str]]:
    request = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, ifindex, 0, parent, 0)
    try:
        return [found for data in sock.dump(RTM_GETTFILTER, request) for found in filters_of(data)]
    except NetlinkError as error:
        if error.errno == errno.ENODEV:  # it has just gone
            return []
        raise
