# SPDX-License-Identifier: GPL-2.0-only
"""The configuration: a TOML file, the command line over it. Every key has a default, unknown keys are errors."""

import difflib
import ipaddress
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from xdprouter.config_lines import line_of
from xdprouter.errors import UsageError, WrongValue

DEFAULT_PATH = Path("/etc/xdprouter.toml")
MODES = ("native", "generic")
ON_EXIT = ("keep", "detach")
GUARD = ("refuse", "warn", "off")
MAX_PORTS = 255
"""Slots that bpf/limits.h has for ports; a test compares the two."""
RECEIVE_BUFFER = range(4096, (1 << 30) + 1)
NEIGHBOUR_IDLE_S = range(1, 86400 + 1)
_DEVICE_NAME = re.compile(r"[^\s/:\x00-\x1f\x7f]+")  # dev_valid_name() in net/core/dev.c
_GROUP_NAME = re.compile(r"[A-Za-z0-9_.@-]+")


@dataclass(frozen=True)
class PortConfig:
    name: str
    mode: str = ""
    """native or generic; empty: the file's `mode`"""


@dataclass(frozen=True)
class Config:
    mode: str = "native"
    """how XDP is attached to ports that do not say it themselves"""
    on_exit: str = "keep"
    """on SIGTERM: keep the ports forwarding, or detach them"""
    guard: str = "refuse"
    """a port whose forwarded packets a firewall, tc or IPsec would have seen: leave it on the slow path,
    forward and warn, or do not look"""
    control_group: str = "xdprouter"
    """group that may use the control socket beside root; it need not exist"""
    cache_entries: int = 1 << 18
    """IPv4 destinations that a CPU remembers the way of, 16 bytes each, and as much memory again for IPv6; rounded up
    to a power of two; 0: none"""
    netlink_receive_buffer: int = 32 << 20
    """bytes for link events that wait while the daemon is busy"""
    neighbour_idle_s: int = 60
    """a next hop without fast-path traffic for so long is no longer kept fresh"""
    metrics: str = ""
    """address and port that Prometheus finds the metrics at, such as 127.0.0.1:9474 or [::1]:9474; empty: nowhere"""
    port: tuple[PortConfig, ...] = field(default=())

    def modes(self) -> dict[str, str]:
        """Port name -> mode."""
        return {port.name: port.mode or self.mode for port in self.port}


def load(path: Path) -> Config:
    """Read and check a file. Raises UsageError that names the file, what is wrong in it, and the line."""
    try:
        text = path.read_bytes().decode()
        return parse(tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"cannot read configuration {path}: {error.strerror}") from error
    except WrongValue as error:
        line = line_of(text, error.at)
        raise UsageError(f"{path}: {error}" + (f" (at line {line})" if line else "")) from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # not TOML or UTF-8; a number or a nesting beyond Python's limits
        raise UsageError(f"{path}: {error}") from error


def parse(table: dict) -> Config:
    """A Config from TOML's tables; raises UsageError."""
    values = _checked(table, Config, "")
    ports = values.pop("port", [])
    if not isinstance(ports, list) or not all(isinstance(port, dict) for port in ports):
        raise WrongValue("ports are written as [[port]] tables, each with a name", "port")
    checked_ports = (PortConfig(**_checked(port, PortConfig, "port: ", "port", n)) for n, port in enumerate(ports))
    return checked(Config(**values, port=tuple(checked_ports)))


def checked(config: Config) -> Config:
    """The same configuration, if its values make sense; raises UsageError."""
    _one_of("mode", config.mode, MODES)
    _one_of("on_exit", config.on_exit, ON_EXIT)
    _one_of("guard", config.guard, GUARD)
    if config.netlink_receive_buffer not in RECEIVE_BUFFER:
        limits = f"at least {RECEIVE_BUFFER.start} and at most {RECEIVE_BUFFER.stop - 1} bytes"
        raise WrongValue(
            f"netlink_receive_buffer is {config.netlink_receive_buffer}: {limits}", "netlink_receive_buffer"
        )
    if config.cache_entries < 0:
        raise WrongValue(f"cache_entries is {config.cache_entries}: at least 0, which is no cache", "cache_entries")
    if config.neighbour_idle_s not in NEIGHBOUR_IDLE_S:
        limits = f"at least {NEIGHBOUR_IDLE_S.start} and at most {NEIGHBOUR_IDLE_S.stop - 1} seconds"
        raise WrongValue(f"neighbour_idle_s is {config.neighbour_idle_s}: {limits}", "neighbour_idle_s")
    if config.metrics:
        metrics_address(config.metrics)
    if not _is_name(config.control_group, _GROUP_NAME):
        raise WrongValue(f"control_group {config.control_group!r} cannot be the name of a group", "control_group")
    if len(config.port) > MAX_PORTS:
        raise UsageError(f"{len(config.port)} ports: at most {MAX_PORTS} ports are possible")
    seen = set()
    for number, port in enumerate(config.port):
        at = ("port", number)
        if not _is_name(port.name, _DEVICE_NAME) or port.name in (".", "..") or len(port.name.encode()) > 15:
            why = f"{port.name!r} cannot be the name of a network device (1 to 15 bytes, no / : or space)"
            raise WrongValue(why, *at, "name")
        if port.mode:
            _one_of(f"mode of port {port.name}", port.mode, MODES, *at, "mode")
        if port.name in seen:
            raise WrongValue(f"port {port.name} is given twice", *at, "name")
        seen.add(port.name)
    return config


def metrics_address(text: str) -> tuple[str, int]:
    """(address, port) of `127.0.0.1:9474` or `[::1]:9474`; raises UsageError. Names are not looked up."""
    host, _, port = text.rpartition(":")
    try:
        bracketed = host.startswith("[") and host.endswith("]")
        address = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) not in range(1, 1 << 16) or "%" in host:
            raise ValueError
    except ValueError:
        why = f"metrics is {text!r}: must be address:port, such as 127.0.0.1:9474 or [::1]:9474"
        raise WrongValue(why, "metrics") from None
    return str(address), int(port)


def _is_name(text: str, pattern: re.Pattern) -> bool:
    """Whether the pattern holds and the text can be handed to the system, which lone surrogates cannot."""
    return bool(pattern.fullmatch(text)) and not any("\ud800" <= c <= "\udfff" for c in text)


def _checked(table: dict, kind: type, where: str, *at: str | int) -> dict:
    """The table if its keys and types fit the dataclass `kind`. `at`: where it is in the file."""
    known = {f.name: f.type for f in fields(kind)}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise WrongValue(f"{where}unknown key {key!r}; {hint}", *at, key)
        if known[key] in (str, int) and type(value) is not known[key]:
            wanted = "text" if known[key] is str else "a whole number"
            raise WrongValue(f"{where}{key} must be {wanted}, not {value!r}", *at, key)
    if kind is PortConfig and "name" not in table:
        raise WrongValue("a [[port]] has no name", *at)
    return dict(table)


def _one_of(what: str, value: str, allowed: tuple[str, ...], *at: str | int) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise WrongValue(f"{what} is {value!r}: must be {' or '.join(allowed)}{hint}", *(at or (what,)))
