# SPDX-License-Identifier: GPL-2.0-only
"""Stock Debian kernels in virtual machines, without hardware support, on this machine's own root file system.

`python -m tests.vm` runs the plan (plan.py) on each kernel; `python -m tests.vm --kernel 6.1 -- COMMAND...` one command.
"""
