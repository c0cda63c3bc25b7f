# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter bench`, end to end: tiny runs, whose rates mean nothing."""

import ctypes as ct
import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from controlplane import libbpf
from controlplane.compiler import libbpf_of_bcc
from lab import namespace
from lab.wait import wait_until
from xdprouter.bench import destinations, network
from xdprouter.bench.contenders import Arrival, Contender, other_program
from xdprouter.bench.harness import Harness
from xdprouter.bench.results import MAX_LOSS, SCHEMA
from xdprouter.bench.updates import updates
from xdprouter.errors import UsageError, XdprouterError

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--routes", "1", "--routes6", "0", "--destinations", "hot", "--cores", "1", "--updates", "0", "--sizes", "64",
        "--rounds", "1", "--packets", "5000")  # fmt: skip
NOBODY = 65534
START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 30.0
# r0 = VALUE; exit
RETURN = struct.Struct("<BBhiBBhi")
XDP_DROP = 1


def start(tmp: Path, *arguments: str, **kw) -> subprocess.Popen:
    """A benchmark whose temporary files are under `tmp`."""
    return subprocess.Popen(
        [sys.executable, "-m", "xdprouter", "bench", *arguments], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw,
    )  # fmt: skip


def run(tmp: Path, *arguments: str, **kw) -> tuple[int, str, str]:
    """(exit code, standard output, standard error); nothing of it is left behind."""
    child = start(tmp, *arguments, **kw)
    try:
        out, err = child.communicate(timeout=120)
    finally:
        kill(child, tmp)
    assert left_behind(child.pid, tmp) == []
    return child.returncode, out, err


def kill(child: subprocess.Popen, tmp: Path) -> None:
    """A benchmark that did not end by itself, and with it what it then leaves behind."""
    if child.poll() is None:
        child.kill()
        child.communicate()
        namespace.delete(f"xdprouter-bench-forward-{child.pid}")
        for line in Path("/proc/mounts").read_text().splitlines():
            if str(tmp) in (place := line.split()[1]):
                subprocess.run(["umount", place], check=True)


def left_behind(pid: int, tmp: Path) -> list[str]:
    """Namespaces, mounts, temporary files of a benchmark; processes in its namespace die with that."""
    found = [name for name in os.listdir(namespace.DIRECTORY) if name.endswith(f"-{pid}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp) in line]
    return found + [path.name for path in tmp.iterdir() if path.name.startswith("xdprouter-bench-")]


@contextmanager
def loaded(value: int, flags: int = libbpf.BPF_F_XDP_HAS_FRAGS, kind: int = libbpf.BPF_PROG_TYPE_XDP) -> Iterator[int]:
    """The id of a program that only returns `value`."""
    lib = libbpf_of_bcc()
    code = RETURN.pack(0xB7, 0, 0, value, 0x95, 0, 0, 0)
    fd = lib.load(kind, "somebody", code, flags=flags, attach_type=flags and libbpf.BPF_ATTACH_XDP)
    try:
        yield lib.object_id(fd)
    finally:
        os.close(fd)


# --- whole runs -----------------------------------------------------------------------------------


def test_a_run_gives_ratios_as_table_and_json(tmp_path):
    kept = tmp_path / "kept.json"
    arguments = [
        "--routes",
        "1,50",
        "--routes6",
        "20",
        "--destinations",
        "hot",
        "--sizes",
        "64,imix,1500",
        "--rounds",
        "2",
    ]
    arguments += ["--cores", "1", "--updates", "0,200", "--next-hops", "3", "--packets", "5000", "--seeds"]
    code, out, err = run(tmp_path, *arguments, "--json", str(kept))
    assert code == 0, out + err
    table = json.loads(kept.read_text())
    assert table["schema"] == SCHEMA
    assert {"cpu", "cpus", "kernel", "bcc", "clang", "xdprouter", "load_before"} <= table["machine"].keys()
    found = [(s["family"], s["routes"], s["updates"], s["size"], s["cores"]) for s in table["scenarios"]]
    assert found == [
        (4, 1, 0, "64", 1), (4, 50, 0, "64", 1), (4, 50, 200, "64", 1), (4, 50, 0, "imix", 1), (4, 50, 0, "1500", 1),
        (6, 20, 0, "64", 1), (6, 20, 200, "64", 1), (6, 20, 0, "imix", 1), (6, 20, 0, "1500", 1),
    ]  # fmt: skip
    for scenario in table["scenarios"]:
        assert list(scenario["contenders"]) == ["static", "plain", "xdprouter", "linux"]
        assert (scenario["updates_per_s"] > 0) == (scenario["updates"] > 0)
        for contender in scenario["contenders"].values():
            assert [round["sent"] for round in contender["rounds"]] == [5000, 5000]
            assert contender["loss"] == 0 and contender["mpps_min"] <= contender["mpps"] <= contender["mpps_max"]
            assert contender["of_linux"] > 0 and contender["of_plain"] > 0
        assert scenario["contenders"]["static"]["of_static"] == 1
    assert list(table["seeds"]["contenders"]) == ["drop", "mirror", "redirect", "pass"]
    for word in ("x linux", "of static", "xdprouter", "imix", "mirror", table["machine"]["kernel"]):
        assert word in out
    assert "[8/10] IPv6 20 hot imix 3 hops" in err, "progress, without a terminal, in lines"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the machine has one CPU")
def test_tags_are_measured_beside_frames_without(tmp_path):
    """No frame is lost, which the far end counts by the tag it ought to have."""
    kept = tmp_path / "kept.json"
    arguments = ["--routes", "1", "--routes6", "1", "--destinations", "hot", "--sizes", "64,imix,1500", "--rounds", "1"]
    arguments += ["--cores", "1", "--updates", "0", "--packets", "5000", "--vlan", "--json", str(kept)]
    code, out, err = run(tmp_path, *arguments)
    assert code == 0, out + err
    assert "of untagged" in out
    for scenario in json.loads(kept.read_text())["scenarios"]:
        assert list(scenario["contenders"]) == ["static", "plain", "xdprouter", "vlan", "linux"]
        assert scenario["contenders"]["vlan"]["loss"] == 0
        assert scenario["contenders"]["vlan"]["of_xdprouter"] > 0


def test_two_cores_share_the_packets(tmp_path):
    kept = tmp_path / "kept.json"
    code, out, err = run(tmp_path, *TINY, "--cores", "1,2", "--json", str(kept))
    assert code == 0, out + err
    one, two = json.loads(kept.read_text())["scenarios"]
    assert (one["cores"], two["cores"]) == (1, 2)
    assert all(round["arrived"] == 5000 for c in two["contenders"].values() for round in c["rounds"])


def test_a_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra `plot`, is not installed")
    plot, again, kept = (tmp_path / name for name in ("plot.svg", "again.svg", "kept.json"))
    code, out, err = run(tmp_path, *TINY, "--json", str(kept), "--svg", str(plot))
    assert code == 0, out + err
    text = plot.read_text()
    assert "<svg" in text and "xdprouter" in text and "IPv4: tables" in text
    assert run(tmp_path, "--from", str(kept), "--svg", str(again))[0] == 0
    assert again.read_text() == text, "the JSON carries all that the plot needs"


# --- refusals -------------------------------------------------------------------------------------


def test_without_root_it_refuses_and_touches_nothing(tmp_path):
    code, out, err = run(tmp_path, *TINY, user=NOBODY, group=NOBODY, extra_groups=[])
    assert code == 1 and out == ""
    assert err == "xdprouter: not root: the benchmark makes a network namespace and loads BPF programs\n"


def test_without_matplotlib_a_plot_is_refused_before_measuring(tmp_path):
    absent = tmp_path / "absent" / "matplotlib"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('none here')\n")
    env = {**os.environ, "PYTHONPATH": str(absent.parent)}
    argv = [sys.executable, "-m", "xdprouter", "bench", *TINY, "--svg", str(tmp_path / "plot.svg")]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "xdprouter: --svg needs matplotlib: pip install 'xdprouter[plot]'\n"


def test_a_file_that_cannot_be_written_is_refused_before_measuring(tmp_path):
    code, _, err = run(tmp_path, *TINY, "--json", str(tmp_path / "none" / "kept.json"))
    assert code == 2 and err.count("\n") == 1 and "no such folder" in err


def test_an_unknown_program_is_refused(tmp_path):
    code, out, err = run(tmp_path, *TINY, "--program", "4294967290")
    assert code == 2 and out == ""
    assert err == "xdprouter: --program 4294967290: there is no such program (`bpftool prog` lists what is loaded)\n"


def test_a_program_that_the_kernel_does_not_let_the_generator_call(tmp_path):
    with loaded(XDP_DROP, flags=0) as number:
        code, out, err = run(tmp_path, *TINY, "--program", str(number))
    assert code == 1 and out == ""
    assert err.count("\n") == 1 and f"refuses to call somebody/{number}" in err and "BPF_F_XDP_HAS_FRAGS" in err


def test_a_program_of_another_type_is_refused():
    with loaded(0, 0, libbpf.BPF_PROG_TYPE_SOCKET_FILTER) as number, ExitStack() as stack:
        with pytest.raises(UsageError, match="somebody is not an XDP program"):
            other_program(number, libbpf_of_bcc(), stack)


@pytest.mark.parametrize("kind", [libbpf.BPF_MAP_TYPE_DEVMAP, libbpf.BPF_MAP_TYPE_DEVMAP_HASH])
def test_a_program_whose_devmap_leads_elsewhere_is_refused(kind):
    """The benchmark's frames would leave by somebody's port."""
    import bcc

    lib = libbpf_of_bcc()
    with network.network("devmap") as ns, namespace.entered(ns), ExitStack() as stack:
        devmap = bcc.lib.bpf_map_create(kind, b"ports", 4, 4, 4, None)
        assert devmap >= 0
        stack.callback(os.close, devmap)
        # r1 = the map; r0 = 2; exit
        code = struct.pack("<BBhiiiBBhi", 0x18, 0x11, 0, devmap, 0, 0, 0xB7, 0, 0, 2) + struct.pack(
            "<BBhi", 0x95, 0, 0, 0
        )
        fd = lib.load(libbpf.BPF_PROG_TYPE_XDP, "somebody", code, flags=libbpf.BPF_F_XDP_HAS_FRAGS,
                      attach_type=libbpf.BPF_ATTACH_XDP)  # fmt: skip
        stack.callback(os.close, fd)
        assert other_program(lib.object_id(fd), lib, stack).program_fd is not None, "empty: nothing can leave"
        lo = ct.c_uint(1)
        assert bcc.lib.bpf_update_elem(devmap, ct.byref(ct.c_uint(3)), ct.byref(lo), 0) == 0
        with pytest.raises(XdprouterError, match="which leads to ports of this machine"):
            other_program(lib.object_id(fd), lib, stack)


# --- loss -----------------------------------------------------------------------------------------


def test_a_contender_that_loses_frames_gets_no_rate(tmp_path):
    kept = tmp_path / "kept.json"
    with loaded(XDP_DROP) as number:
        code, out, err = run(tmp_path, *TINY, "--program", str(number), "--json", str(kept))
    assert code == 1, out + err
    (scenario,) = json.loads(kept.read_text())["scenarios"]
    dropper = scenario["contenders"].pop(f"somebody/{number}")
    assert (dropper["mpps"], dropper["of_linux"], dropper["loss"]) == (None, None, 1)
    assert all(contender["mpps"] > 0 for contender in scenario["contenders"].values()), "the others have theirs"
    assert "100.0% lost" in out and "frames were lost" in out


@pytest.fixture
def harness():
    """(its namespace, a harness that is aimed); the thread is inside."""
    with network.network("test") as ns, ExitStack() as stack:
        network.build(ns)
        ports = {port: network.ifindex(ns, port) for port in ("in0", "in0p", "out0", "out0p")}
        stack.enter_context(namespace.entered(ns))
        made = Harness(ports, destinations.HOT, stack)
        order = destinations.draw("hot", 0)
        made.aim(destinations.sequence(4, range(1 << 24, (1 << 24) + len(order)), order), len(order))
        yield ns, made


def test_frames_that_a_port_loses_are_missed(harness):
    ns, measuring = harness
    static = measuring.static_contender()
    measuring.enter(static)
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    assert measuring.measure(static, 4, "64", 5000, cpus).loss == 0
    network.ip(ns, "link set out0p down")
    assert measuring.measure(static, 4, "64", 5000, cpus).loss == 1
    network.ip(ns, "link set out0p up")
    wait_until(lambda: measuring.measure(static, 4, "64", 1000, cpus).loss == 0, 30, "out0 to be up again")


def test_frames_that_were_not_rewritten_do_not_count_as_forwarded(harness):
    _, measuring = harness
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    for seed in measuring.seeds():
        measuring.enter(seed)
        assert measuring.measure(seed, 4, "64", 2000, cpus).loss == 0
        wrong = Contender(seed.name, seed.program_fd, Arrival.FORWARDED)
        assert measuring.measure(wrong, 4, "64", 2000, cpus).loss == 1 > MAX_LOSS


def test_frames_with_the_wrong_tag_are_missed(harness):
    """A program that leaves the tag as it was does not forward to another VLAN."""
    _, measuring = harness
    wrong = dataclasses.replace(measuring.static_contender(), tagged=True)
    measuring.enter(wrong)
    assert measuring.measure(wrong, 6, "64", 2000, sorted(os.sched_getaffinity(0))[-1:]).loss == 1


def test_only_what_linux_forwards_to_the_next_hop_counts(harness):
    ns, measuring = harness
    linux = Contender("linux", None)
    measuring.enter(linux)
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    assert measuring.measure(linux, 4, "64", 2000, cpus).loss == 1
    (hop,) = network.next_hops(4, 1)
    network.ip(ns, f"route add default via {hop}")
    assert measuring.measure(linux, 4, "64", 2000, cpus).loss == 0
    network.ip(ns, f"neigh replace {hop} dev out0 lladdr 02:00:00:00:01:99 nud permanent")
    assert measuring.measure(linux, 4, "64", 2000, cpus).loss == 1


# --- route updates --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_updates_leave_the_table_as_it_was(family):
    """Whatever they were at when they ended; the next ones must not meet their remains."""
    with network.network("updates") as ns:
        network.build(ns)
        index = network.ifindex(ns, "out0")
        before = namespace.run(ns, ["ip", f"-{family}", "route"]).stdout
        assert before
        for number in range(10, 14):
            with updates(ns, 500, family, index, os.sched_getaffinity(0)) as running:
                wait_until(lambda: running.done > number, 30, "updates")  # noqa: B023
                assert len(namespace.pids(ns)) == 1
            assert namespace.pids(ns) == []
            assert namespace.run(ns, ["ip", f"-{family}", "route"]).stdout == before


def test_updates_that_the_kernel_refuses_are_an_error():
    with network.network("updates") as ns:
        network.build(ns)
        with pytest.raises(XdprouterError, match=r"broke off: the kernel refused a route: (ENODEV|ENETUNREACH)"):
            with updates(ns, 500, 4, 4242, os.sched_getaffinity(0)):
                pass
        assert namespace.pids(ns) == []


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_leaves_nothing_behind(tmp_path, number, code):
    """In the middle of a system call that would go on for minutes."""
    arguments = [*TINY, "--packets", "900000000", "--updates", "100"]
    child = start(tmp_path, *arguments, start_new_session=True)
    try:
        assert "putting in 1 routes" in child.stderr.readline()
        assert "100 upd/s" in child.stderr.readline()
        wait_until(lambda: generating(child.pid), START_TIMEOUT_S, "the generator to be at work")
        child.send_signal(number)
        child.communicate(timeout=END_TIMEOUT_S)
    finally:
        kill(child, tmp_path)
    assert child.returncode == code
    assert left_behind(child.pid, tmp_path) == []


def generating(pid: int) -> bool:
    """Whether a thread of it spent half a second of CPU time within the kernel, as only the generator does."""
    ticks = 0.5 * os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            if int(fields[12]) > ticks:
                return True
    return False
