# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter doctor`: what a machine and its ports lack, and the command that mends each thing.

General layout: `gather` asks the kernel, the ports and a running daemon, `system` the rest of the machine; only these two
import the control plane. `facts` is what they found; one file for each subject turns facts, purely, into findings; `report` puts
them together, `render` shows them. Nothing is changed: what must be tried is tried in a network namespace without a
name, and a port is tried only while it is down and nothing is attached to it.
"""
