# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong in the control plane. Each message is one line that says what to do.

ControlPlaneError
 +-- MissingDependency     a package the system must provide is not there
 +-- DataplaneError        the kernel refused a program, a map or a pin
 |    +-- AttachError      the kernel refused the program on one port
 +-- NetlinkError          the kernel answered a netlink request with an error
      +-- NetlinkOverrun   events were lost; everything known must be read anew
"""


class ControlPlaneError(Exception):
    """Base of all errors that the control plane raises on purpose."""


class MissingDependency(ControlPlaneError):
    pass


class DataplaneError(ControlPlaneError):
    def __init__(self, message: str, errno: int = 0):
        super().__init__(message)
        self.errno = errno


class AttachError(DataplaneError):
    pass


class NetlinkError(ControlPlaneError):
    def __init__(self, message: str, errno: int = 0):
        super().__init__(message)
        self.errno = errno


class NetlinkOverrun(NetlinkError):
    pass
