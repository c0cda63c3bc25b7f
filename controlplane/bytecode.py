# SPDX-License-Identifier: GPL-2.0-only
"""BPF programs of a few instructions, written without a compiler: for questions to the kernel that must be asked
where BCC may be missing.

Encoding: Documentation/bpf/standardization/instruction-set.rst; struct bpf_fib_lookup: include/uapi/linux/bpf.h.
"""

import struct

_INSTRUCTION = struct.Struct("=BBhi")
_MOV_IMM, _MOV_REG, _ADD_IMM, _CALL, _EXIT = 0xB7, 0xBF, 0x07, 0x85, 0x95
_STORE_8, _STORE_32, _STORE_64 = 0x72, 0x62, 0x7A
_FIB_LOOKUP = 69
_FIB_LOOKUP_BYTES = 64
_IFINDEX_AT = 8
_AF_INET = 2
LOOPBACK = 1
"""ifindex of lo, the same in every network namespace"""


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, to | source << 4, offset, value)


def returns(value: int) -> bytes:
    """A program that does nothing and returns a number."""
    return _instruction(_MOV_IMM, 0, value=value) + _instruction(_EXIT)


def asks_fib(flags: int) -> bytes:
    """An XDP program that asks the FIB for 0.0.0.0 from lo, and returns what bpf_fib_lookup returned, as 32 bits."""
    stack = -_FIB_LOOKUP_BYTES
    return b"".join(
        [
            *(_instruction(_STORE_64, 10, offset=at) for at in range(stack, 0, 8)),
            _instruction(_STORE_8, 10, offset=stack, value=_AF_INET),
            _instruction(_STORE_32, 10, offset=stack + _IFINDEX_AT, value=LOOPBACK),
            _instruction(_MOV_REG, 2, 10),
            _instruction(_ADD_IMM, 2, value=stack),
            _instruction(_MOV_IMM, 3, value=_FIB_LOOKUP_BYTES),
            _instruction(_MOV_IMM, 4, value=flags),
            _instruction(_CALL, value=_FIB_LOOKUP),
            _instruction(_EXIT),
        ]
    )
