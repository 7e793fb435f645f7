"""The errors that are told to the user in one sentence, each with its exit code."""

from collections.abc import Sequence

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "MemoryShortage",
    "NonFiniteError",
    "StorageError",
    "UserError",
    "WorkerError",
]


class UserError(Exception):
    """Something the user can mend; the text says what is wrong, where, and what to do."""

    exit_code = 1


class ConfigError(UserError):
    """Mistakes in a config file or on the command line, one a line."""

    exit_code = 2


class DataError(UserError):
    """Data that is missing, unreadable or of the wrong kind."""

    exit_code = 3


class CheckpointError(UserError):
    """No checkpoint there, or none that can be used."""

    exit_code = 4


class StorageError(UserError):
    """A file that could not be written: disk full, folder not writable."""

    exit_code = 5


class NonFiniteError(UserError):
    """A loss or a gradient that is not finite; `steps`: those that may be to blame, if it is not the last alone."""

    exit_code = 6

    def __init__(self, message: str, steps: Sequence[int] = ()):
        super().__init__(message)
        self.steps = steps


class WorkerError(UserError):
    """The processes that load data were lost."""

    exit_code = 7


class MemoryShortage(UserError):
    """The device or the machine has no memory left."""

    exit_code = 8
