# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's refusal means; the probes themselves are tried in tests/bpf/test_kernel_probes.py."""

import dataclasses
import errno
import os

import pytest

from controlplane import bytecode, kernel
from controlplane.errors import ControlPlaneError, NetlinkError
from controlplane.kernel import Answer, Probe


def answer(monkeypatch, outcome) -> Probe:
    """Of a feature whose trial ends like this."""

    def try_it():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(kernel, "in_throwaway_namespace", lambda work: work())
    monkeypatch.setitem(kernel.FEATURES, "made_up", dataclasses.replace(kernel.FEATURES["xdp"], try_it=try_it))
    kernel._probe.cache_clear()
    try:
        return kernel.probe(["made_up"])["made_up"]
    finally:
        kernel._probe.cache_clear()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, Probe(Answer.YES)),
        ("module x", Probe(Answer.YES, "module x")),
        (Probe(Answer.NO, "why"), Probe(Answer.NO, "why")),
        (OSError(errno.EINVAL, "Invalid argument"), Probe(Answer.NO, "Invalid argument")),
        (OSError(errno.EPERM, "Operation not permitted"), Probe(Answer.UNKNOWN, "Operation not permitted")),
        (NetlinkError("Unknown device type", errno.EOPNOTSUPP), Probe(Answer.NO, "Unknown device type")),
        (ControlPlaneError("no namespace"), Probe(Answer.UNKNOWN, "no namespace")),
    ],
)
def test_three_answers(monkeypatch, outcome, expected):
    found = answer(monkeypatch, outcome)
    assert found == expected
    assert bool(found) == (expected.answer is Answer.YES)


def test_a_feature_that_nobody_knows():
    with pytest.raises(KeyError):
        kernel.probe(["nonsense"])


def test_a_module_that_is_not_loaded_is_left_alone(monkeypatch, tmp_path):
    """Asking for a bond would load bonding, which makes a bond0 on the machine."""
    folder = tmp_path / os.uname().release
    folder.mkdir()
    (folder / "modules.dep").write_text("kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz\nkernel/a/b-c.ko:\n")
    monkeypatch.setattr(kernel, "_MODULES", tmp_path)
    monkeypatch.setattr(kernel, "_SYS_MODULE", tmp_path / "loaded")
    monkeypatch.setattr(kernel, "_make", lambda *_: pytest.fail("it was asked for"))
    assert kernel._try_kind("vlan", "8021q") == "module 8021q, loaded when it is first used"
    assert kernel._module_waits("b_c")
    assert kernel._module_waits("bonding") == ""
    assert kernel._try_native("x", "8021q").answer is Answer.UNKNOWN
    (tmp_path / "loaded" / "8021q").mkdir(parents=True)
    assert kernel._module_waits("8021q") == ""


def test_bytecode():
    assert bytecode.returns(2).hex() == "b7000000020000009500000000000000"
    assert len(bytecode.asks_fib(32)) == 16 * 8
    assert b"\xb7\x04\x00\x00\x20\x00\x00\x00" in bytecode.asks_fib(32)
