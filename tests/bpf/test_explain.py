# SPDX-License-Identifier: GPL-2.0-only
"""The explaining variant agrees with the running program, packet by packet, and changes nothing.

What the program itself must do is in test_packet_table.py; here it is the oracle.
"""

import ctypes as ct
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import compiler, source
from controlplane.errors import DataplaneError
from controlplane.explain import LARGEST_FRAME, AdjacencyLayout, ExplanationLayout, Step
from controlplane.program import Program
from controlplane.variants import variants
from tests import packets
from tests.bpf.explaining import CPU, MAPS, agree, changed, contents, explain, explained, leased
from tests.bpf.network import destination
from tests.bpf.test_cached_packet_table import KEYS, with_keys
from tests.bpf.test_packet_table import ENCAP, SHARED_TABLES, TRUNCATED, Case, described

pytestmark = pytest.mark.usefixtures("one_cpu")


# --- nothing changes --------------------------------------------------------------------------------


def test_what_the_program_does_is_seen_in_the_maps(cached_router):
    """So that the comparison can fail."""
    for kind, maps in (("out", {"counters", "adjacencies", "cache4"}), ("blackhole", {"counters", "blackholes4"})):
        cached_router.dataplane.cache.invalidate()
        frame = bytes(packets.udp(destination(kind, 4)))
        before = contents(cached_router)
        leased(cached_router, KEYS["narrow"], lambda frame=frame: cached_router.run(frame))
        assert changed(before, contents(cached_router)) >= maps


def test_the_maps_compared_are_all_that_the_program_uses(cached_router):
    lib, program = compiler.libbpf_of_bcc(), cached_router.dataplane.program
    fds = {name: cached_router.dataplane._memory._fds[name] for name in cached_router.dataplane._memory.sizes}
    fds |= {name: program.tables[name.encode()].map_fd for name in (*MAPS, "tx_ports")}
    assert set(lib.map_ids(program.fd)) <= {lib.object_id(fd) for fd in fds.values()}


# --- agreement --------------------------------------------------------------------------------------


@described(list({case.verdict: case for case in SHARED_TABLES}.values()))
def test_packet_without_a_cache(case: Case, request, explainers):
    """One of each verdict: the others are below."""
    router = request.getfixturevalue(case.router)
    agree(explainers, router, bytes(case.packet), case.ingress)


@with_keys
@described(SHARED_TABLES)
def test_packet_with_a_cache(case: Case, key, request, explainers):
    router = request.getfixturevalue(f"cached_{case.router}")
    router.dataplane.cache.invalidate()
    agree(explainers, router, bytes(case.packet), case.ingress, KEYS[key])


@described(ENCAP)
def test_encapsulating_route(case: Case, router, encap_route, explainers):
    agree(explainers, router, bytes(case.packet), case.ingress)


@pytest.mark.parametrize("name", TRUNCATED)
def test_prefixes(name, cached_router, explainers):
    frame = bytes(TRUNCATED[name])
    for length in range(14, len(frame), 5):
        agree(explainers, cached_router, frame[:length], "in0", KEYS["narrow"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from([case for case in SHARED_TABLES if case.router == "router" and len(case.packet) < 200]),
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_packets_with_any_octets_changed(cached_router, explainers, case, changes):
    frame = bytearray(bytes(case.packet))
    for place, octet in changes:
        if place < len(frame):
            frame[place] = octet
    agree(explainers, cached_router, bytes(frame), case.ingress, KEYS["wide"])


# --- what it tells ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_the_way_of_a_packet(router, explainers, family):
    traces = explain(explainers, router, bytes(packets.udp(destination("ecmp", family), sport=7, dport=9)), "in0")
    trace = traces.live
    assert (trace.version, trace.protocol, trace.sport, trace.dport) == (family, 17, 7, 9)
    assert trace.datagram_len == trace.frame_len - 14
    assert (trace.ifindex, trace.slot) == (router.indexes["in0"], router.slots["in0"])
    assert trace.way.hop == trace.fib_hop
    assert str(trace.way.hop) in {f"10.0.1.{n}" if family == 4 else f"2001:db8:0:1::{n}" for n in (2, 3)}
    assert (trace.way.hop.ifindex, trace.way.slot) == (router.indexes["out0"], router.slots["out0"])
    assert trace.way.dmac == trace.frame[:6].hex(":") and trace.way.smac == trace.frame[6:12].hex(":")
    assert trace.way.mtu == 1500


def test_an_unresolved_next_hop_is_named(router, explainers):
    trace = explain(explainers, router, bytes(packets.udp(destination("unresolved", 4))), "in0").live
    assert (trace.verdict, trace.way) == ("pass_no_neighbour", None)
    assert str(trace.fib_hop) == "10.0.1.119"
    assert trace.fib_hop.family == socket.AF_INET


def test_the_mtu_of_a_path_is_told(router, explainers):
    trace = explain(explainers, router, bytes(packets.udp_of_length(destination("narrow", 4), 1401)), "in0").live
    assert (trace.verdict, trace.fib_code, trace.fib_mtu) == ("pass_too_big", 8, 1400)


def test_the_lookup_for_rp_filter_is_told(router, explainers):
    packet = packets.udp(destination("out", 4), src="10.0.9.2", dst_mac="02:00:00:00:08:01")
    trace = explain(explainers, router, bytes(packet), "strict0").live
    assert (trace.verdict, trace.reverse_code) == ("pass_reverse_path", 0)
    assert trace.reverse_ifindex == router.indexes["loose0"]


def test_a_remembered_way_is_told_also_when_it_is_void(cached_router, explainers):
    frame = bytes(packets.udp("10.10.77.5"))
    explain(explainers, cached_router, frame, "in0")
    key = KEYS["narrow"]
    cached_router.grant(key)
    cached_router.dataplane.cache.invalidate()

    def steps() -> Step:
        return leased(cached_router, key, lambda: explain(explainers, cached_router, frame, "in0")).cached[CPU].steps

    assert steps() & (Step.LEASED | Step.FOUND | Step.HIT) == Step.LEASED
    leased(cached_router, key, lambda: cached_router.run(frame))
    assert steps() & (Step.LEASED | Step.FOUND | Step.HIT) == Step.LEASED | Step.FOUND | Step.HIT
    cached_router.dataplane.cache.invalidate()
    assert steps() & (Step.LEASED | Step.FOUND | Step.HIT) == Step.LEASED | Step.FOUND
    cached_router.dataplane.cache.withdraw("a test")
    assert explain(explainers, cached_router, frame, "in0").cached[CPU].steps & Step.LEASED == 0


def test_each_cpu_has_a_cache_of_its_own(cached_router, explainers):
    if compiler.libbpf_of_bcc().possible_cpus() == 1:
        pytest.skip("the machine has one CPU")
    frame = bytes(packets.udp("10.10.78.5"))
    explain(explainers, cached_router, frame, "in0")
    cached_router.dataplane.cache.invalidate()
    leased(cached_router, KEYS["narrow"], lambda: cached_router.run(frame))
    traces = leased(cached_router, KEYS["narrow"], lambda: explain(explainers, cached_router, frame, "in0"))
    assert traces.recalled.keys() == {CPU}


def test_frames_that_cannot_be_tried(router, explainers):
    for length in (0, 13, LARGEST_FRAME + 1):
        with pytest.raises(DataplaneError, match=f"a frame of {length} bytes"):
            explain(explainers, router, bytes(length), "in0")


# --- the program ------------------------------------------------------------------------------------


def test_the_layout_is_the_compilers(router):
    members = {name: f"__builtin_offsetof(struct explanation, {name})" for name in ("sport", "fib_hop", "way", "made")}
    wanted = [ct.sizeof(ExplanationLayout), ct.sizeof(AdjacencyLayout)]
    wanted += [getattr(ExplanationLayout, name).offset for name in members]
    expressions = ["sizeof(struct explanation)", "sizeof(struct adjacency)", *members.values()]
    joined = source.joined()
    values = ", ".join(f"SIZE{i} = {expression}" for i, expression in enumerate(expressions))
    fields = " ".join(f"char member{i}[SIZE{i}];" for i in range(len(expressions)))
    text = f"{joined}\nenum {{ {values} }};\nstruct sizes {{ {fields} }};\nBPF_ARRAY(table, struct sizes, 1);"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "joined", lambda main: text)
        program = compiler.compiled("router.c", router.dataplane.program.definitions)
    try:
        leaf = program[b"table"].Leaf
        assert [getattr(leaf, f"member{i}").size for i in range(len(expressions))] == wanted
    finally:
        program.cleanup()


def test_the_variant_loads_with_all_features(cached_router):
    """And follows the running program when that is another one."""
    explainer = cached_router.dataplane.explainer()
    frame = bytes(packets.udp(destination("out", 4)))
    try:
        assert explained(explainer, cached_router, frame).live.verdict == "forward"
        definitions = (*variants()[-1].defines, *cached_router.dataplane.program.definitions)
        running = Program(compiler.libbpf_of_bcc(), definitions)
        with cached_router.ns.entered():
            traces = explainer.run(running, bytes(packets.vlan(packets.udp("10.10.0.5"), 10)), 3)
        running.close()
        assert traces.live.tags == 10
    finally:
        explainer.close()


def test_there_is_one_step_for_each_of_the_programs():
    names = [name for name in (source.SOURCE_DIR / "explain.h").read_text().split() if name.startswith("EXPLAINED_")]
    declared = list(dict.fromkeys(name.rstrip(",);") for name in names))
    assert declared[: len(Step)] == [f"EXPLAINED_{step.name}" for step in Step]
    assert len(declared) == len(Step)
