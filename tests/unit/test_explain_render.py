# SPDX-License-Identifier: GPL-2.0-only
"""An explanation as text."""

import dataclasses
import io

from rich.console import Console

from xdprouter import api
from xdprouter.explain.render import hexdump, print_explanation

LOOKUP = api.ExplainedLookup(0, "success", None, "right")
FORWARD = api.Explanation(
    schema=1,
    port=api.ExplainedPort("left", 2, "only port", "left", ""),
    packet=api.ExplainedPacket(
        "left",
        98,
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        0x800,
        [],
        "10.1.0.2",
        "10.2.0.2",
        17,
        7,
        9,
        0,
        64,
        84,
        None,
    ),
    cache=api.ExplainedCache("recalled", "", "destination", [0, 1], [], False),
    fib=LOOKUP,
    reverse_path=None,
    next_hop=api.ExplainedNextHop("10.2.0.2", "right", 3, "reachable", "02:00:00:00:00:04"),
    egress=api.ExplainedEgress("right", "right", 2, True, 1500, "02:00:00:00:00:03", "02:00:00:00:00:04", []),
    verdict="forward",
    meaning="rewritten and redirected",
    action="redirect",
    path="fast",
    reasons=[],
    kernel=api.KernelRoute("ip route get 10.2.0.2", "10.2.0.2 dev right", "", "10.2.0.0/24 dev right"),
    frame="000102030405060708090a0b0800",
    frame_after="f00102030405060708090a0b0800",
)


def text(**changes) -> list[str]:
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False, soft_wrap=True)
    print_explanation(dataclasses.asdict(dataclasses.replace(FORWARD, **changes)), console)
    return console.file.getvalue().splitlines()


def test_forward():
    assert text() == [
        "fast path  forward: rewritten and redirected",
        "came in on  left (ifindex 2): the only port",
        "packet      10.1.0.2 -> 10.2.0.2, UDP 7 -> 9, 84 bytes, TTL 64",
        "cache       recalled by destination on CPU 0, 1, as the FIB answers",
        "FIB         0: success, by right",
        "next hop    10.2.0.2 on right: reachable, 02:00:00:00:00:04",
        "leaves by   right, slot 2, MTU 1500, 02:00:00:00:00:03 -> 02:00:00:00:00:04",
        "verdict     forward: redirect",
        "kernel      ip route get 10.2.0.2",
        "            10.2.0.2 dev right",
        "            by the route 10.2.0.0/24 dev right",
        "frame before, 14 bytes",
        "  0000 *00 01 02 03 04 05 06 07 08 09 0a 0b 08 00",
        "frame after, 14 bytes; what changed is marked",
        "  0000 *f0 01 02 03 04 05 06 07 08 09 0a 0b 08 00",
    ]


def test_what_would_mend_it_is_one_line_to_type():
    remedy = "sysctl -w " + " ".join(f"net.ipv4.conf.a_rather_long_name{n}.rp_filter=0" for n in range(3))
    lines = text(
        path="slow", action="pass", frame_after=FORWARD.frame, reasons=[api.Reason("it is [so] :smile:", remedy)]
    )
    assert "why         it is [so] :smile:" in lines
    assert f"to mend     {remedy}" in lines
    assert lines[-2:] == ["frame, 14 bytes, untouched", "  0000  00 01 02 03 04 05 06 07 08 09 0a 0b 08 00"]


def test_what_was_not_asked():
    lines = text(cache=api.ExplainedCache("not asked", "", "destination", [], [], False), fib=None, egress=None)
    assert "FIB         not asked: the verdict falls before" in lines
    assert "cache       not asked: the verdict falls before" in lines


def test_a_cache_that_differs():
    assert any(
        "otherwise than the FIB" in line for line in text(cache=dataclasses.replace(FORWARD.cache, differs=True))
    )


def test_other_tags_make_a_frame_longer():
    """The datagram is where it was, seen from the end."""
    lines = text(frame="aa" * 12 + "0800" + "45", frame_after="aa" * 12 + "81000064" + "0800" + "45")
    after = lines[lines.index("frame after, 19 bytes; what changed is marked") + 1 :]
    assert after[-1].endswith(" 08 00 45") or after[-1].endswith(" 00 45")


def test_a_long_frame_is_cut_in_the_text():
    lines = hexdump(bytes(1500), bytes(1500))
    assert len(lines) == 6 and str(lines[-1]).strip() == "... 1420 bytes more, as they were"


def test_an_interface_that_a_port_carries():
    """Of a bridge it says which member, and why that one."""
    port = api.ExplainedPort("member1", 3, "given", "br0.40", "has learned the sender")
    packet = dataclasses.replace(FORWARD.packet, interface="br0.40", tags=["802.1Q 40"], vrf="red")
    egress = dataclasses.replace(FORWARD.egress, device="wan.100.5", port="wan", tags=["802.1ad 100", "802.1Q 5"])
    lines = text(port=port, packet=packet, egress=egress)
    assert lines[1] == "came in on  member1 (ifindex 3), for br0.40, where it has learned the sender, in VRF red"
    assert lines[2].startswith("packet      802.1Q 40, 10.1.0.2 -> 10.2.0.2")
    assert lines[6].startswith("leaves by   wan.100.5, by port wan, slot 2, MTU 1500, 802.1ad 100, 802.1Q 5, ")
    for member, words in (("active", ", an active member"), ("any", ", any member of it"), ("", "")):
        port = api.ExplainedPort("e0", 3, "given", "bond0", member)
        assert text(port=port)[1] == f"came in on  e0 (ifindex 3), for bond0{words}; it belongs to left"
