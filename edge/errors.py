"""One hierarchy for every error a person can meet; each knows the exit code that it ends a command with.

Every class is also the builtin it resembles, so a caller may catch either. The codes follow BSD's sysexits.
"""


class MienError(Exception):
    """Any error of Mien's own. The message says what happened, to what, and what to do next."""

    exit_code = 70


class UsageError(MienError, ValueError):
    """The command line asks for something that makes no sense."""

    exit_code = 64


class BadDataError(MienError, ValueError):
    """A file is there but is not what it should be; the message names the file and the row or key."""

    exit_code = 65


class LabelsError(BadDataError):
    """Labels that somebody gave do not fit the model."""


class InputNotFoundError(MienError, FileNotFoundError):
    """A file or folder that was named is not there or cannot be read."""

    exit_code = 66


class UnavailableError(MienError, ConnectionError):
    """A camera, broker or interpreter cannot be had right now."""

    exit_code = 69


class CameraError(UnavailableError):
    """A camera is missing, busy, silent or gone."""


class CameraSoughtError(CameraError):
    """A camera was lost and is sought again; a later read may succeed."""


class OutputError(MienError, OSError):
    """A result cannot be written; the message names the path."""

    exit_code = 73


class ConfigError(MienError, ValueError):
    """The configuration is wrong; the message names the key and what was expected."""

    exit_code = 78
