# SPDX-License-Identifier: GPL-2.0-only
"""Errors that end a command, each with its exit code. The message is one line that says what to do.

XdprouterError (1: failed)
 +-- UsageError (2: usage or configuration)
 |    +-- WrongValue (in a configuration)
 +-- NoAnswer   (1: a daemon that does not answer in time)
 +-- NoDaemon   (3: no daemon in this instance)
"""


class XdprouterError(Exception):
    exit_code = 1


class UsageError(XdprouterError):
    exit_code = 2


class WrongValue(UsageError):
    """`at`: the keys and indexes that lead to it in TOML's tables, such as ("port", 2, "mode")."""

    def __init__(self, message: str, *at: str | int):
        super().__init__(message)
        self.at = at


class NoAnswer(XdprouterError):
    pass


class NoDaemon(XdprouterError):
    exit_code = 3
