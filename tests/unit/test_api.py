# SPDX-License-Identifier: GPL-2.0-only
"""Requests and replies: what is encoded is decoded, what is malformed is an ApiError, no key is ever lost."""

import dataclasses
import json
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdprouter import api, wire
from xdprouter.api import ApiError

KINDS = {"malformed", "version", "unknown", "refused", "internal"}

REQUESTS = [
    api.StatusRequest(),
    api.PortsRequest(),
    api.BlackholesRequest(),
    api.NeighboursRequest(),
    api.InterfacesRequest(),
    api.AttachRequest("eth0"),
    api.AttachRequest("eth0", "generic"),
    api.DetachRequest("eth0"),
    api.ExplainRequest("00ff"),
    api.ExplainRequest("00ff", "eth0", True),
    api.ReloadRequest(),
    api.StopRequest(),
    api.StopRequest(detach=True),
]


def refused(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        wire.decode_request(data)
    assert caught.value.kind in KINDS
    return caught.value


def request(name: object = "status", arguments: object = None, version: object = wire.VERSION) -> bytes:
    table = {"version": version, "request": name, "arguments": {} if arguments is None else arguments}
    return json.dumps(table).encode()


@pytest.mark.parametrize("sent", REQUESTS, ids=repr)
def test_a_request_comes_back(sent):
    assert wire.decode_request(wire.encode_request(sent)) == sent


def test_every_request_is_tried_here():
    assert {type(sent) for sent in REQUESTS} == set(api.REQUESTS.values()) == set(typing.get_args(api.Request))


def test_arguments_may_be_left_out():
    assert wire.decode_request(b'{"version": 1, "request": "status"}') == api.StatusRequest()
    assert wire.decode_request(request("attach", {"port": "a"})) == api.AttachRequest("a", "")


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", "malformed", "not JSON"),
        (b"\xff\xfe\x00", "malformed", "not JSON"),
        (b"{", "malformed", "not JSON"),
        (b"[]", "malformed", "not a JSON object"),
        (b"null", "malformed", "not a JSON object"),
        (b'"status"', "malformed", "not a JSON object"),
        (b"1", "malformed", "not a JSON object"),
        (b"{}", "version", "speaks version 1"),
        (request(version=2), "version", "the request says 2"),
        (request(version="1"), "version", "the request says '1'"),
        (request(version=[]), "version", "the request says []"),
        (
            request("reboot"),
            "unknown",
            "no request 'reboot'; there are: "
            "status, ports, interfaces, blackholes, neighbours, attach, detach, explain, reload, stop",
        ),
        (request(None), "unknown", "no request None"),
        (request(["status"]), "unknown", "no request ['status']"),
        (request({"a": 1}), "unknown", "no request"),
        (request("status", []), "malformed", "arguments of status must be an object"),
        (request("status", {"x": 1}), "malformed", "status has no argument 'x'; it takes: none"),
        (request("attach"), "malformed", "attach lacks argument 'port'"),
        (request("attach", {"mode": "native"}), "malformed", "attach lacks argument 'port'"),
        (request("attach", {"port": 1}), "malformed", "argument port of attach must be a str"),
        (request("attach", {"port": None}), "malformed", "argument port of attach must be a str"),
        (request("attach", {"port": "a", "mdoe": ""}), "malformed", "attach has no argument 'mdoe'"),
        (request("stop", {"detach": 1}), "malformed", "argument detach of stop must be a bool"),
        (request("stop", {"detach": "true"}), "malformed", "argument detach of stop must be a bool"),
    ],
)
def test_a_malformed_request_says_what_is_wrong(data, kind, says):
    error = refused(data)
    assert (error.kind, says in str(error)) == (kind, True), str(error)


def test_deep_nesting_is_malformed():
    assert refused(b"[" * 60_000).kind == "malformed"
    assert refused(b'{"version":' + b"[" * 30_000 + b"]" * 30_000 + b"}").kind in ("malformed", "version")


def test_a_number_too_long_for_python_is_malformed():
    assert refused(b'{"version": ' + b"1" * 5000 + b"}").kind == "malformed"


def test_size_limit():
    padding = wire.MAX_REQUEST_BYTES - len(request("status"))
    assert wire.decode_request(request("status") + b" " * padding) == api.StatusRequest()
    error = refused(request("status") + b" " * (padding + 1))
    assert error.kind == "malformed"
    assert str(wire.MAX_REQUEST_BYTES) in str(error)
    assert refused(bytes(32 << 20)).kind == "malformed"


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
)
_NEARLY_REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.one_of(st.just(1), _JSON),
        "request": st.one_of(st.sampled_from(list(api.REQUESTS)), _JSON),
        "arguments": st.one_of(
            st.dictionaries(st.sampled_from(["port", "mode", "detach", "force"]), st.one_of(st.text(), _JSON)), _JSON
        ),
    },
)


def _decode(data: bytes) -> None:
    """A request, or an ApiError that can itself be sent."""
    try:
        decoded = wire.decode_request(data)
    except ApiError as error:
        assert error.kind in KINDS
        with pytest.raises(ApiError) as caught:
            wire.decode_reply(wire.encode_error(error))
        assert (caught.value.kind, str(caught.value)) == (error.kind, str(error))
    else:
        assert type(decoded) in api.REQUESTS.values()
        assert wire.decode_request(wire.encode_request(decoded)) == decoded


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_api_error(data):
    _decode(data)


@given(st.one_of(_JSON, _NEARLY_REQUESTS))
def test_any_json_is_a_request_or_an_api_error(table):
    _decode(json.dumps(table).encode())


@given(st.sampled_from(REQUESTS), st.data())
def test_a_damaged_request_is_a_request_or_an_api_error(sent, data):
    encoded = bytearray(wire.encode_request(sent))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    _decode(bytes(encoded))


# --- replies ----------------------------------------------------------------------------------------


def test_a_reply_comes_back_as_a_table():
    assert wire.decode_reply(wire.encode_reply(api.Done("port eth0 is active"))) == {
        "message": "port eth0 is active",
        "changed": True,
    }


@given(st.one_of(st.binary(max_size=100), _JSON.map(lambda table: json.dumps(table).encode())))
def test_an_answer_that_is_no_reply_is_an_api_error(data):
    try:
        wire.decode_reply(data)
    except ApiError:
        pass


def test_a_deep_answer_is_an_api_error():
    with pytest.raises(ApiError):
        wire.decode_reply(b"[" * 100_000)


def keys(kind: type) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)}


def part(kind: type, name: str) -> type:
    """The dataclass behind a field: of a list's elements, of a dict's values, or itself."""
    found = typing.get_type_hints(kind)[name]
    while not dataclasses.is_dataclass(found):
        found = [one for one in typing.get_args(found) if one is not types.NoneType][-1]
    return found


def test_status_has_the_keys_that_programs_rely_on():
    """design.md: add, never change."""
    assert keys(api.Status) >= {
        "schema", "version", "instance", "pid", "uptime_s", "in_sync", "out_of_sync_reasons", "ports", "fib",
        "neighbours", "cache", "netlink", "daemon",
    }  # fmt: skip
    assert keys(part(api.Status, "ports")) >= {
        "name", "ifindex", "slot", "state", "reason", "mode", "mtu", "mac", "ingress", "egress", "redirect_errors",
        "rates",
    }  # fmt: skip
    port = part(api.Status, "ports")
    assert keys(part(port, "ingress")) >= {"packets", "bytes"}
    assert keys(part(port, "egress")) >= {"packets", "bytes"}
    assert keys(part(port, "rates")) >= {"fast_pps", "slow_pps", "drop_pps", "fast_bps", "slow_bps"}
    assert keys(part(api.Status, "fib")) >= {"ipv4_routes", "ipv6_routes", "by_protocol", "last_change_s"}
    assert keys(part(api.Status, "neighbours")) >= {"managed", "resolved", "unresolved"}
    assert keys(part(api.Status, "cache")) >= {
        "enabled", "reason", "entries", "bytes", "hits", "misses", "invalidations", "lease_ok",
    }  # fmt: skip
    assert keys(part(api.Status, "netlink")) >= {"events", "overruns", "resyncs"}
    assert keys(part(api.Status, "daemon")) >= {"rss_bytes", "cpu_s"}


def test_ports_are_the_same_in_both_replies():
    assert part(api.Ports, "ports") is part(api.Status, "ports")
