# SPDX-License-Identifier: GPL-2.0-only
"""What C and Python say about the same things, and what outlives a `Dataplane`."""

import ctypes as ct
import json
import re
import subprocess

import pytest

from controlplane import compiler, gate, libbpf, next_hop, source
from controlplane.cache import _Coherence
from controlplane.counters import PortCounters, Traffic
from controlplane.dataplane import Dataplane
from controlplane.errors import DataplaneError
from controlplane.interface import Interface
from controlplane.libbpf import Libbpf
from controlplane.pins import LAYOUT_VERSION
from controlplane.reconcile import Attach, Detach, Mode, SetInterface, StopTransmit, Transmit
from tests import packets
from tests.bpf.network import PORTS, Namespace, build_links, destination
from xdprouter.load import make_dataplane

FRAME = bytes(packets.udp(destination("out", 4)))
MAPS = {
    "counters", "interfaces", "slot_owners", "tx_ports", "settings", "route_changes", "next_hops", "known_neighbours",
    "tagged_interfaces", "fdb", "vrf_counters", "vrf_owners",
}  # fmt: skip
PER_CPU = {"counters", "vrf_counters"}
CACHE_SETS = 8
MEMORY = {  # C type of each map of one value, and how many of them
    "guard": ("u64", "GUARD_ENTRIES"),
    "coherence": ("struct coherence", "1"),
    "low_interfaces": ("struct interface", "LOW_IFINDEXES"),
    "low_tagged": ("u64", "LOW_TAGGED"),
    "own_source_bits": ("u64", "OWN_SOURCE_WORDS"),
    "blocks4": ("struct block", "BLOCKS"),
    "blocks6": ("struct block", "BLOCKS"),
    "route_census": ("struct route_census", "1"),
    "route_churn": ("struct route_churn", "1"),
    "neighbour_generations": ("u32", "ADJACENCY_SETS"),
    "adjacencies": ("struct adjacency", "ADJACENCY_SETS * ADJACENCY_WAYS * CPUS"),
    "cache4": ("union set4", "CACHE_SETS * CPUS"),
    "cache6": ("union set6", "CACHE_SETS * CPUS"),
}
FIB_CODES_OF_THE_KERNEL = range(0, 11)
"""BPF_FIB_LKUP_RET_SUCCESS .. BPF_FIB_LKUP_RET_VLAN_FAILURE"""


@pytest.fixture
def own_namespace():
    """For tests that attach programs, which the other tests' namespace must not carry."""
    ns = Namespace()
    try:
        build_links(ns)
        yield ns
    finally:
        ns.delete()


# --- constants --------------------------------------------------------------------------------------


def test_limits_are_what_the_compiler_sees(compiled_sizes):
    assert compiled_sizes(source.limits()) == list(source.limits().values())


def test_verdicts_are_the_enum_in_its_order(compiled_sizes):
    names = [*source.verdicts(), "verdict_count"]
    assert compiled_sizes(f"{name.upper()} + 1" for name in names) == list(range(1, len(names) + 1))


def test_every_verdict_is_documented():
    assert all(len(meaning) > 5 for meaning in source.verdicts().values())


def test_every_verdict_says_what_becomes_of_the_packet():
    assert {name.split("_")[0] for name in source.verdicts()} == {"forward", "drop", "pass"}


def test_limits_leave_room():
    limits = source.limits()
    assert len(source.verdicts()) < limits["MAX_VERDICTS"]
    assert max(FIB_CODES_OF_THE_KERNEL) < limits["FIB_CODE_NEGATIVE"] < limits["MAX_FIB_CODES"]
    assert limits["PORT_NAME_LEN"] == 16  # IFNAMSIZ


@pytest.mark.parametrize("name", ["MAX_VERDICTS", "MAX_FIB_CODES"])
def test_limits_used_as_masks_are_powers_of_two(name):
    assert source.limits()[name].bit_count() == 1


@pytest.fixture
def compiled_sizes(monkeypatch, tmp_path):
    """The values of C expressions, each positive, as lengths of arrays that BCC compiled with the router's flags."""

    def sizes(expressions) -> list[int]:
        members = [f"char member{i}[{expression}];" for i, expression in enumerate(expressions)]
        headers = "\n".join((source.SOURCE_DIR / name).read_text() for name in ("limits.h", "verdict.h"))
        table = f"struct sizes {{ {' '.join(members)} }};\nBPF_ARRAY(table, struct sizes, 1);"
        monkeypatch.setattr(source, "joined", lambda main: headers.replace("#pragma once", "") + "\n" + table)
        program = compiler.compiled("router.c", (f'-DPIN_DIR="{tmp_path}"',))
        leaf = program[b"table"].Leaf
        program.cleanup()
        return [getattr(leaf, f"member{i}").size for i in range(len(members))]

    return sizes


# --- structs ----------------------------------------------------------------------------------------


def test_map_values_are_as_large_as_their_members(router):
    limits = source.limits()
    traffic = 8 + 8
    assert {name: ct.sizeof(router.dataplane._tables[name.encode()].Leaf) for name in MAPS - PER_CPU} == {
        "interfaces": 4 * 4 + 6 + 2 + 5 * 4,
        "tagged_interfaces": 4,
        "vrf_owners": limits["PORT_NAME_LEN"],
        "fdb": 4 + 4,
        "slot_owners": limits["PORT_NAME_LEN"],
        "tx_ports": 4,
        "settings": 4,
        "route_changes": 8 + 8,
        "known_neighbours": 6 + 2,
        "next_hops": next_hop.TRAFFIC.size,
    }
    one_cpu = router.dataplane._tables[b"counters"].sLeaf
    assert ct.sizeof(one_cpu) == limits["MAX_VERDICTS"] * traffic + traffic + limits["MAX_FIB_CODES"] * 8 + 8 + 8
    assert ct.sizeof(router.dataplane._tables[b"next_hops"].Key) == next_hop.HOP.size
    assert ct.sizeof(router.dataplane._tables[b"known_neighbours"].Key) == next_hop.HOP.size


@pytest.fixture
def memory(monkeypatch, pins):
    """A data plane with a cache, and the sizes of C expressions as the compiler that made its program has them."""
    joined = source.joined
    made = []

    def sizes(*expressions: str) -> list[int]:
        # BCC describes a member's type by its text, and cannot read back one that names a struct.
        values = [f"SIZE{i} = {expression}" for i, expression in enumerate(expressions)]
        members = [f"char member{i}[SIZE{i}];" for i in range(len(expressions))]
        table = f"enum {{ {', '.join(values)} }};\nstruct sizes {{ {' '.join(members)} }};\n"
        monkeypatch.setattr(source, "joined", lambda main: f"{joined(main)}\n{table}BPF_ARRAY(table, struct sizes, 1);")
        made.append(Dataplane(pins, cache_sets=CACHE_SETS))
        leaf = made[-1]._tables[b"table"].Leaf
        return [getattr(leaf, f"member{i}").size for i in range(len(members))]

    yield made, sizes
    for dataplane in made:
        dataplane.close()


def test_memory_has_room_for_what_the_program_keeps_there(memory):
    """The C side indexes with masks of the same constants: what is too small would be memory of somebody else's."""
    made, sizes = memory
    wanted = dict(
        zip(MEMORY, sizes(*(f"sizeof({kind}) * ({number})" for kind, number in MEMORY.values())), strict=True)
    )
    have = made[0]._memory.sizes
    assert have.keys() == wanted.keys()
    rounded = {"coherence"}
    assert {name: size for name, size in have.items() if name not in rounded} == {
        name: size for name, size in wanted.items() if name not in rounded
    }
    assert have["coherence"] >= wanted["coherence"]
    for name, fd in made[0]._memory._fds.items():
        assert (name, _fdinfo(fd)) == (name, {"key_size": 4, "value_size": have[name], "max_entries": 1})


def test_every_memory_of_the_program_is_made():
    """But for that of explain.py."""
    text = source.joined()
    assert set(re.findall(r"^MEMORY\([\w ]+, (\w+)\)", text, re.MULTILINE)) - {"explanation"} == MEMORY.keys()


def test_python_reads_coherence_where_c_writes_it(memory):
    _, sizes = memory
    names = [name for name, _ in _Coherence._fields_]
    offsets = sizes("sizeof(struct coherence)", *(f"__builtin_offsetof(struct coherence, {n}) + 1" for n in names))
    ours = [getattr(_Coherence, name).offset + 1 for name in names]
    assert offsets == [ct.sizeof(_Coherence), *ours]


def test_entries_of_the_cache_fill_a_line(memory):
    _, sizes = memory
    kinds = ("union set4", "union set6", "struct adjacency")
    assert sizes(*(f"sizeof({kind})" for kind in kinds)) == [source.limits()["CACHE_LINE"]] * 3


def test_the_head_of_an_adjacency_is_what_python_counts(memory):
    _, sizes = memory
    assert sizes("sizeof(struct adjacency)", "__builtin_offsetof(struct adjacency, traffic)") == [
        next_hop.RECENT.size, next_hop.HOP.size,
    ]  # fmt: skip


def test_kernel_and_bcc_agree_about_the_maps(router):
    limits = source.limits()
    entries = {
        "interfaces": limits["MAX_INTERFACES"],
        "tagged_interfaces": limits["MAX_INTERFACES"],
        "vrf_counters": limits["MAX_VRFS"],
        "vrf_owners": limits["MAX_VRFS"],
        "fdb": limits["MAX_FDB_ENTRIES"],
        "settings": 1,
        "route_changes": 1,
        "known_neighbours": 4 * limits["MAX_NEXT_HOPS"],
        "next_hops": limits["MAX_NEXT_HOPS"],
    }
    for name in MAPS:
        table = router.dataplane._tables[name.encode()]
        info = _fdinfo(table.map_fd)
        leaf = table.sLeaf if name in PER_CPU else table.Leaf
        assert (name, info["key_size"], info["value_size"], info["max_entries"]) == (
            name, ct.sizeof(table.Key), ct.sizeof(leaf), entries.get(name, limits["MAX_PORTS"]),
        )  # fmt: skip


def test_ctypes_of_libbpf_are_as_in_the_header():
    """struct xdp_md of linux/bpf.h; the ABI of the others is read by libbpf from their `sz`."""
    text = open("/usr/include/linux/bpf.h").read()
    body = re.search(r"^struct xdp_md \{(.*?)^\};", text, re.MULTILINE | re.DOTALL)[1]
    members = re.findall(r"__u32 (\w+);", body)
    assert [name for name, _ in libbpf.XdpMd._fields_] == members
    assert ct.sizeof(libbpf.XdpMd) == 4 * len(members)


def test_entries_of_the_guard_are_the_enum_in_its_order():
    body = re.search(r"enum guard_entry \{(.*?)\n\};", (source.SOURCE_DIR / "maps.h").read_text(), re.DOTALL)[1]
    names = re.findall(r"^\t(\w+),", body, re.MULTILINE)
    ours = [gate._CHANGES, gate._EXAMINED, gate._ENFORCED]
    assert names == ["GUARD_CHANGES", "GUARD_EXAMINED", "GUARD_ENFORCED", "GUARD_ENTRIES"]
    assert ours == [0, 1, 2]


def _fdinfo(fd: int) -> dict[str, int]:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        pairs = (line.split(":", 1) for line in file if ":" in line)
        return {key: int(value) for key, value in pairs if key in ("key_size", "value_size", "max_entries")}


# --- slots ------------------------------------------------------------------------------------------


def test_slots_are_given_once_and_found_again(own_namespace, pins):
    with own_namespace.entered():
        dataplane = Dataplane(pins)
        slots = [dataplane.slots.assign(name) for name in ("in0", "out0", "in0")]
        assert slots == [1, 2, 1]  # slot 0 is "no port"
        assert dataplane.slots.owners() == {"in0": 1, "out0": 2}
        dataplane.close()


def test_a_released_slot_is_given_again_with_counters_at_zero(own_namespace, pins):
    with own_namespace.entered():
        dataplane = Dataplane(pins)
        count_one(dataplane, own_namespace)
        slot = dataplane.slots.owners()["in0"]
        assert dataplane.slots.counters(slot) != PortCounters()
        dataplane.slots.release("in0")
        assert "in0" not in dataplane.slots.owners()
        assert dataplane.slots.assign("big0") == slot
        assert dataplane.slots.counters(slot) == PortCounters()
        dataplane.close()


def test_a_name_of_fifteen_characters_survives(own_namespace, pins):
    with own_namespace.entered():
        first = Dataplane(pins)
        slot = first.slots.assign("a" * 15)
        first.close()
        second = Dataplane(pins)
        assert second.slots.owners() == {"a" * 15: slot}
        second.close()


# --- restart ----------------------------------------------------------------------------------------


def test_a_restart_finds_counters_slots_interfaces_and_devmap(own_namespace, pins, caplog):
    with own_namespace.entered():
        first = Dataplane(pins)
        count_one(first, own_namespace)
        slot = first.slots.owners()["in0"]
        first.apply(Transmit(slot, own_namespace.ifindex("in0")))
        counted, actual = first.slots.counters(slot), first.actual({})
        assert counted.ingress == {"pass_local_or_no_route": Traffic(1, len(FRAME))}
        first.close()

        second = Dataplane(pins)
        assert caplog.messages == []
        assert second.slots.owners() == {"in0": slot}
        assert second.slots.counters(slot) == counted
        assert second.actual({}) == actual
        count_one(second, own_namespace)
        assert second.slots.counters(slot).ingress == {"pass_local_or_no_route": Traffic(2, 2 * len(FRAME))}
        second.apply(StopTransmit(slot))
        assert second.actual({}).transmitting == {}
        second.close()


def test_a_restart_replaces_the_program_in_place(own_namespace, pins):
    with own_namespace.entered():
        ifindex = own_namespace.ifindex("in0")
        first = Dataplane(pins)
        first.apply(Attach("in0", ifindex, Mode.NATIVE))
        assert attached_program("in0") == first.program_id
        first.close()

        second = Dataplane(pins)
        assert attached_program("in0") != second.program_id
        second.take_over_links()
        assert attached_program("in0") == second.program_id
        assert second.actual({}).attached == {ifindex: Mode.NATIVE}
        second.apply(Detach(ifindex))
        assert attached_program("in0") is None
        second.close()


def test_a_device_that_goes_as_its_link_is_taken_over_stops_nothing(own_namespace, pins, monkeypatch):
    update, gone = Libbpf.link_update, own_namespace.ifindex("in0")

    def late(self, link: int, program: int) -> None:
        if self.link_info(link)[0] == gone:
            own_namespace.ip("link del in0")
        update(self, link, program)

    with own_namespace.entered():
        first = Dataplane(pins)
        for name in ("in0", "out0"):
            first.apply(Attach(name, own_namespace.ifindex(name), Mode.NATIVE))
        first.close()

        second = Dataplane(pins)
        monkeypatch.setattr(Libbpf, "link_update", late)
        second.take_over_links()
        assert second.actual({}).dead == {gone}
        assert attached_program("out0") == second.program_id
        second.close()


def test_another_layout_gives_up_its_links_and_loses_its_maps(own_namespace, pins, caplog):
    with own_namespace.entered():
        ifindex = own_namespace.ifindex("in0")
        first = Dataplane(pins)
        count_one(first, own_namespace)
        first.apply(Attach("in0", ifindex, Mode.NATIVE))
        running = first.program_id
        first.close()
        old = pins.maps.rename(pins.mount_point / f"v{LAYOUT_VERSION - 1}")

        second = Dataplane(pins)
        assert caplog.messages == [f"ports of layout {old.name} were taken over; their counters begin at zero"]
        assert not old.exists()
        assert second.slots.owners() == {}
        assert attached_program("in0") == running
        second.take_over_links()
        assert attached_program("in0") == second.program_id
        assert second.actual({}).interfaces == {}
        second.close()


def test_a_layout_taken_over_is_said_though_the_kernel_refuses_the_cache(own_namespace, pins, monkeypatch, caplog):
    made = Libbpf.create_array

    def refuse(self, name: str, size: int) -> int:
        if name.startswith("cache"):
            raise DataplaneError(f"making map {name}: Invalid argument", 22)
        return made(self, name, size)

    monkeypatch.setattr(Libbpf, "create_array", refuse)
    with own_namespace.entered():
        Dataplane(pins).close()
        old = pins.maps.rename(pins.mount_point / f"v{LAYOUT_VERSION - 1}")
        make_dataplane(pins, 1024).close()
    assert caplog.messages == [
        f"ports of layout {old.name} were taken over; their counters begin at zero",
        "without a destination cache: making map cache4: Invalid argument",
    ]


def test_removing_the_pins_detaches_and_unmounts(own_namespace, pins):
    with own_namespace.entered():
        dataplane = Dataplane(pins)
        dataplane.apply(Attach("in0", own_namespace.ifindex("in0"), Mode.NATIVE))
        dataplane.close()
        pins.remove()
        assert attached_program("in0") is None
        assert not pins.mount_point.exists()
    pins.open()  # for the fixture's own removal


def count_one(dataplane: Dataplane, ns: Namespace) -> None:
    """One packet of no route into in0."""
    ifindex = ns.ifindex("in0")
    port = PORTS["in0"]
    dataplane.apply(SetInterface(ifindex, Interface(dataplane.slots.assign("in0"), port.mtu, port.mac, True)))
    dataplane.test_run(FRAME, ifindex)


def attached_program(name: str) -> int | None:
    """Id of the XDP program that a device carries, as `ip` sees it in the thread's namespace."""
    done = subprocess.run(["ip", "-json", "link", "show", name], check=True, capture_output=True, text=True)
    (link,) = json.loads(done.stdout)
    return link["xdp"]["prog"]["id"] if "xdp" in link else None
