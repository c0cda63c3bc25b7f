# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong, end to end: the exit code, one line that says what to do, and nothing broken on the way."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from controlplane.libbpf import BPF_PROG_TYPE_XDP, Libbpf
from lab import instance, namespace
from lab.wait import wait_until
from tests.lab.command import ROOT, status, xdprouter
from tests.lab.conftest import xdp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF")

NOBODY = 65534
NATIVE_NOWHERE = {"kind": "vxlan", "vxlan_id": 7, "vxlan_port": 4789}
NO_NATIVE = "Underlying driver does not support XDP in native mode"
"""The kernel's own words: dev_xdp_attach of net/core/dev.c."""
XDP_PASS = bytes.fromhex("b7000000020000009500000000000000")
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) +\S")


@pytest.fixture
def start(bare_lab, ns):
    """`start("left", "--mode", "generic")`: a daemon on r1 that is ready."""

    def start(port: str, *arguments: str) -> subprocess.Popen:
        return instance.start(ns, [port], bare_lab.directory("r1"), arguments)

    return start


def complaint(done: subprocess.CompletedProcess, code: int, *, logged: bool = False) -> str:
    """The one line on stderr. `logged`: the daemon had begun, and its log may stand before it."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    *before, line = done.stderr.splitlines()
    assert all(logged and LOG_LINE.match(one) for one in before), done.stderr
    assert line.startswith("xdprouter: ")
    return line.removeprefix("xdprouter: ")


def ports(ns: str) -> dict[str, dict]:
    return {port["name"]: port for port in status(ns)["ports"]}


@contextlib.contextmanager
def kernel(ns: str) -> Iterator[IPRoute]:
    with namespace.entered(ns), IPRoute() as ipr:
        yield ipr


@contextlib.contextmanager
def device(ns: str, name: str, **options) -> Iterator[None]:
    """A device in a namespace, up, for the length of a with block."""
    with kernel(ns) as ipr:
        ipr.link("add", ifname=name, **options)
        (index,) = ipr.link_lookup(ifname=name)
        ipr.link("set", index=index, state="up")
    try:
        yield
    finally:
        with kernel(ns) as ipr:
            ipr.link("del", index=index)


# --- usage and configuration: 2 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mdoe = 'native'", "unknown key 'mdoe'; did you mean 'mode'?"),
        ("[[port]]\nname = 'left'\nmoed = 'native'", "port: unknown key 'moed'; did you mean 'mode'?"),
        ("[[port]]\nname = 'left'\n[[port]]\nname = 'left'", "port left is given twice"),
        ("mode = 'fast'\n[[port]]\nname = 'left'", "mode is 'fast': must be native or generic"),
        ("[[port]]\nname = 'left'\nmode = 'fast'", "mode of port left is 'fast': must be native or generic"),
        ("port = 'left'", "[[port]]"),
        ("mode = ", "Invalid value (at end of document)"),
        ("netlink_receive_buffer = 4294967296\n[[port]]\nname = 'left'", "netlink_receive_buffer"),
        ('control_group = "a\\u0000b"\n[[port]]\nname = "left"', "control_group"),
    ],
)
def test_a_wrong_file(ns, tmp_path, text, says):
    path = tmp_path / "xdprouter.toml"
    path.write_text(text)
    line = complaint(xdprouter("run", "--netns", ns, "-c", str(path)), 2)
    assert line.startswith(f"{path}: ")
    assert says in line
    assert not xdp(ns, "left")


def test_a_file_that_is_not_there(ns, tmp_path):
    path = tmp_path / "none.toml"
    line = complaint(xdprouter("run", "--netns", ns, "-c", str(path)), 2)
    assert line == f"cannot read configuration {path}: No such file or directory"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-i", "left", "-i", "left"], "port left is given twice"),
        (["-i", "left", "--mode", "fast"], "mode is 'fast': must be native or generic"),
        (["-i", ""], "'' cannot be the name of a network device"),
        (["-i", "a/b"], "'a/b' cannot be the name of a network device"),
        (["-i", "sixteen_letters_"], "cannot be the name of a network device"),
        (["-i", b"\xff"], "cannot be the name of a network device"),
    ],
)
def test_a_wrong_command_line(ns, arguments, says):
    assert says in complaint(xdprouter("run", "--netns", ns, *arguments), 2)


def test_a_port_both_in_the_file_and_on_the_command_line(ns, tmp_path):
    path = tmp_path / "xdprouter.toml"
    path.write_text("[[port]]\nname = 'left'")
    line = complaint(xdprouter("run", "--netns", ns, "-c", str(path), "-i", "left"), 2)
    assert "port left is given twice" in line


def test_a_namespace_that_is_not_there_is_not_made():
    name = f"t{os.getpid()}none"
    line = complaint(xdprouter("run", "--netns", name, "-i", "left"), 2)
    assert line.startswith(f"no network namespace {name!r}")
    for command in (["status"], ["ports"], ["stop"], ["attach", "left"]):
        done = xdprouter(*command, "--netns", name)
        assert done.returncode in (2, 3)
        assert name in complaint(done, done.returncode)
    assert not namespace.exists(name)
    assert not (instance.STATE_DIRECTORY / name).exists()


@pytest.mark.parametrize("name", ["../x", "default", "a b", "x" * 65, ".", ".."])
def test_a_namespace_name_that_cannot_be_a_folder(name):
    assert "cannot name an instance" in complaint(xdprouter("status", "--netns", name), 2)


# --- no daemon: 3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "status --json", "ports", "attach left", "detach left", "stop"])
def test_no_daemon(ns, command):
    line = complaint(xdprouter(*command.split(), "--netns", ns), 3)
    assert line == f"no daemon in instance {ns}: start one with `xdprouter run --netns {ns} -i PORT`"


def test_no_daemon_any_more(ns, start):
    daemon = start("left")
    daemon.kill()
    daemon.wait()
    assert f"no daemon in instance {ns}" in complaint(xdprouter("status", "--netns", ns), 3)


# --- failed: 1 --------------------------------------------------------------------------------------


def test_not_root(ns):
    done = xdprouter("run", "--netns", ns, "-i", "left", user=NOBODY, group=NOBODY, extra_groups=[])
    assert complaint(done, 1).startswith("not root: ")
    assert not xdp(ns, "left")


def test_a_person_outside_the_group_is_told_so(ns, start):
    start("left")
    done = xdprouter("status", "--netns", ns, user=NOBODY, group=NOBODY, extra_groups=[])
    assert "be root, or a member of the daemon's control_group" in complaint(done, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "unrelated PyPI package"),
        ("raise ImportError('no such module')", "BCC is not installed"),
        ("raise OSError('libbcc.so.0: cannot open shared object file: No such file or directory')", "libbcc.so.0"),
    ],
    ids=["another package", "missing", "without its library"],
)
def test_without_bcc(ns, tmp_path, content, says):
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc/__init__.py").write_text(content)
    done = xdprouter("run", "--netns", ns, "-i", "left", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    line = complaint(done, 1, logged=True)
    assert says in line
    assert "apt install python3-bpfcc" in line
    assert not xdp(ns, "left")


def test_a_second_daemon(ns, start):
    daemon = start("left")
    before = xdp(ns, "left")
    line = complaint(xdprouter("run", "--netns", ns, "-i", "right"), 1)
    assert line == f"instance {ns} already has a daemon (pid {daemon.pid}): `xdprouter stop --netns {ns}` ends it"
    assert status(ns)["pid"] == daemon.pid
    assert (xdp(ns, "left"), xdp(ns, "right")) == (before, {})


@pytest.fixture
def others_program(ns) -> Iterator[dict]:
    """Somebody else's XDP program on `left`, as `ip` tells it."""
    import bcc

    fd = Libbpf(bcc.lib).load(BPF_PROG_TYPE_XDP, "others", XDP_PASS)
    with kernel(ns) as ipr:
        (index,) = ipr.link_lookup(ifname="left")
        ipr.link("set", index=index, xdp_fd=fd)
    os.close(fd)
    before = xdp(ns, "left")
    assert before
    try:
        yield before
    finally:
        with kernel(ns) as ipr:
            ipr.link("set", index=index, xdp_fd=-1)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_a_port_with_somebody_elses_program_is_left_alone(ns, others_program, mode):
    line = complaint(xdprouter("run", "--netns", ns, "-i", "left", "--mode", mode), 1, logged=True)
    assert "left" in line
    assert "XDP" in line
    assert xdp(ns, "left") == others_program


def test_attaching_a_port_with_somebody_elses_program(ns, others_program, start):
    start("right")
    line = complaint(xdprouter("attach", "left", "--netns", ns), 1)
    assert line == "left already carries another XDP program, which was left alone: remove it, then attach again"
    assert xdp(ns, "left") == others_program
    assert ports(ns).keys() == {"right"}


def test_one_bad_port_does_not_stop_the_good_one(ns, others_program, start):
    start("left", "-i", "right")
    found = ports(ns)
    assert (found["left"]["state"], found["right"]["state"]) == ("unsupported", "active")
    assert "already carries another XDP program" in found["left"]["reason"]
    assert not status(ns)["in_sync"]
    assert xdp(ns, "left") == others_program


def test_a_device_without_native_mode_says_so_in_the_kernels_words(ns):
    with device(ns, "vx0", **NATIVE_NOWHERE):
        line = complaint(xdprouter("run", "--netns", ns, "-i", "vx0"), 1, logged=True)
        assert line.startswith(f"vx0 refused the program in native mode: {NO_NATIVE}")
        assert "generic" in line
        assert not xdp(ns, "vx0")


def test_a_device_without_native_mode_works_in_generic_mode(ns, start):
    with device(ns, "vx0", **NATIVE_NOWHERE):
        start("vx0", "--mode", "generic")
        port = ports(ns)["vx0"]
        assert port["mode"] == "generic"
        assert port["state"] in ("active", "down")
        assert xdp(ns, "vx0")["mode"] == 2
        assert "generic" in xdprouter("ports", "--netns", ns).stdout


# --- attach and detach ------------------------------------------------------------------------------


def test_attaching_what_is_refused_forgets_it(ns, start):
    start("left")
    with device(ns, "vx0", **NATIVE_NOWHERE):
        line = complaint(xdprouter("attach", "vx0", "--netns", ns), 1)
        assert NO_NATIVE in line
        assert ports(ns).keys() == {"left"}
        assert not xdp(ns, "vx0")
        assert xdprouter("attach", "vx0", "--mode", "generic", "--netns", ns).returncode == 0
        assert ports(ns)["vx0"]["mode"] == "generic"


def test_a_refused_change_of_mode_leaves_the_port_as_it_was(ns, start):
    start("left")
    with device(ns, "vx0", **NATIVE_NOWHERE):
        assert xdprouter("attach", "vx0", "--mode", "generic", "--netns", ns).returncode == 0
        before = ports(ns)["vx0"]["state"]
        assert NO_NATIVE in complaint(xdprouter("attach", "vx0", "--mode", "native", "--netns", ns), 1)
        port = ports(ns)["vx0"]
        assert (port["mode"], port["state"]) == ("generic", before)
        assert xdp(ns, "vx0")["mode"] == 2


def test_attaching_what_is_no_device_yet_waits_for_it(ns, start):
    start("left")
    done = xdprouter("attach", "late0", "--netns", ns)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("port late0 is absent in native mode")
    assert ports(ns)["late0"]["state"] == "absent"
    assert not status(ns)["in_sync"]
    with device(ns, "late0", kind="veth", peer="late1"):
        with kernel(ns) as ipr:
            ipr.link("set", index=ipr.link_lookup(ifname="late1")[0], state="up")
        wait_until(lambda: ports(ns)["late0"]["state"] == "active", 30, "late0 to be active")
        assert xdp(ns, "late0")
        assert status(ns)["in_sync"]
    wait_until(lambda: ports(ns)["late0"]["state"] == "absent", 30, "late0 to be absent again")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["left", "--mode", "fast"], "mode is 'fast': must be native or generic"),
        (["a/b"], "'a/b' cannot be the name of a network device"),
        ([b"\xff"], "cannot be the name of a network device"),
        (["lo"], "lo is not an Ethernet device"),
    ],
)
def test_a_wrong_attach(ns, start, arguments, says):
    start("left")
    done = xdprouter("attach", "--netns", ns, *arguments)
    assert done.returncode in (1, 2)
    assert says in complaint(done, done.returncode)
    assert ports(ns).keys() == {"left"}
    assert ports(ns)["left"]["mode"] == "native"


def test_detaching_what_is_no_port(ns, start):
    start("left")
    done = xdprouter("detach", "nosuch", "--netns", ns)
    assert (done.returncode, done.stdout) == (0, "port nosuch is no port; nothing to do\n")


def test_detaching_a_name_that_is_not_utf8(ns, start):
    start("left")
    # As under any locale but C, where what cannot be encoded cannot be printed.
    done = xdprouter("detach", b"\xff", "--netns", ns, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)
    assert ports(ns).keys() == {"left"}


def test_a_device_whose_name_is_not_utf8_is_nobodys_business(ns, start):
    daemon = start("left")
    namespace.run(ns, [b"ip", b"link", b"add", b"e\xff", b"type", b"veth"], text=False, check=True)
    try:
        done = xdprouter("attach", "right", "--netns", ns)
        assert (done.returncode, done.stderr) == (0, "")
        assert status(ns)["pid"] == daemon.pid
        assert status(ns)["in_sync"]
    finally:
        namespace.run(ns, [b"ip", b"link", b"del", b"e\xff"], text=False, check=True)


@pytest.mark.parametrize("command", ["status", "status --json", "ports"])
def test_a_reader_that_went_away_is_no_traceback(ns, start, command):
    start("left")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xdprouter", *command.split(), "--netns", ns],
            cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1
