# SPDX-License-Identifier: GPL-2.0-only
"""The C sources as the control plane reads them."""

import re

from controlplane import source

LINE = re.compile(r'#line (\d+) "([^"]+)"')


def files() -> dict[str, str]:
    return {path.name: path.read_text() for path in source.SOURCE_DIR.glob("*.[ch]")}


def test_each_own_header_is_put_in_place_once():
    included = {name for text in files().values() for name in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)}
    text = source.joined()
    assert included
    for name in included:
        assert text.count(f'#line 1 "{name}"\n') == 1, name
    assert '#include "' not in text
    assert "#pragma once" not in text


def test_every_own_file_is_part_of_the_program():
    assert {name for _, name in LINE.findall(source.joined())} == files().keys()


def test_the_compilers_messages_point_at_the_real_lines():
    """Walk the joined text as the preprocessor counts it: every line is where `#line` says."""
    originals = {name: text.splitlines() for name, text in files().items()}
    seen = {name: set() for name in originals}
    name, number = "", 0
    for line in source.joined().splitlines():
        if directive := LINE.fullmatch(line):
            number, name = int(directive[1]), directive[2]
            continue
        original = originals[name][number - 1]
        assert line == original or (line == "" and original.strip() == "#pragma once"), f"{name}:{number}"
        seen[name].add(number)
        number += 1
    for name, lines in originals.items():
        left_out = [lines[i - 1] for i in range(1, len(lines) + 1) if i not in seen[name]]
        assert all(line.startswith("#include ") for line in left_out), name


def test_every_verdict_is_found_once_and_documented():
    """Against the enum's body read in another way: a name that the expression misses would shift the rest."""
    body = re.search(r"enum verdict \{(.*?)\n\};", files()["verdict.h"], re.DOTALL)[1]
    names = re.findall(r"(\w+)\s*(?:=[^,]*)?,", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL))
    assert names[-1] == "VERDICT_COUNT"
    assert [name.upper() for name in source.verdicts()] == names[:-1]
    assert len(set(names)) == len(names)
    assert "=" not in body, "the order is the number"
    assert all(meaning.strip() for meaning in source.verdicts().values())
    assert len(set(source.verdicts().values())) == len(source.verdicts())


def test_verdict_names_tell_the_path():
    assert next(iter(source.verdicts())) == "forward"
    assert all(re.fullmatch(r"forward|(drop|pass)_[a-z0-9_]+", name) for name in source.verdicts())


def test_verdicts_are_what_programs_rely_on():
    """Add at the end, never change: the counters are kept by number, the JSON by name."""
    assert list(source.verdicts())[:23] == [
        "forward", "drop_blackhole", "pass_local_or_no_route", "pass_unreachable", "pass_prohibit",
        "pass_forwarding_off", "pass_encap", "pass_no_neighbour", "pass_too_big", "pass_ttl", "pass_options",
        "pass_not_ip", "pass_vlan_tag", "pass_multicast", "pass_not_ours", "pass_malformed", "pass_trailer",
        "pass_martian", "pass_hairpin", "pass_egress_unavailable", "pass_unknown_port", "pass_fib_refused",
        "pass_fib_other",
    ]  # fmt: skip


def test_limits():
    limits = source.limits()
    defined = re.findall(r"^#define (\w+)", files()["limits.h"], re.MULTILINE)
    assert list(limits) == defined
    assert limits["MAX_PORTS"] == 256
    assert len(source.verdicts()) <= limits["MAX_VERDICTS"]
    assert limits["PORT_NAME_LEN"] == 16
    assert limits["FIB_CODE_NEGATIVE"] < limits["MAX_FIB_CODES"]
