# SPDX-License-Identifier: GPL-2.0-only
"""The configuration: every key has a default, and everything wrong is one line and exit code 2."""

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.source import limits
from xdprouter.config import Config, PortConfig, checked, load, metrics_address, parse
from xdprouter.errors import UsageError


def refused(table: dict) -> str:
    """The one line that a table is refused with."""
    with pytest.raises(UsageError) as caught:
        parse(table)
    return one_line(caught.value)


def refused_file(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load(path)
    return one_line(caught.value)


def one_line(error: UsageError) -> str:
    assert error.exit_code == 2
    assert str(error).strip()
    assert len(str(error).splitlines()) == 1
    return str(error)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "xdprouter.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_an_empty_file_gives_every_default(tmp_path):
    assert load(write(tmp_path, "")) == Config(
        mode="native",
        on_exit="keep",
        control_group="xdprouter",
        cache_entries=262144,
        netlink_receive_buffer=32 << 20,
        neighbour_idle_s=60,
        metrics="",
        port=(),
    )


def test_every_key_is_read(tmp_path):
    text = """
        mode = "generic"
        on_exit = "detach"
        control_group = "operators"
        cache_entries = 1000
        netlink_receive_buffer = 65536
        neighbour_idle_s = 5
        metrics = "[::1]:9474"
        [[port]]
        name = "eth0"
        [[port]]
        name = "eth1"
        mode = "native"
    """
    config = load(write(tmp_path, text))
    assert config == Config(
        mode="generic",
        on_exit="detach",
        control_group="operators",
        cache_entries=1000,
        netlink_receive_buffer=65536,
        neighbour_idle_s=5,
        metrics="[::1]:9474",
        port=(PortConfig("eth0"), PortConfig("eth1", "native")),
    )
    assert config.modes() == {"eth0": "generic", "eth1": "native"}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"mdoe": "native"}, "unknown key 'mdoe'; did you mean 'mode'?"),
        ({"on-exit": "keep"}, "unknown key 'on-exit'; did you mean 'on_exit'?"),
        ({"control_grp": "x"}, "unknown key 'control_grp'; did you mean 'control_group'?"),
        ({"netlink_recieve_buffer": 1}, "did you mean 'netlink_receive_buffer'?"),
        ({"ports": []}, "unknown key 'ports'; did you mean 'port'?"),
        ({"MODE": "native"}, "unknown key 'MODE'; known keys: mode, on_exit"),
        (
            {"zzz": 1},
            "known keys: mode, on_exit, guard, control_group, cache_entries, netlink_receive_buffer, "
            "neighbour_idle_s, metrics, port",
        ),
        ({"port": [{"nmae": "eth0"}]}, "port: unknown key 'nmae'; did you mean 'name'?"),
        ({"port": [{"name": "eth0", "moed": "native"}]}, "port: unknown key 'moed'; did you mean 'mode'?"),
        ({"port": [{"name": "eth0", "vlan": 1}]}, "port: unknown key 'vlan'; known keys: name, mode"),
        ({"a\nb": 1}, "unknown key"),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(table, says):
    assert says in refused(table)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"mode": 1}, "mode must be text, not 1"),
        ({"mode": True}, "mode must be text, not True"),
        ({"mode": ["native"]}, "mode must be text"),
        ({"on_exit": datetime.date(2024, 1, 1)}, "on_exit must be text"),
        ({"control_group": 1.5}, "control_group must be text"),
        ({"netlink_receive_buffer": "32M"}, "netlink_receive_buffer must be a whole number, not '32M'"),
        ({"cache_entries": 1.0}, "cache_entries must be a whole number"),
        ({"cache_entries": False}, "cache_entries must be a whole number, not False"),
        ({"netlink_receive_buffer": True}, "netlink_receive_buffer must be a whole number, not True"),
        ({"netlink_receive_buffer": 65536.0}, "netlink_receive_buffer must be a whole number"),
        ({"port": "eth0"}, "[[port]]"),
        ({"port": ["eth0"]}, "[[port]]"),
        ({"port": {"name": "eth0"}}, "[[port]]"),
        ({"port": 0}, "[[port]]"),
        ({"port": [{"name": 1}]}, "port: name must be text, not 1"),
        ({"port": [{"name": "eth0", "mode": False}]}, "port: mode must be text, not False"),
        ({"port": [{"mode": "native"}]}, "a [[port]] has no name"),
        ({"port": [{}]}, "a [[port]] has no name"),
    ],
)
def test_a_wrong_type_is_named(table, says):
    assert says in refused(table)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"mode": "nativ"}, "mode is 'nativ': must be native or generic; did you mean 'native'?"),
        ({"mode": ""}, "mode is '': must be native or generic"),
        ({"mode": "offload"}, "mode is 'offload': must be native or generic"),
        ({"on_exit": "detatch"}, "on_exit is 'detatch': must be keep or detach; did you mean 'detach'?"),
        ({"port": [{"name": "eth0", "mode": "xdp"}]}, "mode of port eth0 is 'xdp': must be native or generic"),
        ({"netlink_receive_buffer": 0}, "4096"),
        ({"netlink_receive_buffer": -1}, "4096"),
        ({"cache_entries": -1}, "cache_entries is -1: at least 0"),
        ({"cache_entries": -(1 << 64)}, "at least 0"),
        ({"neighbour_idle_s": 0}, "at least 1 and at most 86400 seconds"),
        ({"neighbour_idle_s": 86401}, "at least 1"),
        ({"port": [{"name": "eth0"}, {"name": "eth1"}, {"name": "eth0"}]}, "port eth0 is given twice"),
    ],
)
def test_a_wrong_value_is_named(table, says):
    assert says in refused(table)


def test_a_receive_buffer_that_setsockopt_cannot_take_is_refused():
    """Taken, it would be an OverflowError of socket.setsockopt once the daemon runs."""
    assert "netlink_receive_buffer" in refused({"netlink_receive_buffer": 1 << 31})


def test_a_control_group_that_getgrnam_cannot_take_is_refused():
    """Taken, it would be a ValueError of grp.getgrnam once the daemon runs."""
    assert "control_group" in refused({"control_group": "a\0b"})


def test_more_ports_than_slots_are_refused():
    """Taken, the data plane has no slot for the last, and nothing is reconciled any more."""
    most = limits()["MAX_PORTS"] - 1
    assert str(most) in refused({"port": [{"name": f"p{number}"} for number in range(most + 1)]})
    assert len(parse({"port": [{"name": f"p{number}"} for number in range(most)]}).port) == most


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a b", "a\tb", "a\nb", "x" * 16, "é" * 8, "a:b", "a\0b", "a\rb", "a\x0bb"],
)
def test_a_name_that_no_device_can_have_is_refused(name):
    """The kernel's dev_valid_name: 1 to 15 bytes, no white space, no slash, no colon."""
    assert "cannot be the name of a network device" in refused({"port": [{"name": name}]})


@pytest.mark.parametrize("name", ["eth0", "x" * 15, "é" * 7, "wan.100", "br-lan", "[red]", "v@1"])
def test_a_name_that_a_device_can_have_is_taken(name):
    assert parse({"port": [{"name": name}]}).port == (PortConfig(name),)


def test_a_bad_name_with_a_bad_mode_is_still_one_line():
    refused({"port": [{"name": "a\nb", "mode": "nope"}]})


def test_a_name_from_the_command_line_that_is_not_utf8_is_refused():
    """`-i $'\\xff'` arrives as a lone surrogate (os.fsdecode)."""
    with pytest.raises(UsageError) as caught:
        checked(Config(port=(PortConfig("\udcff"),)))
    assert "cannot be the name of a network device" in one_line(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "mode = ",
        "mode = native",
        "[[port]\nname = 'a'",
        "mode = 'native'\nmode = 'generic'",
        "port = [[[",
        b"mode = '\xff'",
        b"\0",
        "\ufeffmode = 'native'",
        "mode = " + "[" * 5000,
        "netlink_receive_buffer = " + "9" * 5000,
        "netlink_receive_buffer = 2024-13-45",
        "netlink_receive_buffer = 0x" + "f" * 5000,
        "mode = 0x" + "f" * 5000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_not_toml_names_the_file(tmp_path, text):
    path = write(tmp_path, text)
    assert refused_file(path).startswith(f"{path}: ")


def test_errors_inside_a_file_name_the_file(tmp_path):
    path = write(tmp_path, "mdoe = 'native'")
    assert refused_file(path) == f"{path}: unknown key 'mdoe'; did you mean 'mode'? (at line 1)"


def test_a_file_that_cannot_be_read(tmp_path):
    missing = tmp_path / "none.toml"
    assert refused_file(missing) == f"cannot read configuration {missing}: No such file or directory"
    assert "Is a directory" in refused_file(tmp_path)
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert f"cannot read configuration {loop}" in refused_file(loop)


# --- whatever a file says ---------------------------------------------------------------------------

_SCALARS = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.booleans(),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.sampled_from(["native", "generic", "keep", "detach", "eth0"]),
)
_KEYS = st.one_of(
    st.sampled_from(["mode", "on_exit", "control_group", "netlink_receive_buffer", "port", "name", "prot"]),
    st.text(max_size=12),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4))
)
_PORTS = st.lists(
    st.fixed_dictionaries({}, optional={"name": _SCALARS, "mode": _SCALARS, "speed": _SCALARS}), max_size=4
)
_NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["native", "generic", "nativ"]),
        "on_exit": st.sampled_from(["keep", "detach", ""]),
        "netlink_receive_buffer": st.integers(),
        "neighbour_idle_s": st.integers(),
        "cache_entries": st.integers(),
        "port": _PORTS,
    },
)


@given(st.one_of(st.dictionaries(_KEYS, _VALUES, max_size=5), _NEARLY_RIGHT))
def test_any_table_is_a_config_or_one_line(table):
    try:
        config = parse(table)
    except UsageError as error:
        one_line(error)
    else:
        assert set(config.modes().values()) <= {"native", "generic"}
        assert len(config.modes()) == len(config.port)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("config") / "x.toml"
    path.write_bytes(data)
    try:
        load(path)
    except UsageError as error:
        one_line(error)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9474", ("127.0.0.1", 9474)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fd00:0::1]:9474", ("fd00::1", 9474)),
    ],
)
def test_where_the_metrics_are(text, address):
    assert metrics_address(parse({"metrics": text}).metrics) == address


@pytest.mark.parametrize(
    "text",
    ["9474", ":9474", "127.0.0.1", "127.0.0.1:", "localhost:9474", "::1:9474", "[::1]", "[127.0.0.1]:9474", "127.0.0.1:0",
     "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+80", "127.0.0.1:9474 ", " 127.0.0.1:9474", "[fe80::1%eth0]:9474", "1.2.3:9",
     "127.0.0.1:\uff19474", "http://127.0.0.1:9474", "127.0.0.1:9474/metrics", "127.0.0.1:\n9474"],
)  # fmt: skip
def test_an_address_of_the_metrics_that_is_none(text):
    assert "must be address:port, such as 127.0.0.1:9474" in refused({"metrics": text})
