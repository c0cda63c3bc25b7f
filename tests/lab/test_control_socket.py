# SPDX-License-Identifier: GPL-2.0-only
"""The control socket under bad company: every message is answered with an error or its peer is dropped, and
the daemon goes on answering everybody else."""

import grp
import json
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from lab import instance
from lab.lab import Lab
from lab.topology import load
from lab.wait import wait_until
from xdprouter import api, client, wire
from xdprouter.errors import XdprouterError
from xdprouter.instance import Instance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and BPF")

NOBODY = 65534
TIMEOUT_MS = 20_000
SOME = ["status", "ports", "explain", "attach", "reboot", "", None, 7]
STATUS = wire.encode_request(api.StatusRequest())
UNKNOWN = b'{"version": 1, "request": "nosuch"}'
"""Answered with an error, and cheap."""
KINDS = {"malformed", "version", "unknown", "refused"}
"""Of error replies. Not `internal`: that one is a bug, whatever was sent."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(load("two_hosts"), name=f"t{os.getpid()}cs")
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def target(lab) -> Instance:
    return Instance(lab.ns("r1"))


@pytest.fixture(autouse=True)
def unharmed(lab, target) -> Iterator[None]:
    """The same daemon answers after the test as before it, has its ports, and has logged no traceback."""
    log = lab.directory("r1") / "xdprouter.log"
    before, logged = client.ask(target, api.StatusRequest()), log.stat().st_size
    yield
    after = client.ask(target, api.StatusRequest())
    for port in after["ports"]:
        if port["name"] not in ("left", "right"):  # one test's failure must not be that of all that follow
            client.ask(target, api.DetachRequest(port["name"]))
    assert after["pid"] == before["pid"]
    assert [(port["name"], port["state"]) for port in after["ports"]] == [("left", "active"), ("right", "active")]
    assert b"Traceback" not in log.read_bytes()[logged:]


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def connected(context: zmq.Context, kind: int, to: Instance, **options: int) -> zmq.Socket:
    sock = context.socket(kind)
    for name, value in options.items():
        sock.setsockopt(getattr(zmq, name), value)
    sock.connect(f"ipc://{to.socket}")
    return sock


def received(sock: zmq.Socket) -> list[bytes]:
    assert sock.poll(TIMEOUT_MS), "no answer"
    return sock.recv_multipart()


def is_error(reply: bytes) -> bool:
    table = json.loads(reply)
    assert table["version"] == wire.VERSION
    assert ("reply" in table) != ("error" in table)
    if "error" in table:
        assert table["error"]["kind"] in KINDS, table
        assert len(table["error"]["message"].splitlines()) == 1
    return "error" in table


# --- messages ---------------------------------------------------------------------------------------

BAD = {
    "empty": b"",
    "a NUL": b"\0",
    "garbage": bytes(range(256)),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "half a request": STATUS[:-1],
    "two requests": STATUS + STATUS,
    "no object": b"[1, 2]",
    "no version": b"{}",
    "wrong version": STATUS.replace(b'"version":1', b'"version":2'),
    "version as text": STATUS.replace(b'"version":1', b'"version":"1"'),
    "unknown request": UNKNOWN,
    "request as a list": b'{"version": 1, "request": ["status"]}',
    "missing argument": b'{"version": 1, "request": "attach"}',
    "wrong type": b'{"version": 1, "request": "attach", "arguments": {"port": 7}}',
    "unknown argument": b'{"version": 1, "request": "status", "arguments": {"all": true}}',
    "unknown mode": b'{"version": 1, "request": "attach", "arguments": {"port": "left", "mode": "fast"}}',
    "a name too long": b'{"version": 1, "request": "attach", "arguments": {"port": "sixteen_letters_"}}',
    "a name with a NUL": b'{"version": 1, "request": "attach", "arguments": {"port": "a\\u0000b"}}',
    "a name that is half a surrogate pair": b'{"version": 1, "request": "attach", "arguments": {"port": "\\ud800"}}',
    "a name over two lines with a bad mode": b'{"version": 1, "request": "attach", "arguments": '
    b'{"port": "a\\nb", "mode": "a\\nb"}}',
    "deep": b"[" * 60_000,
    "a long number": b'{"version": ' + b"9" * 60_000 + b"}",
    "too long": STATUS + b" " * wire.MAX_REQUEST_BYTES,
    "1 MB": b"x" * (1 << 20),
    "nearly the largest frame": b"x" * (16 << 20),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_a_bad_message_is_answered_with_an_error(context, target, message):
    sock = connected(context, zmq.REQ, target)
    sock.send(message)
    (reply,) = received(sock)
    assert is_error(reply)
    assert len(reply) < 1 << 18


def test_a_huge_message_ends_the_connection(context, target):
    sock = connected(context, zmq.DEALER, target, RECONNECT_IVL=-1)
    monitor = sock.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    sock.send(bytes(32 << 20))
    poller = zmq.Poller()
    poller.register(sock, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    ready = dict(poller.poll(TIMEOUT_MS))
    assert ready, "neither answered nor dropped"
    assert sock not in ready or is_error(sock.recv_multipart()[-1])
    sock.disable_monitor()


@pytest.mark.parametrize("frames", [[b"x", STATUS], [STATUS, b"x"], [b"", b"", STATUS], [b"x"] * 1000, [b""] * 1000])
def test_several_frames_are_answered_once(context, target, frames):
    sock = connected(context, zmq.REQ, target)
    sock.send_multipart(frames)
    is_error(received(sock)[-1])
    sock.send(STATUS)
    assert not is_error(received(sock)[-1])


@pytest.mark.parametrize("envelope", [[], [b""], [b"", b""], [b"a", b"b", b""], [b"x" * 1000]], ids=repr)
def test_the_envelope_comes_back_as_it_was(context, target, envelope):
    """A DEALER may send no delimiter, or more than one."""
    sock = connected(context, zmq.DEALER, target)
    sock.send_multipart([*envelope, STATUS])
    *back, reply = received(sock)
    assert back == envelope
    assert not is_error(reply)


def test_2000_random_messages_are_answered_one_by_one(context, target):
    chance = random.Random(1)
    sock = connected(context, zmq.DEALER, target)
    for number in range(2000):
        sock.send_multipart([str(number).encode(), b"", _random_message(chance)])
        if number % 50 == 49:
            for expected in range(number - 49, number + 1):
                envelope, _, reply = received(sock)
                assert envelope == str(expected).encode()
                is_error(reply)
    assert not sock.poll(0)


def _random_message(chance: random.Random) -> bytes:
    match chance.randrange(3):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:  # no mutation of it can attach, detach or stop anything
            data = bytearray(chance.choice([STATUS, wire.encode_request(api.PortsRequest())]))
            for _ in range(chance.randrange(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(data[: chance.randrange(len(data) + 1)])
        case _:
            values = [None, True, 1, -1, 1e300, "x", "", [], {}, [1], {"a": {}}, 1 << 70]
            table = {
                "version": chance.choice([1, 1, 1, *values]),
                "request": chance.choice(["attach", "detach", "stop", "status", *values]),
                "arguments": {key: chance.choice(values[:5]) for key in ("port", "nosuch")},
            }
            return json.dumps(table).encode()


# --- peers ------------------------------------------------------------------------------------------

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32)
"""ZMTP 3.0 up to the handshake."""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        STATUS,
        random.Random(4096).randbytes(4096),
        b"\xff" * 4096,
        GREETING[:11],
        GREETING,
        GREETING + random.Random(4096).randbytes(4096),
        GREETING + b"\x06" + b"\xff" * 8,
        GREETING + b"\x04\x05READY" + b"\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=lambda sent: f"{len(sent)} bytes {sent[:12]!r}",
)
def test_a_peer_that_speaks_no_zmtp(target, sent):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(TIMEOUT_MS / 1000)
        raw.connect(str(target.socket))
        try:
            raw.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            pass
        # While it is still connected, too:
        assert client.ask(target, api.StatusRequest())["instance"] == target.name


def test_peers_that_connect_and_say_nothing(target):
    silent = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    try:
        for sock in silent:  # blocking: with a timeout, connecting fails at once while the backlog is full
            sock.connect(str(target.socket))
        assert client.ask(target, api.StatusRequest())["instance"] == target.name
    finally:
        for sock in silent:
            sock.close()


def test_clients_that_vanish_before_the_answer(context, target):
    for _ in range(50):
        sock = connected(context, zmq.DEALER, target)
        for _ in range(4):
            sock.send(STATUS)
        sock.close(linger=1000)
    assert client.ask(target, api.StatusRequest())["instance"] == target.name


def test_a_client_that_never_reads_holds_up_nobody(context, target):
    deaf = connected(context, zmq.DEALER, target, RCVHWM=1, SNDHWM=0)
    for _ in range(5000):
        deaf.send(UNKNOWN)
    assert client.ask(target, api.StatusRequest())["instance"] == target.name


def test_100_clients_at_once(context, target):
    socks = [connected(context, zmq.REQ, target) for _ in range(100)]
    for number, sock in enumerate(socks):
        sock.send(STATUS if number % 2 else BAD["garbage"])
    for number, sock in enumerate(socks):
        (reply,) = received(sock)
        assert is_error(reply) == (number % 2 == 0)


def test_200_clients_with_10000_random_messages(lab, context, target):
    """Each is answered or closed, the daemon stays small, and packets go on by the fast path."""
    chance = random.Random(8)
    kinds = [
        lambda: chance.randbytes(chance.randrange(500)),
        lambda: json.dumps({"version": chance.choice([1, 2, None, "1"]), "request": chance.choice(SOME)}).encode(),
        lambda: json.dumps(
            {"version": 1, "request": "explain", "arguments": {"frame": chance.randbytes(9).hex()}}
        ).encode(),
        lambda: STATUS[: chance.randrange(len(STATUS))],
    ]
    socks = [connected(context, zmq.DEALER, target) for _ in range(200)]
    for number in range(10_000):
        socks[number % 200].send_multipart([b"", chance.choice(kinds)()])
        if number % 500 == 499:  # some vanish with their answers on the way
            gone = chance.randrange(200)
            socks[gone].close(linger=0)
            socks[gone] = connected(context, zmq.DEALER, target)
    status = client.ask(target, api.StatusRequest())
    assert status["in_sync"]
    assert status["daemon"]["rss_bytes"] < 200e6
    before = sum(port["ingress"].get("forward", {}).get("packets", 0) for port in status["ports"])
    assert lab.exec("h1", ["ping", "-c", "5", "-i", "0.01", "10.2.0.2"]).returncode == 0
    after = client.ask(target, api.StatusRequest())["ports"]
    assert sum(port["ingress"].get("forward", {}).get("packets", 0) for port in after) > before


def test_a_client_of_another_version_is_told(context, target):
    sock = connected(context, zmq.REQ, target)
    sock.send(json.dumps({"version": 2, "request": "status", "arguments": {}}).encode())
    (reply,) = received(sock)
    assert json.loads(reply)["error"] == {
        "kind": "version",
        "message": "this daemon speaks version 1, the request says 2",
    }


def test_nothing_that_was_opened_stays_open(context, target):
    """Peers come and go; the daemon's file descriptors do not add up."""
    pid = client.ask(target, api.StatusRequest())["pid"]
    descriptors = Path(f"/proc/{pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(target.socket))
        client.ask(target, api.PortsRequest())
    wait_until(lambda: len(list(descriptors.iterdir())) <= before + 5, 20, "the connections to be closed")


# --- who may ----------------------------------------------------------------------------------------

CONNECT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""
EACCES = 13


def connect_as(target: Instance, user: int, group: int) -> int:
    """0, or the errno of connecting to the socket as somebody else."""
    command = [sys.executable, "-c", CONNECT, str(target.socket)]
    return subprocess.run(command, user=user, group=group, extra_groups=[], timeout=60).returncode


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_the_group_the_socket_is_roots_alone(target):
    with pytest.raises(KeyError):
        grp.getgrnam("xdprouter")
    assert (mode(target.directory), mode(target.socket)) == (0o700, 0o600)
    assert (target.socket.stat().st_uid, target.socket.stat().st_gid) == (0, 0)
    assert connect_as(target, NOBODY, NOBODY) == EACCES


@pytest.fixture
def another(lab, tmp_path):
    """`another("h1", "eth0", "on_exit = 'keep'")`: a second daemon on a host of the lab, with a configuration."""
    used = []

    def start(node: str, port: str, text: str) -> Instance:
        path = tmp_path / f"{node}.toml"
        path.write_text(text)
        used.append(node)
        instance.start(lab.ns(node), [port], lab.directory(node), ["-c", str(path)])
        return Instance(lab.ns(node))

    yield start
    for node in used:
        instance.stop(lab.directory(node))
        instance.remove_state(lab.ns(node))


def test_the_group_may_ask_and_nobody_else(another):
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY))
    other = another("h1", "eth0", f"control_group = '{group.gr_name}'")
    assert (mode(other.directory), mode(other.socket), mode(other.events_socket)) == (0o750, 0o660, 0o660)
    for path in (other.directory, other.socket, other.events_socket):
        assert (path.stat().st_uid, path.stat().st_gid) == (0, group.gr_gid)
    assert connect_as(other, NOBODY, group.gr_gid) == 0
    assert connect_as(other, NOBODY, NOBODY) == EACCES
    assert all(mode(path) & 0o077 == 0 for path in other.directory.iterdir() if not path.is_socket())


# --- more ports than there are slots ----------------------------------------------------------------


def test_a_port_too_many_is_refused_and_the_others_stay(another):
    """Slot 0 is no port: 255 fit."""
    other = another("h2", "eth0", "")
    for number in range(254):
        client.ask(other, api.AttachRequest(f"p{number}"))
    with pytest.raises(XdprouterError) as caught:
        client.ask(other, api.AttachRequest("onemore"))
    assert "at most 255 ports" in str(caught.value)
    status = client.ask(other, api.StatusRequest())
    assert len(status["ports"]) == 255
    assert next(port for port in status["ports"] if port["name"] == "eth0")["state"] == "active"
    client.ask(other, api.DetachRequest("p0"))
    assert client.ask(other, api.AttachRequest("onemore"))["changed"]
