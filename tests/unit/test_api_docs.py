# SPDX-License-Identifier: GPL-2.0-only
"""docs/api.md and docs/api.schema.json have the keys that the code has: no more, no fewer."""

import dataclasses
import json
import re
import typing
from pathlib import Path

import pytest

from xdprouter import api, events, schema
from xdprouter.doctor.finding import Finding, Group, Severity
from xdprouter.doctor.report import Report

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "api.md").read_text()
PLACEHOLDERS = {"verdict"}
"""in `status`: for a name that is no key"""
OF_THE_CLIENT = {"connected", "disconnected", "lost"}
"""events that never cross the wire, and are told in the text"""


def keys(kind: type) -> set[str]:
    """Of a dataclass and all within it."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        found.add(name)
        waiting = [hint]
        while waiting:
            part = waiting.pop()
            if dataclasses.is_dataclass(part):
                found |= keys(part)
            waiting += typing.get_args(part)
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables below a heading, up to the next of the same level."""
    (section,) = (part for part in PAGE.split("\n## ") if part.startswith(heading))
    lines = [line for line in section.split("\n") if line.startswith("| `")]
    return [re.split(r"\s*\|\s*", line[2:].removesuffix("|").rstrip()) for line in lines]


def words(cells: list[str]) -> set[str]:
    return {
        word for cell in cells for code in re.findall("`([^`]*)`", cell) for word in re.findall(r"[a-z0-9_]+", code)
    }


def documented(heading: str) -> set[str]:
    return words([row[0] for row in rows(heading)]) - PLACEHOLDERS


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("`xdprouter status --json`", api.Status),
        ("`xdprouter blackholes --json`", api.Blackholes),
        ("`xdprouter neighbours --json`", api.NextHops),
        ("`xdprouter explain --json`", api.Explanation),
        ("`xdprouter attach`", api.Done),
        ("`xdprouter reload --json`", api.Reloaded),
    ],
)
def test_the_keys_of_a_reply(heading, kind):
    assert documented(heading) == keys(kind) - PLACEHOLDERS


def test_parts_of_status_that_are_replies_themselves():
    for kind in (api.Ports, api.Interfaces):
        assert keys(kind) <= keys(api.Status)


def test_the_keys_of_a_doctors_report():
    report = Report("default", (Finding("root", Group.SOFTWARE, Severity.OK, "root"),)).table()
    assert documented("`xdprouter doctor --json`") == report.keys() | report["findings"][0].keys()


def test_every_request_is_in_the_table():
    table = {row[0].strip("`"): words([row[1]]) for row in rows("The socket") if len(row) == 3}
    assert table.keys() == api.REQUESTS.keys()
    for name, kind in api.REQUESTS.items():
        arguments = {field.name for field in dataclasses.fields(kind)}
        assert table[name] == arguments, name


def test_the_keys_of_every_event():
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and hasattr(kind, "KIND")]
    table = {row[0].strip("`"): row for row in rows("Events") if len(row) == 3}
    assert table.keys() == {kind.KIND for kind in kinds} - OF_THE_CLIENT
    for kind in (kind for kind in kinds if kind.KIND in table):
        missing = {field.name for field in dataclasses.fields(kind)} - words(table[kind.KIND])
        assert not missing, kind.KIND


def test_the_schema_is_the_codes():
    assert json.loads((DOCS / "api.schema.json").read_text()) == schema.schema(), (
        "python -m xdprouter.schema >docs/api.schema.json"
    )
    assert schema.REPLIES.keys() == api.REQUESTS.keys()


def test_every_kind_of_field_has_a_schema():
    done = schema.schema()["$defs"]
    assert done["Done"] == {
        "type": "object",
        "properties": {"message": {"type": "string"}, "changed": {"type": "boolean"}},
        "required": ["message", "changed"],
        "additionalProperties": True,
    }
    assert done["AttachRequest"]["required"] == ["port"]
    assert done["AttachRequest"]["additionalProperties"] is False
    port = done["Port"]["properties"]
    assert port["ifindex"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert port["ingress"] == {"type": "object", "additionalProperties": {"$ref": "#/$defs/Traffic"}}
    assert done["Status"]["properties"]["ports"] == {"type": "array", "items": {"$ref": "#/$defs/Port"}}
