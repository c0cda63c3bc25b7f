# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench`: what the daemon costs. How fast packets are forwarded: `xdprouter bench`.

Exit codes: 0 good, 1 failed, 2 usage.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from tests.bench import daemon


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What the daemon costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("not root: the daemon loads BPF programs", file=sys.stderr)
        return 1
    # The default would leave the namespace behind; SystemExit unwinds like any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        figures = daemon.figures()
    except KeyboardInterrupt:
        return 130
    print(
        f"daemon: {len(daemon.PORTS)} ports active {figures.start_s:.2f} s after exec, RSS {figures.rss_bytes / 1e6:.0f} MB"
    )
    print(f"xdprouter status: {1000 * figures.status_s:.0f} ms, the whole process")
    if args.json:
        args.json.write_text(json.dumps(dataclasses.asdict(figures), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
