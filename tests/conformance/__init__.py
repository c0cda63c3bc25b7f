# SPDX-License-Identifier: GPL-2.0-only
"""The differential conformance lab: one router that is the plain kernel, one with xdprouter, the same packets to both.

topology       the two routers' network, and what is behind it
far_xdp        the program that makes a veth's far end able to take redirected frames, without merging any
wire           the far ends under the test's control: send, collect, and know that nothing is under way
pair           both routers side by side; one frame in, two outcomes out
outcome        an outcome as comparable bytes, and in words
rows           the ways in which XDP forwarding goes wrong; every named case belongs to one
corpus/        the named cases, by theme
configurations the kernel configurations that all cases run under
choices, strategy, shrink   generated packets, valid and broken, and how one is made small
run, report    all of it together; docs/conformance.md
mutations      deliberately broken programs that a run must catch
"""
