# SPDX-License-Identifier: GPL-2.0-only
"""Errors that end a command, each with its exit code. The message is one line that says what to do.

XdprouterError (1: failed)
 +-- UsageError (2: usage or configuration)
 +-- NoDaemon   (3: no daemon in this instance)
"""


class XdprouterError(Exception):
    exit_code = 1


class UsageError(XdprouterError):
    exit_code = 2


class NoDaemon(XdprouterError):
    exit_code = 3
