# SPDX-License-Identifier: GPL-2.0-only
"""The engine: netlink in, port operations out.

General layout: `monitor` turns netlink into the typed `events`; `engine` is the one loop that applies them;
`reconcile` says, purely, which operations make the data plane true; `dataplane` carries them out and
is the only file that imports BCC. `census` counts the kernel's routes and neighbours. Nothing here
imports anything of ours from outside this package.
"""
