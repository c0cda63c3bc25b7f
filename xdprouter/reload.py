# SPDX-License-Identifier: GPL-2.0-only
"""What is different between two configurations, and what of it a running daemon can change. Pure."""

from dataclasses import dataclass, field, fields, replace

from xdprouter.config import Config

RESTART = ("cache_entries", "netlink_receive_buffer")
"""Keys that are built into maps and sockets: a restart changes them, and loses no packet either"""


@dataclass(frozen=True)
class Difference:
    new: Config
    """what is in force afterwards: without what needs a restart"""
    removed: list[str] = field(default_factory=list)
    """ports"""
    wished: dict[str, str] = field(default_factory=dict)
    """port -> mode, of those that are new or have another one"""
    changed: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        """Names of what has changed, beside ports."""
        return {line.partition(" ")[0] for line in self.changed}


def difference(old: Config, new: Config) -> Difference:
    before, after = old.modes(), new.modes()
    removed = [name for name in before if name not in after]
    wished = {name: mode for name, mode in after.items() if before.get(name) != mode}
    changed, restart = [], []
    for key in (f.name for f in fields(Config) if f.name not in ("port", "mode")):
        was, is_now = getattr(old, key), getattr(new, key)
        if was != is_now:
            (restart if key in RESTART else changed).append(f"{key} {_shown(was)} -> {_shown(is_now)}")
    if old.mode != new.mode:
        changed.append(f"mode {old.mode} -> {new.mode}")
    in_force = replace(new, **{key: getattr(old, key) for key in RESTART})
    return Difference(in_force, removed, wished, changed, restart)


def _shown(value: str | int) -> str:
    return str(value) if value != "" else "none"
