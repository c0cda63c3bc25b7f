# SPDX-License-Identifier: GPL-2.0-only
"""The C sources: found, joined into the one text that BCC compiles, and read for their constants."""

import functools
import re
from pathlib import Path

SOURCE_DIR = Path(__file__).resolve().parent.parent / "bpf"
_INCLUDE = re.compile(r'#include "([^"]+)"')


def joined(main: str = "router.c") -> str:
    """The program with its own headers put in place, each once.

    BCC rewrites map operations in the main text only, so a header it would include by itself keeps
    calls that the verifier refuses. `#line` keeps the compiler's messages pointing at the real files.
    """
    return "\n".join(_expand(main, set()))


def _expand(name: str, seen: set[str]) -> list[str]:
    seen.add(name)
    out = [f'#line 1 "{name}"']
    for number, line in enumerate((SOURCE_DIR / name).read_text().splitlines(), start=1):
        include = _INCLUDE.fullmatch(line.strip())
        if include is None:
            if line.strip() != "#pragma once":
                out.append(line)
            else:
                out.append("")
        else:
            if include[1] not in seen:
                out += _expand(include[1], seen)
            out.append(f'#line {number + 1} "{name}"')
    return out


@functools.cache
def limits() -> dict[str, int]:
    """The constants of limits.h."""
    text = (SOURCE_DIR / "limits.h").read_text()
    return {name: int(value) for name, value in re.findall(r"#define (\w+)\s+(\d+)", text)}


@functools.cache
def verdicts() -> dict[str, str]:
    """`enum verdict` in its order: name in lower case -> what it means."""
    text = (SOURCE_DIR / "verdict.h").read_text()
    found = re.findall(r"^\t([A-Z_]+),\s+/\* (.*) \*/$", text, re.MULTILINE)
    return {name.lower(): meaning for name, meaning in found}


@functools.cache
def interface_flags() -> dict[str, int]:
    """`enum interface_flag` of maps.h: name -> bit."""
    text = (SOURCE_DIR / "maps.h").read_text()
    return {name: 1 << int(bit) for name, bit in re.findall(r"^\t([A-Z0-9_]+) = 1 << (\d+),", text, re.MULTILINE)}
