# SPDX-License-Identifier: GPL-2.0-only
"""The few libbpf 1.x calls that BCC's Python does not offer, over the library handle BCC already has.

Option structs follow tools/lib/bpf/bpf.h of the kernel tree; libbpf reads their `sz` and takes what lies
beyond as zero, so only the fields up to the last one used are declared.
"""

import ctypes as ct
import errno
import os
import platform
import time

from controlplane.errors import DataplaneError

_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283}.get(platform.machine(), -1)
_MEMBARRIER_CMD_GLOBAL = 1
BPF_MAP_TYPE_ARRAY = 2
BPF_F_MMAPABLE = 1 << 10
BPF_NOEXIST = 1
BPF_PROG_TYPE_SOCKET_FILTER = 1
BPF_PROG_TYPE_XDP = 6
BPF_PROG_TYPE_RAW_TRACEPOINT = 17
BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH = 14, 25
BPF_ATTACH_XDP = 37
BPF_F_XDP_HAS_FRAGS = 1 << 5
BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2


class _ProgLoadOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t), ("attempts", ct.c_int), ("expected_attach_type", ct.c_uint),
        ("prog_btf_fd", ct.c_uint), ("prog_flags", ct.c_uint), ("prog_ifindex", ct.c_uint),
        ("kern_version", ct.c_uint), ("attach_btf_id", ct.c_uint), ("attach_prog_fd", ct.c_uint),
        ("attach_btf_obj_fd", ct.c_uint), ("fd_array", ct.c_void_p), ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint), ("func_info_rec_size", ct.c_uint), ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint), ("line_info_rec_size", ct.c_uint), ("log_level", ct.c_uint),
        ("log_size", ct.c_uint), ("log_buf", ct.c_void_p),
    ]  # fmt: skip


class _MapCreateOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t), ("btf_fd", ct.c_uint), ("btf_key_type_id", ct.c_uint), ("btf_value_type_id", ct.c_uint),
        ("btf_vmlinux_value_type_id", ct.c_uint), ("inner_map_fd", ct.c_uint), ("map_flags", ct.c_uint),
        ("map_extra", ct.c_ulonglong), ("numa_node", ct.c_uint), ("map_ifindex", ct.c_uint),
    ]  # fmt: skip


class _LinkCreateOpts(ct.Structure):
    _fields_ = [("sz", ct.c_size_t), ("flags", ct.c_uint), ("_pad", ct.c_uint)]


class TestRunOpts(ct.Structure):
    """struct bpf_test_run_opts. `retval` is the XDP action; `duration` ns per repetition."""

    _fields_ = [
        ("sz", ct.c_size_t), ("data_in", ct.c_void_p), ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint), ("data_size_out", ct.c_uint), ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p), ("ctx_size_in", ct.c_uint), ("ctx_size_out", ct.c_uint),
        ("retval", ct.c_uint), ("repeat", ct.c_int), ("duration", ct.c_uint), ("flags", ct.c_uint),
        ("cpu", ct.c_uint), ("batch_size", ct.c_uint),
    ]  # fmt: skip


class XdpMd(ct.Structure):
    """struct xdp_md as BPF_PROG_TEST_RUN takes it: data_end is the frame's length."""

    _fields_ = [
        ("data", ct.c_uint), ("data_end", ct.c_uint), ("data_meta", ct.c_uint),
        ("ingress_ifindex", ct.c_uint), ("rx_queue_index", ct.c_uint), ("egress_ifindex", ct.c_uint),
    ]  # fmt: skip


class _LinkInfo(ct.Structure):
    """The head of struct bpf_link_info for an XDP link."""

    _fields_ = [
        ("type", ct.c_uint), ("id", ct.c_uint), ("prog_id", ct.c_uint), ("_pad", ct.c_uint),
        ("ifindex", ct.c_uint), ("_rest", ct.c_ubyte * 60),
    ]  # fmt: skip


class _ObjectInfo(ct.Structure):
    """The head that struct bpf_prog_info and struct bpf_map_info share."""

    _fields_ = [("type", ct.c_uint), ("id", ct.c_uint), ("_rest", ct.c_ubyte * 240)]


class MapInfo(ct.Structure):
    """The head of struct bpf_map_info."""

    _fields_ = [
        ("type", ct.c_uint), ("id", ct.c_uint), ("key_size", ct.c_uint), ("value_size", ct.c_uint),
        ("max_entries", ct.c_uint), ("flags", ct.c_uint), ("name", ct.c_char * 16), ("_rest", ct.c_ubyte * 208),
    ]  # fmt: skip


class ProgramInfo(ct.Structure):
    """The head of struct bpf_prog_info."""

    _fields_ = [
        ("type", ct.c_uint), ("id", ct.c_uint), ("tag", ct.c_ubyte * 8), ("jited_prog_len", ct.c_uint),
        ("xlated_prog_len", ct.c_uint), ("jited_prog_insns", ct.c_uint64), ("xlated_prog_insns", ct.c_uint64),
        ("load_time", ct.c_uint64), ("created_by_uid", ct.c_uint), ("nr_map_ids", ct.c_uint),
        ("map_ids", ct.c_uint64), ("name", ct.c_char * 16), ("_rest", ct.c_ubyte * 152),
    ]  # fmt: skip


class Libbpf:
    """Calls into libbpf; a refusal by the kernel is a DataplaneError that carries `errno`."""

    def __init__(self, lib: ct.CDLL):
        self._lib = lib

    def load(self, kind: int, name: str, code: bytes, *, flags: int = 0, attach_type: int = 0) -> int:
        """Load bytecode; returns the program's fd. The verifier's last lines are in the error."""
        options = _ProgLoadOpts(sz=ct.sizeof(_ProgLoadOpts), prog_flags=flags, expected_attach_type=attach_type)
        arguments = (kind, name.encode(), b"GPL", ct.c_char_p(code), ct.c_size_t(len(code) // 8))
        fd = self._lib.bpf_prog_load(*arguments, ct.byref(options))
        if fd >= 0:
            return fd
        log = ct.create_string_buffer(1 << 20)
        options.log_level, options.log_size, options.log_buf = 1, len(log), ct.addressof(log)
        fd = self._lib.bpf_prog_load(*arguments, ct.byref(options))
        if fd >= 0:
            return fd
        tail = " | ".join(log.value.decode(errors="replace").strip().splitlines()[-3:])
        raise _refused(f"the kernel did not load program {name}", fd, tail)

    def create_array(self, name: str, size: int) -> int:
        """A map of one value of so many bytes, which can be mapped into memory; its fd."""
        return self.create_map(BPF_MAP_TYPE_ARRAY, name, 4, size, 1, BPF_F_MMAPABLE)

    def create_map(self, kind: int, name: str, key_size: int, value_size: int, entries: int, flags: int) -> int:
        options = _MapCreateOpts(sz=ct.sizeof(_MapCreateOpts), map_flags=flags)
        arguments = (kind, name[:15].encode(), key_size, value_size, entries, ct.byref(options))
        return self._checked(f"making map {name} of {entries * value_size} bytes", self._lib.bpf_map_create(*arguments))

    def link_create(self, program_fd: int, ifindex: int, flags: int) -> int:
        options = _LinkCreateOpts(sz=ct.sizeof(_LinkCreateOpts), flags=flags)
        return self._checked(
            "attaching", self._lib.bpf_link_create(program_fd, ifindex, BPF_ATTACH_XDP, ct.byref(options))
        )

    def link_update(self, link_fd: int, program_fd: int) -> None:
        """Replace the program of a link atomically: no packet misses XDP."""
        self._checked("replacing the program", self._lib.bpf_link_update(link_fd, program_fd, None))

    def link_detach(self, link_fd: int) -> None:
        """Take the program off now; closing the last reference does so only some time later."""
        self._checked("detaching", self._lib.bpf_link_detach(link_fd))

    def link_info(self, link_fd: int) -> tuple[int, int]:
        """(ifindex, 0 once the device is gone; id of the program) of an XDP link."""
        info = self._info(link_fd, _LinkInfo())
        return info.ifindex, info.prog_id

    def object_id(self, fd: int) -> int:
        """The kernel's id of a program or a map."""
        return self._info(fd, _ObjectInfo()).id

    def pin(self, fd: int, path: str) -> None:
        self._checked(f"pinning {path}", self._lib.bpf_obj_pin(fd, path.encode()))

    def get(self, path: str) -> int:
        return self._checked(f"opening pin {path}", self._lib.bpf_obj_get(path.encode()))

    def program_by_id(self, number: int) -> int:
        """An fd of a loaded program."""
        return self._checked(f"program {number}", self._lib.bpf_prog_get_fd_by_id(ct.c_uint(number)))

    def map_by_id(self, number: int) -> int:
        return self._checked(f"map {number}", self._lib.bpf_map_get_fd_by_id(ct.c_uint(number)))

    def program_info(self, fd: int) -> ProgramInfo:
        return self._info(fd, ProgramInfo())

    def map_ids(self, program_fd: int) -> list[int]:
        """The maps that a program uses."""
        count = self.program_info(program_fd).nr_map_ids
        ids = (ct.c_uint * count)()
        self._info(program_fd, ProgramInfo(nr_map_ids=count, map_ids=ct.addressof(ids)))
        return list(ids)

    def map_info(self, fd: int) -> MapInfo:
        return self._info(fd, MapInfo())

    def map_keys(self, fd: int, size: int) -> list[bytes]:
        """All keys of a hash or a trie, as far as they stay while this reads."""
        key, out = ct.create_string_buffer(size), []
        end = self._lib.bpf_map_get_next_key(fd, None, key)
        while end == 0:
            out.append(key.raw)
            end = self._lib.bpf_map_get_next_key(fd, key, key)
        return out

    def wait_for_programs(self) -> None:
        """Until no CPU runs a program any more that was taken out of its link before: an RCU grace period."""
        if ct.CDLL(None, use_errno=True).syscall(_SYS_MEMBARRIER, _MEMBARRIER_CMD_GLOBAL, 0, 0) < 0:
            time.sleep(0.05)

    def map_type(self, fd: int) -> int:
        return self._info(fd, _ObjectInfo()).type

    def devmap_holds_a_device(self, fd: int) -> bool:
        """Whether a devmap, by index or by hash, has any entry; both have keys of four bytes."""
        key, following, value = ct.c_uint(), ct.c_uint(), (ct.c_ubyte * 8)()
        end = self._lib.bpf_map_get_next_key(fd, None, ct.byref(following))
        while end == 0:
            key.value = following.value
            if self._lib.bpf_map_lookup_elem(fd, ct.byref(key), ct.byref(value)) == 0:
                return True
            end = self._lib.bpf_map_get_next_key(fd, ct.byref(key), ct.byref(following))
        return False

    def raw_tracepoint_open(self, name: str, program_fd: int) -> int:
        return self._checked(f"tracepoint {name}", self._lib.bpf_raw_tracepoint_open(name.encode(), program_fd))

    def map_content(self, fd: int, key_size: int, value_size: int, max_entries: int) -> tuple[bytes, bytes]:
        """All keys and all values of a hash map, in the same order, by one system call (Linux 5.6)."""
        keys, values = (
            ct.create_string_buffer(key_size * max_entries),
            ct.create_string_buffer(value_size * max_entries),
        )
        count, position = ct.c_uint(max_entries), ct.c_uint()
        result = self._lib.bpf_map_lookup_batch(fd, None, ct.byref(position), keys, values, ct.byref(count), None)
        if result < 0 and ct.get_errno() != errno.ENOENT:  # ENOENT: that was all of it
            raise _refused("reading a map", result)
        return ct.string_at(keys, count.value * key_size), ct.string_at(values, count.value * value_size)

    def map_value(self, fd: int, key: bytes, size: int) -> bytes:
        value = ct.create_string_buffer(size)
        self._checked("reading a map", self._lib.bpf_map_lookup_elem(fd, key, value))
        return value.raw

    def map_add(self, fd: int, key: bytes, value: bytes) -> bool:
        """False, and nothing written, if there is an entry of that key."""
        result = self._lib.bpf_map_update_elem(fd, key, value, ct.c_ulonglong(BPF_NOEXIST))
        if result < 0 and ct.get_errno() != errno.EEXIST:
            raise _refused("adding to a map", result)
        return result >= 0

    def map_set(self, fd: int, key: bytes, value: bytes) -> None:
        self._checked("writing to a map", self._lib.bpf_map_update_elem(fd, key, value, ct.c_ulonglong(0)))

    def map_delete(self, fd: int, key: bytes) -> None:
        """No entry of that key: nothing to do."""
        if (result := self._lib.bpf_map_delete_elem(fd, key)) < 0 and ct.get_errno() != errno.ENOENT:
            raise _refused("deleting from a map", result)

    def possible_cpus(self) -> int:
        """How many values a per-CPU map has for each key."""
        return self._checked("counting the CPUs", self._lib.libbpf_num_possible_cpus())

    def test_run(self, program_fd: int, options: TestRunOpts) -> None:
        options.sz = ct.sizeof(TestRunOpts)
        self._checked("BPF_PROG_TEST_RUN", self._lib.bpf_prog_test_run_opts(program_fd, ct.byref(options)))

    def run_on(
        self, program_fd: int, frame: bytes, context: ct.Structure | None = None, repeat: int = 1
    ) -> tuple[int, bytes]:
        """Run a program on one frame: (what it returns, the frame after)."""
        data = ct.create_string_buffer(frame, len(frame))
        out = ct.create_string_buffer(len(frame) + 256)
        options = TestRunOpts(
            data_in=ct.addressof(data), data_size_in=len(frame),
            data_out=ct.addressof(out), data_size_out=len(out), repeat=repeat,
        )  # fmt: skip
        if context is not None:
            options.ctx_in, options.ctx_size_in = ct.addressof(context), ct.sizeof(context)
        self.test_run(program_fd, options)
        return options.retval, out.raw[: options.data_size_out]

    def _info(self, fd: int, info: ct.Structure) -> ct.Structure:
        size = ct.c_uint(ct.sizeof(info))
        self._checked("reading an object's info", self._lib.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size)))
        return info

    def _checked(self, action: str, result: int) -> int:
        if result < 0:
            raise _refused(action, result)
        return result


def _refused(action: str, result: int, detail: str = "") -> DataplaneError:
    number = -result if result < -1 else ct.get_errno()
    return DataplaneError(f"{action}: {os.strerror(number)}" + (f" ({detail})" if detail else ""), number)
