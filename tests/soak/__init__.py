# SPDX-License-Identifier: GPL-2.0-only
"""Everything that happens to a router, all at once and for long."""
