# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's refusal means; the probes themselves are tried in tests/bpf/test_kernel_probes.py."""

import dataclasses
import errno
import os

import pytest

from controlplane import bytecode, guard, kernel, module
from controlplane.errors import ControlPlaneError, NetlinkError
from controlplane.kernel import Answer, Probe


def answer(monkeypatch, outcome) -> Probe:
    """Of a feature whose trial ends like this."""

    def try_it():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(kernel, "in_throwaway_namespace", lambda work: work())
    monkeypatch.setattr(kernel, "_answers", {})
    monkeypatch.setitem(kernel.FEATURES, "made_up", dataclasses.replace(kernel.FEATURES["xdp"], try_it=try_it))
    return kernel.probe(["made_up"])["made_up"]


def test_without_a_namespace_nothing_can_be_told(monkeypatch):
    def refuse(_):
        raise ControlPlaneError("no namespace")

    monkeypatch.setattr(kernel, "in_throwaway_namespace", refuse)
    monkeypatch.setattr(kernel, "_answers", {})
    assert set(kernel.probe().values()) == {Probe(Answer.UNKNOWN, "no namespace")}


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
    monkeypatch.setattr(module, "_READY", tmp_path)
    monkeypatch.setattr(module, "_LOADED", tmp_path / "loaded")
    monkeypatch.setattr(kernel, "_make", lambda *_: pytest.fail("it was asked for"))
    assert kernel._try_kind("vlan", "8021q") == "module 8021q, loaded when it is first used"
    assert kernel._try_native("x", "8021q").answer is Answer.UNKNOWN
    assert module.waits("b_c")
    assert not module.waits("bonding")
    (tmp_path / "loaded" / "8021q").mkdir(parents=True)
    assert not module.waits("8021q")


def test_who_only_looks_on_asks_no_module_that_is_not_loaded(monkeypatch):
    """A module that waits holds no rule; the guard's other questions load none."""
    asked = []
    for name in ("_netfilter", "_hooks", "_xfrm"):
        monkeypatch.setattr(
            guard.Examiner, "__init__", lambda self, load_modules=True: setattr(self, "_load_modules", load_modules)
        )
        monkeypatch.setattr(guard.Examiner, name, FakePart(name, asked), raising=False)
    monkeypatch.setattr(guard.Examiner, "_xtables", FakePart("", []), raising=False)
    monkeypatch.setattr(guard.Examiner, "_links", FakePart("", []), raising=False)
    monkeypatch.setattr(guard.traffic_control, "examine", lambda _: [])
    monkeypatch.setattr(guard.ipvs, "examine", lambda: [])
    monkeypatch.setattr(guard.conntrack, "examine", lambda: asked.append("conntrack") or [])
    monkeypatch.setattr(guard.module, "waits", lambda _: True)
    assert guard.Examiner(load_modules=False).examine({}) == []
    assert asked == []
    monkeypatch.setattr(guard.module, "waits", lambda name: name in ("af_key", "nf_tables"))
    guard.Examiner(load_modules=False).examine({})
    assert asked == ["_hooks", "_xfrm"]
    asked.clear()
    guard.Examiner().examine({})
    assert asked == ["_netfilter", "_hooks", "_xfrm"]


class FakePart:
    """Finds nothing, and notes that it was asked."""

    def __init__(self, name: str, asked: list[str]):
        self.name, self.asked = name, asked

    def examine(self, *_):
        self.asked.append(self.name)
        return []

    def hooks(self):
        return []


def test_bytecode():
    assert bytecode.returns(2).hex() == "b7000000020000009500000000000000"
    assert len(bytecode.asks_fib(32)) == 16 * 8
    assert b"\xb7\x04\x00\x00\x20\x00\x00\x00" in bytecode.asks_fib(32)
