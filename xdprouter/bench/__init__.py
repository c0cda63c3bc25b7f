# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter bench`: how fast packets are forwarded on this machine, beside Linux and beside the limit.

cli -> plan (which scenarios) -> session (network, routes, contenders, rounds) -> results -> report, plot
"""
