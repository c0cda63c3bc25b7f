# SPDX-License-Identifier: GPL-2.0-only
"""JSON Schema (draft 2020-12) of requests and replies, from their dataclasses: `python -m xdprouter.schema >docs/api.schema.json`.

Keys may be added to a reply, so other keys are allowed there; a request with an unknown key is refused.
"""

import dataclasses
import json
import sys
import types
import typing

from xdprouter import api, wire

REPLIES: dict[str, type] = {
    "status": api.Status,
    "ports": api.Ports,
    "interfaces": api.Interfaces,
    "blackholes": api.Blackholes,
    "neighbours": api.NextHops,
    "attach": api.Done,
    "detach": api.Done,
    "explain": api.Explanation,
    "reload": api.Reloaded,
    "stop": api.Done,
}
"""request -> what answers it"""

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict:
    """One definition for each dataclass; `requests` and `replies` name those that travel by themselves."""
    definitions: dict[str, dict] = {}
    for kind in (*api.REQUESTS.values(), *REPLIES.values()):
        _define(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"xdprouter's control socket, version {wire.VERSION}, schema {api.SCHEMA}",
        "requests": {name: _reference(kind) for name, kind in api.REQUESTS.items()},
        "replies": {name: _reference(kind) for name, kind in REPLIES.items()},
        "$defs": dict(sorted(definitions.items())),
    }


def _define(kind: type, definitions: dict[str, dict]) -> None:
    if kind.__name__ in definitions:
        return
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    request = kind in api.REQUESTS.values()
    optional = {f.name for f in fields if request and f.default is not dataclasses.MISSING}
    definitions[kind.__name__] = {
        "type": "object",
        "properties": {f.name: _type(hints[f.name], definitions) for f in fields},
        "required": [f.name for f in fields if f.name not in optional],
        "additionalProperties": not request,
    }


def _type(hint, definitions: dict[str, dict]) -> dict:
    if dataclasses.is_dataclass(hint):
        _define(hint, definitions)
        return _reference(hint)
    parts = typing.get_args(hint)
    match typing.get_origin(hint):
        case types.UnionType | typing.Union:
            return {"anyOf": [_type(part, definitions) for part in parts]}
        case origin if origin is list:
            return {"type": "array", "items": _type(parts[0], definitions)}
        case origin if origin is dict:
            return {"type": "object", "additionalProperties": _type(parts[1], definitions)}
    return {"type": "null" if hint is types.NoneType else _PLAIN[hint]}


def _reference(kind: type) -> dict:
    return {"$ref": f"#/$defs/{kind.__name__}"}


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=1)
    print()
