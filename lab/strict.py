"""Strict reading of TOML: each check names the file, the key, and what would have been right."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from lab.errors import TopologyError


class StrictReader:
    """Checks on values of one file. `where` is a key's place in it, such as `links[0].a.port`."""

    def __init__(self, file: str) -> None:
        self.file = file

    def parsed(self, parser: Callable[[str], Any], text: Any, where: str) -> Any:
        """What `parser`, one of the ipaddress module, makes of a string."""
        try:
            return parser(self.typed(text, str, where))
        except ValueError as error:
            self.fail(where, f"bad address: {error}")

    def strings(self, table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        """An array of strings; no such key is an empty one."""
        items = self.typed(table.get(key, []), list, f"{where}.{key}")
        return tuple(self.typed(item, str, f"{where}.{key}") for item in items)

    def number(self, value: Any, allowed: range, where: str) -> int:
        if self.typed(value, int, where) not in allowed:
            self.fail(where, f"{value} is not in {allowed.start}..{allowed.stop - 1}")
        return value

    def typed(self, value: Any, kind: type, where: str) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            words = {dict: "a table", list: "an array", str: "a string", int: "an integer"}
            self.fail(where, f"must be {words[kind]}")
        return value

    def keys(
        self, table: dict[str, Any], where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        """No key but these, and all that are required."""
        known = required + optional
        for key in table:
            if key not in known:
                self.fail(where, f"unknown key {key!r}; {nearest(key, known)}")
        for key in required:
            if key not in table:
                self.fail(where, f"lacks {key!r}")

    def fail(self, where: str, what: str) -> NoReturn:
        raise TopologyError(f"{self.file}: {where}: {what}")


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint: the valid name that looks most like `word`, or all of them."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(valid) or 'none'}"
