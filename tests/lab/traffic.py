"""A paced UDP sender, run as a process inside a host's namespace: `python -m tests.lab.traffic ADDR PORT RATE`.

Sends until its standard input is closed, then prints how many datagrams it sent. Each carries its number.
"""

import select
import socket
import sys
import time

_BURST = 32
"""At most so many at once after a pause: a veth's ring holds 256."""


def main() -> None:
    address, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.connect((address, port))
    print("sending", flush=True)
    sent, refused, behind = 0, 0, time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = int((time.monotonic() - behind) * rate)
        if due > _BURST:  # too late for these: keep the rate, not the count
            behind += (due - _BURST) / rate
            due = _BURST
        for _ in range(due):
            try:
                sock.send((sent + 1).to_bytes(8, "big"))
                sent += 1
            except OSError:
                refused += 1
        behind += due / rate
    print(sent, refused, flush=True)


if __name__ == "__main__":
    main()
