# SPDX-License-Identifier: GPL-2.0-only
"""What counts as well in a report from a guest, and the kernel image that boots there."""

import lzma
import struct

import pytest

from tests.vm import report
from tests.vm.errors import GuestError
from tests.vm.kernels import vmlinux

CASES = {
    "passed": ("", (1, [], [])),
    "failed": ('<failure message="assert 1\n== 2"/>', (0, [], ["t::x: assert 1 == 2"])),
    "error": ('<error message="no fixture"/>', (0, [], ["t::x: no fixture"])),
    "a feature it may lack": ('<skipped message="the kernel has no team"/>', (0, ["team"], [])),
    "a feature it must have": (
        '<skipped message="the kernel has no vrf"/>', (0, [], ["t::x: skipped: the kernel has no vrf"]),
    ),
    "no feature": ('<skipped message="the kernel has no luck"/>', (0, [], ["t::x: skipped: the kernel has no luck"])),
    "no reason": ('<skipped message="needs root"/>', (0, [], ["t::x: skipped: needs root"])),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_case(name, tmp_path):
    inside, (passed, skipped, problems) = CASES[name]
    path = tmp_path / "junit.xml"
    path.write_text(
        f'<testsuites><testsuite><testcase classname="t" name="x">{inside}</testcase></testsuite></testsuites>'
    )
    assert report.read(path, {"vrf"}) == report.Report(passed, skipped, problems)


@pytest.mark.parametrize("text", [None, "", "<testsuites><testsuite>"])
def test_a_report_that_is_not_whole_is_a_problem(tmp_path, text):
    path = tmp_path / "junit.xml"
    if text is not None:
        path.write_text(text)
    (problem,) = report.read(path, set()).problems
    assert problem.startswith("no JUnit report: ")


def bz_image(payload: bytes) -> bytes:
    """Two sectors of setup, and the payload 64 bytes behind them."""
    head = bytearray(3 * 512 + 64)
    head[0x1F1] = 2
    struct.pack_into("<II", head, 0x248, 64, len(payload) + 4)
    return bytes(head) + payload + struct.pack("<I", 0) + b"what follows"


def test_the_image_is_unpacked():
    elf = b"\x7fELF" + bytes(1000)
    assert vmlinux(bz_image(lzma.compress(elf))) == elf


@pytest.mark.parametrize("payload", [b"\x1f\x8b\x08 and so on", lzma.compress(b"MZ")])
def test_an_image_that_is_none_is_an_error(payload):
    with pytest.raises(GuestError):
        vmlinux(bz_image(payload))
