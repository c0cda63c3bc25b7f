# SPDX-License-Identifier: GPL-2.0-only
"""The ports' slots: where their counters are, and how the program names them in the devmap. A slot belongs to a port's
name until the port is forgotten, whatever becomes of the device."""

import ctypes as ct

from controlplane.counters import PortCounters
from controlplane.errors import DataplaneError
from controlplane.source import limits


class Slots:
    """`tables`: BCC's tables by name. What earlier processes gave out is read back."""

    def __init__(self, tables):
        self._owners = tables[b"slot_owners"]
        self._counters = tables[b"counters"]
        self._tx_ports = tables[b"tx_ports"]
        self._numbers = {leaf.name.decode(): key.value for key, leaf in self._owners.items() if leaf.name}

    def owners(self) -> dict[str, int]:
        """Port name -> slot, for every slot that has an owner."""
        return dict(self._numbers)

    def assign(self, name: str) -> int:
        """The slot of a port name: its old one, or a free one with counters at zero.

        Raises DataplaneError when all slots are taken.
        """
        if name in self._numbers:
            return self._numbers[name]
        taken, most = set(self._numbers.values()), limits()["MAX_PORTS"]
        free = next((slot for slot in range(1, most) if slot not in taken), None)
        if free is None:
            raise DataplaneError(f"no slot left for {name}: at most {most - 1} ports are possible")
        self._counters[free] = type(self._counters[free])()
        self._owners[free] = self._owners.Leaf(name.encode())
        self._numbers[name] = free
        return free

    def release(self, name: str) -> None:
        """Forget a port's slot and its counters."""
        slot = self._numbers.pop(name, None)
        if slot is not None:
            self._owners[slot] = self._owners.Leaf(b"")

    def counters(self, slot: int) -> PortCounters:
        return PortCounters.from_cpus(self._counters[slot])

    def losses(self) -> tuple[int, int]:
        """(frames that could not be redirected, frames redirected) so far."""
        found = [self.counters(slot) for slot in self._numbers.values()]
        return sum(c.redirect_errors for c in found), sum(c.egress.packets for c in found)

    # --- the devmap -----------------------------------------------------------------------------

    def transmitting(self) -> dict[int, int]:
        """Slot -> ifindex, of the ports that packets can leave by."""
        found = {slot: self._ifindex(slot) for slot in self._numbers.values()}
        return {slot: ifindex for slot, ifindex in found.items() if ifindex}

    def transmit(self, slot: int, ifindex: int) -> None:
        """Let packets leave by this device."""
        self._tx_ports[ct.c_uint(slot)] = ct.c_int(ifindex)

    def stop_transmitting(self, slot: int) -> None:
        self._tx_ports.__delitem__(ct.c_uint(slot))

    def _ifindex(self, slot: int) -> int:
        try:
            return self._tx_ports[ct.c_uint(slot)].value
        except KeyError:
            return 0
