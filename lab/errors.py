"""What a lab can fail with.

    LabError                 a lab could not be built, entered or removed
      TopologyError          a topology file is wrong, or there is none of that name
      LabTimeout             something bounded did not happen in time (also a TimeoutError)

Every message is one line that a person can act upon.
"""


class LabError(Exception):
    """A lab could not be built, entered or removed."""


class TopologyError(LabError):
    """A topology file is wrong (the message names file and key), or there is none of that name."""


class LabTimeout(LabError, TimeoutError):
    """Something bounded did not happen in time."""
