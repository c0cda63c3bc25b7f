# SPDX-License-Identifier: GPL-2.0-only
"""All links of a namespace: who sits on whom, and who is enslaved to whom. Pure; loops of devices end."""

from collections.abc import Iterable, Iterator

from controlplane.link import VLAN_8021Q, Link


class Links:
    """Iterates in the order of ifindexes."""

    def __init__(self, links: Iterable[Link]):
        self._by_ifindex = {link.ifindex: link for link in sorted(links, key=lambda link: link.ifindex)}
        self._by_name = {link.name: link for link in self}
        self._above: dict[int, list[Link]] = {}
        self._members: dict[int, list[Link]] = {}
        for link in self:
            if link.lower and link.lower != link.ifindex:
                self._above.setdefault(link.lower, []).append(link)
            if link.master and link.master != link.ifindex:
                self._members.setdefault(link.master, []).append(link)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_ifindex.values())

    def get(self, ifindex: int) -> Link | None:
        return self._by_ifindex.get(ifindex)

    def named(self, name: str) -> Link | None:
        return self._by_name.get(name)

    def above(self, link: Link) -> list[Link]:
        """What sits on it."""
        return self._above.get(link.ifindex, [])

    def vlans_on(self, link: Link) -> list[Link]:
        return [upper for upper in self.above(link) if upper.kind == "vlan"]

    def master(self, link: Link) -> Link | None:
        """What it is enslaved to."""
        return self.get(link.master)

    def members(self, link: Link) -> list[Link]:
        """What is enslaved to it."""
        return self._members.get(link.ifindex, [])

    def vrf(self, link: Link) -> Link | None:
        master = self.master(link)
        return master if master is not None and master.kind == "vrf" else None

    def protocols_on(self, link: Link) -> set[int]:
        """Of the tags of VLAN interfaces on a device, and on those in turn."""
        out: set[int] = set()
        waiting, seen = [link], set()
        while waiting:
            below = waiting.pop()
            if below.ifindex in seen:
                continue
            seen.add(below.ifindex)
            for vlan in self.vlans_on(below):
                out.add(getattr(vlan.details, "protocol", VLAN_8021Q))
                waiting.append(vlan)
        return out

    def below_vlans(self, link: Link) -> Link | None:
        """The first device below a VLAN interface that is none. None: it is not to be seen; the link itself, or
        another VLAN interface: a loop."""
        seen = {link.ifindex}
        lower = self.get(link.lower)
        while lower is not None and lower.kind == "vlan" and lower.ifindex not in seen:
            seen.add(lower.ifindex)
            lower = self.get(lower.lower)
        return lower
