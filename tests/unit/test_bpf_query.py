# SPDX-License-Identifier: GPL-2.0-only
"""What somebody else is just making or taking away is no error of ours."""

import errno

import pytest

from controlplane import bpf_query


class Kernel:
    """One link, whose number is known; asking for it is refused so many times."""

    def __init__(self, refusals: int, number: int):
        self.refusals = refusals
        self.number = number

    def __call__(self, command: int, request: bytearray) -> int:
        if command == bpf_query._LINK_GET_NEXT_ID:
            if int.from_bytes(request[:4], "little") >= 7:
                raise OSError(errno.ENOENT, "")
            request[4:8] = (7).to_bytes(4, "little")
        elif command == bpf_query._LINK_GET_FD_BY_ID:
            if self.refusals:
                self.refusals -= 1
                raise OSError(self.number, "")
            raise OSError(errno.ENOENT, "")
        return 0


def test_a_link_that_is_being_made_is_asked_for_again(monkeypatch):
    kernel = Kernel(3, errno.EAGAIN)
    monkeypatch.setattr(bpf_query, "bpf", kernel)
    assert bpf_query.NetfilterLinks().hooks() == []
    assert kernel.refusals == 0


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPERM])
def test_what_stays_refused_is_told(monkeypatch, number):
    monkeypatch.setattr(bpf_query, "bpf", Kernel(10_000, number))
    with pytest.raises(OSError):
        bpf_query.NetfilterLinks().hooks()
