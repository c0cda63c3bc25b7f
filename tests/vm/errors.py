# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong here is one class: the machine lacks something, or a guest did not answer."""


class GuestError(Exception):
    """A kernel that cannot be had, or a guest that panicked, hung or wrote no result. One line; `console` has more."""

    def __init__(self, message: str, console: str = ""):
        super().__init__(message)
        self.console = console
        """The last lines of the guest's console"""
