# SPDX-License-Identifier: GPL-2.0-only
"""Does a packet still go the old way after a change has returned? At full rate on one core, change by change."""
