# SPDX-License-Identifier: GPL-2.0-only
"""What a person or a script touches.

General layout: `cli` parses a command and calls `client`; `client` sends an `api` request to the
daemon's socket; `server` gives it to the handler that `daemon` registered; `render` prints the reply.
`daemon` is the composition root and the only file here that imports `controlplane`.
"""

__version__ = "0.1.0"
