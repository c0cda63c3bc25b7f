# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter explain`: what becomes of one packet, and why.

cli -> packet or capture (the frame) -> daemon: handler -> render
"""
