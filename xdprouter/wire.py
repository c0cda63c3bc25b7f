# SPDX-License-Identifier: GPL-2.0-only
"""Requests and replies as bytes: one JSON object each way.

{"version": 1, "request": "attach", "arguments": {"port": "eth0", "mode": "native"}}
{"version": 1, "reply": {...}}   or   {"version": 1, "error": {"kind": "refused", "message": "..."}}
"""

import dataclasses
import json

from xdprouter import api

VERSION = 1
MAX_REQUEST_BYTES = 64 << 10


def encode_request(request: api.Request) -> bytes:
    name = next(name for name, kind in api.REQUESTS.items() if kind is type(request))
    return _json({"version": VERSION, "request": name, "arguments": dataclasses.asdict(request)})


def decode_request(data: bytes) -> api.Request:
    """Raises ApiError with what is wrong; never anything else."""
    if len(data) > MAX_REQUEST_BYTES:
        raise api.ApiError("malformed", f"the request has {len(data)} bytes; at most {MAX_REQUEST_BYTES} are taken")
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise api.ApiError("malformed", f"the request is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise api.ApiError("malformed", "the request is not a JSON object")
    if table.get("version") != VERSION:
        raise api.ApiError(
            "version", f"this daemon speaks version {VERSION}, the request says {table.get('version')!r}"
        )
    name, arguments = table.get("request"), table.get("arguments", {})
    kind = api.REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise api.ApiError("unknown", f"no request {name!r}; there are: {', '.join(api.REQUESTS)}")
    if not isinstance(arguments, dict):
        raise api.ApiError("malformed", f"arguments of {name} must be an object")
    return _build(kind, name, arguments)


def _build(kind: type, name: str, arguments: dict) -> api.Request:
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in arguments.items():
        if key not in known:
            raise api.ApiError("malformed", f"{name} has no argument {key!r}; it takes: {', '.join(known) or 'none'}")
        if type(value) is not known[key].type:
            raise api.ApiError("malformed", f"argument {key} of {name} must be a {known[key].type.__name__}")
    missing = [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in arguments]
    if missing:
        raise api.ApiError("malformed", f"{name} lacks argument {missing[0]!r}")
    return kind(**arguments)


def encode_reply(reply) -> bytes:
    return _json({"version": VERSION, "reply": dataclasses.asdict(reply)})


def encode_error(error: api.ApiError) -> bytes:
    return _json({"version": VERSION, "error": {"kind": error.kind, "message": str(error)}})


def decode_reply(data: bytes) -> dict:
    """The reply's table; raises ApiError for an error reply, or for something that is no reply."""
    try:
        table = json.loads(data)
        if "error" in table:
            raise api.ApiError(table["error"]["kind"], table["error"]["message"])
        return table["reply"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise api.ApiError("malformed", f"the daemon's answer cannot be read: {error!r}") from None


def _json(table: dict) -> bytes:
    return json.dumps(table, separators=(",", ":")).encode()
