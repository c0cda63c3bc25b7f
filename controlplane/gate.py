# SPDX-License-Identifier: GPL-2.0-only
"""What stops the fast path from the announcement of a firewall change until it has been examined and acted upon; the
announcements are counted by bpf/guard_events.h."""

import ctypes as ct
import mmap

_CHANGES, _EXAMINED, _ENFORCED = range(3)
"""enum guard_entry in bpf/maps.h"""


class Gate:
    """`memory`: the map `guard`."""

    def __init__(self, memory: mmap.mmap):
        self._state = (ct.c_uint64 * 3).from_buffer(memory)

    def close(self) -> None:
        del self._state

    def changes(self) -> int:
        """Firewall changes counted so far. While it differs from what `examined` was told last, every packet goes
        to the kernel."""
        return self._state[_CHANGES]

    def examined(self, changes: int) -> None:
        """Let the fast path go on: the firewall was looked at after `changes` had returned this."""
        self._state[_EXAMINED] = changes

    def enforce(self, enforced: bool) -> None:
        """Whether a firewall change stops the fast path at once. Switching it off lets go of what waits."""
        self._state[_ENFORCED] = enforced
        if not enforced:
            self.examined(self.changes())
