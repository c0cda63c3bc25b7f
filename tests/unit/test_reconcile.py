# SPDX-License-Identifier: GPL-2.0-only
"""reconcile: what is wished, what is there, and the operations between the two, in their order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.interface import Interface, InterfaceFlag
from controlplane.link import Link
from controlplane.netdev import NDO_XMIT, NDO_XMIT_SG
from controlplane.reconcile import (
    Actual,
    Attach,
    Desired,
    Detach,
    DropInterface,
    Mode,
    SetInterface,
    StopTransmit,
    Transmit,
    plan,
    reconcile,
    transmit_refusal,
)
from controlplane.refusal import SWITCHED_BY_UPPER, cannot_be_port
from controlplane.settings import PortSettings, Settings

NATIVE, GENERIC = Mode.NATIVE, Mode.GENERIC
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
LEFT = Link(ifindex=5, name="left", mac=A, mtu=1500, up=True, carrier=True, kind="veth")
RIGHT = Link(ifindex=6, name="right", mac=B, mtu=1500, up=True, carrier=True, kind="veth")
SLOTS = {"left": 1, "right": 2}
TAKES_ALL = {5: NDO_XMIT | NDO_XMIT_SG, 6: NDO_XMIT | NDO_XMIT_SG}
SG = InterfaceFlag.TX_MULTI_BUFFER
SETTINGS = Settings(
    ipv6_forwarding=True, hash_policy4=1, hash_policy6=1, rules6_by_protocol=False, rules6_suppress=False,
    ports={name: PortSettings(reverse_path=0, ipv6_mtu=9000) for name in ("left", "right", "spare")},
)  # fmt: skip
"""Of which no flag follows"""
LEFT_ENTRY, RIGHT_ENTRY = Interface(1, 1500, A, SG, 1500), Interface(2, 1500, B, SG, 1500)


def wish(*links: Link, ports=("left", "right"), mode=NATIVE, features=TAKES_ALL, slots=SLOTS, **more) -> Desired:
    return Desired(
        ports={name: mode for name in ports},
        slots=slots,
        links={link.name: link for link in links},
        features=features,
        **{"settings": SETTINGS, **more},
    )


def settled() -> Actual:
    """left and right, both forwarding."""
    return Actual(
        attached={5: NATIVE, 6: NATIVE},
        interfaces={5: LEFT_ENTRY, 6: RIGHT_ENTRY},
        transmitting={1: 5, 2: 6},
    )


CASES = {
    "new ports are known, then attached, then redirected to": (
        wish(LEFT, RIGHT),
        Actual(),
        [
            SetInterface(5, LEFT_ENTRY),
            SetInterface(6, RIGHT_ENTRY),
            Attach("left", 5, NATIVE),
            Attach("right", 6, NATIVE),
            Transmit(1, 5),
            Transmit(2, 6),
        ],
    ),
    "what is true stays": (wish(LEFT, RIGHT), settled(), []),
    "nothing wished, nothing there": (wish(ports=()), Actual(), []),
    "a port whose device is absent is waited for": (
        wish(LEFT),
        Actual(),
        [
            SetInterface(5, LEFT_ENTRY),
            Attach("left", 5, NATIVE),
            Transmit(1, 5),
        ],
    ),
    "a device that is no port is left alone": (
        wish(LEFT, RIGHT, replace(RIGHT, ifindex=9, name="mgmt")),
        settled(),
        [],
    ),
    "a port that is wished no more": (
        wish(LEFT, RIGHT, ports=("left",)),
        settled(),
        [StopTransmit(2), Detach(6), DropInterface(6)],
    ),
    "a device that is gone: its link is dead": (
        wish(LEFT),
        replace(settled(), attached={5: NATIVE}, dead={6}),
        [StopTransmit(2), Detach(6), DropInterface(6)],
    ),
    "a device that is gone, and took its devmap entry along": (
        wish(LEFT),
        replace(settled(), attached={5: NATIVE}, dead={6}, transmitting={1: 5}),
        [Detach(6), DropInterface(6)],
    ),
    "a device renamed away is a port no longer": (
        wish(LEFT, replace(RIGHT, name="other")),
        settled(),
        [StopTransmit(2), Detach(6), DropInterface(6)],
    ),
    "a device renamed to another port's name stays attached, under that port's slot": (
        wish(LEFT, replace(RIGHT, name="spare"), ports=("left", "spare"), slots={"left": 1, "right": 2, "spare": 3}),
        settled(),
        [StopTransmit(2), SetInterface(6, replace(RIGHT_ENTRY, slot=3)), Transmit(3, 6)],
    ),
    "two devices that swap their names swap their slots": (
        wish(replace(LEFT, name="right"), replace(RIGHT, name="left")),
        settled(),
        [
            StopTransmit(1),
            StopTransmit(2),
            SetInterface(6, replace(RIGHT_ENTRY, slot=1)),
            SetInterface(5, replace(LEFT_ENTRY, slot=2)),
            Transmit(1, 6),
            Transmit(2, 5),
        ],
    ),
    "a device re-created under another ifindex gets the port's slot": (
        wish(LEFT, replace(RIGHT, ifindex=7), features=TAKES_ALL | {7: NDO_XMIT | NDO_XMIT_SG}),
        replace(settled(), attached={5: NATIVE}, dead={6}),
        [
            StopTransmit(2),
            Detach(6),
            DropInterface(6),
            SetInterface(7, RIGHT_ENTRY),
            Attach("right", 7, NATIVE),
            Transmit(2, 7),
        ],
    ),
    "a device re-created under the same ifindex": (
        wish(LEFT, RIGHT),
        replace(settled(), attached={5: NATIVE}, dead={6}),
        [Detach(6), Attach("right", 6, NATIVE)],
    ),
    "a port that is down stays attached, but nothing is redirected to it": (
        wish(LEFT, replace(RIGHT, up=False, carrier=False)),
        settled(),
        [StopTransmit(2)],
    ),
    "no carrier": (wish(LEFT, replace(RIGHT, carrier=False)), settled(), [StopTransmit(2)]),
    "a port that is up again": (wish(LEFT, RIGHT), replace(settled(), transmitting={1: 5}), [Transmit(2, 6)]),
    "a port that is new and down": (
        wish(LEFT, replace(RIGHT, up=False)),
        Actual(attached={5: NATIVE}, interfaces={5: LEFT_ENTRY}, transmitting={1: 5}),
        [SetInterface(6, RIGHT_ENTRY), Attach("right", 6, NATIVE)],
    ),
    "another MTU": (
        wish(LEFT, replace(RIGHT, mtu=9000)),
        settled(),
        [SetInterface(6, replace(RIGHT_ENTRY, mtu=9000, ipv6_mtu=9000))],
    ),
    "another MAC": (wish(LEFT, replace(RIGHT, mac=A)), settled(), [SetInterface(6, replace(RIGHT_ENTRY, mac=A))]),
    "another mode: off, then on": (
        wish(LEFT, RIGHT, mode=GENERIC),
        settled(),
        [Detach(5), Detach(6), Attach("left", 5, GENERIC), Attach("right", 6, GENERIC)],
    ),
    "a device that can no longer transmit": (
        wish(LEFT, RIGHT, features={5: TAKES_ALL[5], 6: 0}),
        settled(),
        [StopTransmit(2), SetInterface(6, replace(RIGHT_ENTRY, flags=0))],
    ),
    "a device whose features are not known yet": (
        wish(LEFT, RIGHT, features={5: TAKES_ALL[5]}),
        replace(settled(), interfaces={5: LEFT_ENTRY, 6: replace(RIGHT_ENTRY, flags=0)}),
        [StopTransmit(2)],
    ),
    "a kernel that tells no features: trusted to transmit, but not several buffers": (
        wish(LEFT, RIGHT, features=None),
        settled(),
        [
            SetInterface(5, replace(LEFT_ENTRY, flags=0)),
            SetInterface(6, replace(RIGHT_ENTRY, flags=0)),
        ],
    ),
    "a port enslaved to a bridge is a port no longer": (
        wish(LEFT, replace(RIGHT, upper_kind="bridge")),
        settled(),
        [StopTransmit(2), Detach(6), DropInterface(6)],
    ),
    "a port enslaved to a VRF still is one": (wish(LEFT, replace(RIGHT, upper_kind="vrf")), settled(), []),
    "entries that an earlier process left behind": (
        wish(LEFT, RIGHT),
        Actual(
            attached={5: NATIVE, 6: NATIVE, 8: GENERIC},
            dead={9},
            interfaces={5: LEFT_ENTRY, 6: RIGHT_ENTRY, 8: Interface(3, 1500, A)},
            transmitting={1: 5, 2: 6, 3: 8},
        ),
        [StopTransmit(3), Detach(9), Detach(8), DropInterface(8)],
    ),
    "a devmap slot that points elsewhere": (
        wish(LEFT, RIGHT),
        replace(settled(), transmitting={1: 6, 2: 6}),
        [StopTransmit(1), Transmit(1, 5)],
    ),
}


@pytest.mark.parametrize(("desired", "actual", "operations"), CASES.values(), ids=CASES.keys())
def test_operations(desired, actual, operations):
    assert reconcile(desired, actual) == operations


@pytest.mark.parametrize("upper", sorted(SWITCHED_BY_UPPER))
def test_a_device_whose_frames_belong_to_its_upper_is_refused(upper):
    assert upper in plan(wish(replace(LEFT, upper_kind=upper))).stack.refused["left"]


def test_what_is_no_ethernet_device_is_refused():
    for link in (
        replace(LEFT, mac=""),
        replace(LEFT, mac="0a:00:00:01"),
        replace(LEFT, name="lo", mac="00:00:00:00:00:00"),
    ):
        assert cannot_be_port(link, None, []) == "not an Ethernet device"
    assert cannot_be_port(LEFT, None, []) == cannot_be_port(replace(LEFT, upper_kind="vrf"), None, []) == ""


def test_a_device_is_refused_when_one_on_top_of_it_may_take_its_frames():
    upper = replace(RIGHT, name="upper", kind="macvlan", lower=LEFT.ifindex, takes_frames=True)
    assert "upper (macvlan)" in cannot_be_port(LEFT, None, [upper])
    assert cannot_be_port(LEFT, None, [replace(upper, takes_frames=False)]) == ""


def test_a_guarded_port_stays_attached_and_nothing_is_redirected_to_it():
    desired = wish(LEFT, RIGHT, guarded={"right": "chain forward"})
    entry = replace(RIGHT_ENTRY, flags=SG | InterfaceFlag.GUARDED)
    assert reconcile(desired, settled()) == [StopTransmit(2), SetInterface(6, entry)]
    assert transmit_refusal(RIGHT, desired, plan(desired).stack) == "chain forward"
    guarded = Actual({5: NATIVE, 6: NATIVE}, set(), {5: LEFT_ENTRY, 6: entry}, {1: 5})
    assert reconcile(wish(LEFT, RIGHT), guarded) == [SetInterface(6, RIGHT_ENTRY), Transmit(2, 6)]


def test_why_nothing_is_redirected_to_a_device():
    def why(link: Link, features=TAKES_ALL) -> str:
        desired = wish(link, features=features)
        return transmit_refusal(link, desired, plan(desired).stack)

    assert why(LEFT) == why(LEFT, None) == ""
    assert why(replace(LEFT, up=False, carrier=False)) == "administratively down"
    assert why(replace(LEFT, carrier=False)) == "no carrier"
    assert "no ndo_xdp_xmit" in why(LEFT, {}) and "gro" in why(LEFT, {})
    assert "no ndo_xdp_xmit" in why(replace(LEFT, kind=""), {}) and "gro" not in why(replace(LEFT, kind=""), {})


# --- whatever is wished, whatever is there ----------------------------------------------------------


class Kernel:
    """What the operations do, as the kernel would; each refuses what the kernel would refuse."""

    def __init__(self, actual: Actual):
        self.attached = dict(actual.attached)
        self.dead = set(actual.dead)
        self.interfaces = dict(actual.interfaces)
        self.transmitting = dict(actual.transmitting)

    def apply(self, operation) -> None:
        match operation:
            case Detach(ifindex):
                assert ifindex in self.attached or ifindex in self.dead
                self.attached.pop(ifindex, None)
                self.dead.discard(ifindex)
            case DropInterface(ifindex):
                del self.interfaces[ifindex]
            case StopTransmit(slot):
                del self.transmitting[slot]
            case SetInterface(ifindex, interface):
                self.interfaces[ifindex] = interface
            case Attach(_, ifindex, mode):
                assert ifindex not in self.attached and ifindex not in self.dead, "the pin's name is taken"
                assert ifindex in self.interfaces, "its packets would be from an unknown port"
                self.attached[ifindex] = mode
            case Transmit(slot, ifindex):
                assert slot not in self.transmitting, "a slot changes hands without a stop"
                assert self.interfaces[ifindex].slot == slot
                assert ifindex in self.attached
                self.transmitting[slot] = ifindex

    def actual(self) -> Actual:
        return Actual(self.attached, self.dead, self.interfaces, self.transmitting)


_NAMES = ("a", "b", "c", "d", "lo")
_IFINDEXES = st.integers(1, 6)
_MODES = st.sampled_from(Mode)
_MACS = st.sampled_from([A, B, ""])
_MTUS = st.sampled_from([1280, 1500, 9000])


@st.composite
def wishes(draw) -> Desired:
    ports = draw(st.dictionaries(st.sampled_from(_NAMES), _MODES))
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True))
    ifindexes = draw(st.lists(_IFINDEXES, min_size=len(names), max_size=len(names), unique=True))
    links = {
        name: Link(
            ifindex=ifindex,
            name=name,
            mac=draw(_MACS),
            mtu=draw(_MTUS),
            up=draw(st.booleans()),
            carrier=draw(st.booleans()),
            upper_kind=draw(st.sampled_from(["", "vrf", "bridge"])),
        )
        for name, ifindex in zip(names, ifindexes, strict=True)
    }
    slots = dict(zip(_NAMES, draw(st.permutations(range(1, 1 + len(_NAMES)))), strict=True))
    bits = st.integers(0, (NDO_XMIT | NDO_XMIT_SG) * 2 - 1)
    features = draw(st.one_of(st.none(), st.dictionaries(_IFINDEXES, bits)))
    guarded = dict.fromkeys(draw(st.sets(st.sampled_from(_NAMES))), "a rule")
    return Desired(ports, slots, links, features, guarded=guarded)


@st.composite
def kernels(draw) -> Actual:
    attached = draw(st.dictionaries(_IFINDEXES, _MODES))
    entries = st.builds(Interface, slot=st.integers(1, 6), mtu=_MTUS, mac=_MACS, flags=st.integers(0, 1))
    return Actual(
        attached=attached,
        dead=draw(st.sets(_IFINDEXES)) - attached.keys(),
        interfaces=draw(st.dictionaries(_IFINDEXES, entries)),
        transmitting=draw(st.dictionaries(st.integers(1, 6), _IFINDEXES)),
    )


_ORDER = (StopTransmit, Detach, DropInterface, SetInterface, Attach, Transmit)


@given(wishes(), kernels())
def test_the_operations_lead_to_what_is_wished_and_there_they_end(desired, actual):
    kernel = Kernel(actual)
    operations = reconcile(desired, actual)
    for operation in operations:
        kernel.apply(operation)

    assert reconcile(desired, kernel.actual()) == []
    ports = {
        link.ifindex: name
        for name, link in desired.links.items()
        if name in desired.ports and link.mac and name != "lo" and link.upper_kind != "bridge"
    }
    assert kernel.attached == {ifindex: desired.ports[name] for ifindex, name in ports.items()}
    assert kernel.dead == set()
    assert {i: (e.slot, e.mtu, e.mac) for i, e in kernel.interfaces.items()} == {
        i: (desired.slots[name], desired.links[name].mtu, desired.links[name].mac) for i, name in ports.items()
    }
    assert kernel.transmitting == {
        desired.slots[name]: ifindex
        for ifindex, name in ports.items()
        if name not in desired.guarded
        and desired.links[name].up
        and desired.links[name].carrier
        and (desired.features is None or desired.features.get(ifindex, 0) & NDO_XMIT)
    }


@given(wishes(), kernels())
def test_what_must_no_longer_happen_comes_first(desired, actual):
    kinds = [_ORDER.index(type(operation)) for operation in reconcile(desired, actual)]
    assert kinds == sorted(kinds)


@given(wishes(), kernels())
def test_pure(desired, actual):
    before = (repr(desired), repr(actual))
    reconcile(desired, actual)
    assert (repr(desired), repr(actual)) == before


@given(wishes(), kernels(), st.data())
def test_an_interrupted_reconcile_is_completed_by_the_next(desired, actual, data):
    kernel = Kernel(actual)
    operations = reconcile(desired, actual)
    for operation in operations[: data.draw(st.integers(0, len(operations)))]:
        kernel.apply(operation)
    for operation in reconcile(desired, kernel.actual()):
        kernel.apply(operation)
    assert reconcile(desired, kernel.actual()) == []
