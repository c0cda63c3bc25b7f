# SPDX-License-Identifier: GPL-2.0-only
"""The sums hold whether or not a driver counts what XDP took, and which of the two it does is found out."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.accounting import ENOUGH, LAG_S, Account, Reading
from controlplane.counters import PortCounters, Traffic
from controlplane.link_stats import LinkStats


@dataclass
class Device:
    """A port under traffic. `receive` and `transmit`: whether its driver counts XDP's frames."""

    receive: bool = True
    transmit: bool = True
    now: float = 100.0
    ifindex: int = 7
    forwarded: int = 1_000_000
    """from before the daemon's time, as all that is not zero"""
    dropped: int = 10
    passed: int = 500
    redirected: int = 2_000_000
    lost: int = 3
    slow: int = 700
    refused: int = 0
    """by the driver"""
    earlier: int = 9_999

    def reading(self, late: "Device | None" = None) -> Reading:
        """`late`: as the kernel's counters still show it."""
        seen = late or self
        counters = PortCounters(
            ingress={
                "forward": Traffic(self.forwarded),
                "drop_blackhole": Traffic(self.dropped),
                "pass_ttl": Traffic(self.passed),
            },
            egress=Traffic(self.redirected),
            redirect_errors=self.lost,
        )
        stats = LinkStats(
            rx_packets=seen.earlier + seen.passed + (seen.forwarded + seen.dropped if seen.receive else 0),
            tx_packets=seen.earlier + seen.slow - seen.refused + (seen.redirected - seen.lost if seen.transmit else 0),
            tx_dropped=seen.refused,
        )
        return Reading(self.now, self.ifindex, counters, stats)

    def carry(self, seconds: float = LAG_S, **more: int) -> None:
        self.now += seconds
        for name, number in more.items():
            setattr(self, name, getattr(self, name) + number)


def carried(device: Device, account: Account):
    """Traffic long enough to be judged, then the accounts."""
    for _ in range(3):
        device.carry(forwarded=100, dropped=50, passed=40, redirected=200, slow=30, lost=5)
        account.take(device.reading())
    return account.at(device.reading())


@pytest.mark.parametrize("receive", [True, False])
@pytest.mark.parametrize("transmit", [True, False])
def test_the_wire_is_the_same_whatever_the_driver_counts(receive, transmit):
    device = Device(receive, transmit)
    found = carried(device, Account(device.reading()))
    assert found.since_s == 3 * LAG_S
    assert found.received.kernel_counts_xdp is receive
    assert found.sent.kernel_counts_xdp is transmit
    received, sent = found.received, found.sent
    assert (received.packets, received.forwarded, received.dropped, received.passed) == (570, 300, 150, 120)
    assert received.unseen == 0
    assert (sent.packets, sent.redirected, sent.lost, sent.slow, sent.dropped) == (675, 600, 15, 90, 0)


@given(
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(*[st.integers(0, 10**6)] * 6, st.floats(0, 30)), min_size=1, max_size=30),
)
def test_the_sums_add_up_at_any_time(receive, transmit, steps):
    device = Device(receive, transmit)
    account = Account(device.reading())
    for forwarded, dropped, passed, redirected, slow, lost, seconds in steps:
        device.carry(
            seconds,
            forwarded=forwarded,
            dropped=dropped,
            passed=passed,
            redirected=redirected,
            slow=slow,
            lost=min(lost, redirected),
        )
        account.take(device.reading())
        found = account.at(device.reading())
        received, sent = found.received, found.sent
        assert received.packets == received.forwarded + received.dropped + received.passed + received.unseen
        assert sent.packets == sent.redirected - sent.lost + sent.slow - sent.dropped
        assert received.kernel_counts_xdp in (receive, None)


def test_a_counter_that_lags_is_not_one_that_does_not_count():
    """Some drivers bring theirs up to date once a second or two: the start of a stream must not fool us."""
    device = Device()
    account = Account(device.reading())
    late = replace(device)
    for second in range(60):
        device.carry(1.0, forwarded=10_000 if second > 7 else 0, redirected=10_000 if second > 7 else 0)
        if second % 2:
            late = replace(device)
        account.take(device.reading(late))
        found = account.at(device.reading(late))
        assert found.received.kernel_counts_xdp is not False
        assert found.sent.kernel_counts_xdp is not False
    assert found.received.kernel_counts_xdp and found.sent.kernel_counts_xdp


def test_a_busy_slow_path_hides_nothing_for_ever():
    """A driver that does not count redirected frames is found out in the first quiet while of the slow path."""
    device = Device(transmit=False)
    account = Account(device.reading())
    for _ in range(4):
        device.carry(redirected=1000, slow=5000)
        account.take(device.reading())
    assert account.at(device.reading()).sent.kernel_counts_xdp is True
    for _ in range(3):
        device.carry(redirected=1000, slow=10)
        account.take(device.reading())
    device.carry(redirected=1000, slow=5000)
    account.take(device.reading())
    sent = account.at(device.reading()).sent
    assert sent.kernel_counts_xdp is False
    assert (sent.packets, sent.redirected, sent.slow) == (33_030, 8000, 25_030)


def test_little_traffic_is_no_evidence():
    device = Device(receive=False)
    account = Account(device.reading())
    for _ in range(20):
        device.carry(forwarded=ENOUGH - 1)
        account.take(device.reading())
    found = account.at(device.reading()).received
    assert found.kernel_counts_xdp is None
    assert found.unseen < 0, "taken as counted, it does not add up; the difference shows"


@pytest.mark.parametrize(
    "change", [{"ifindex": 8}, {"forwarded": 0}, {"earlier": 0}], ids=["another device", "slot anew", "driver anew"]
)
def test_the_sums_begin_anew_with_another_device_or_counters_set_back(change):
    device = Device()
    account = Account(device.reading())
    carried(device, account)
    device = replace(device, **change)
    account.take(device.reading())
    found = account.at(device.reading())
    assert (found.since_s, found.received.packets, found.sent.packets) == (0.0, 0, 0)


def test_what_the_driver_drops_was_not_sent():
    device = Device()
    account = Account(device.reading())
    device.carry(redirected=100, refused=30, slow=0)
    found = account.at(device.reading())
    assert (found.sent.packets, found.sent.dropped, found.sent.slow) == (70, 30, 0)
