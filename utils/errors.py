"""The errors that the user sees as one sentence, each with its exit code."""

from collections.abc import Sequence

__all__ = [
    "CheckpointError",
    "CodeError",
    "ConfigError",
    "DataError",
    "DifferenceError",
    "GroupError",
    "LinesError",
    "MemoryShortage",
    "NonFiniteError",
    "PictureError",
    "StorageError",
    "UserError",
    "WorkerError",
    "is_memory_shortage",
]

# of memory, in torch's words and CUDA's; the last one is of memory beyond 64 bits
SHORTAGES = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED", "Storage size calculation overflowed")


class UserError(Exception):
    """An error that the user can mend; its text names the fault, its place and the remedy."""

    exit_code = 1


class ConfigError(UserError):
    """Mistakes in a config file or on the command line, one a line."""

    exit_code = 2


class DifferenceError(ConfigError):
    """A difference between the processes of a group; all of them raise it, and the first one tells it."""


class DataError(UserError):
    """Data that is missing, unreadable or of the wrong kind."""

    exit_code = 3


class PictureError(DataError):
    """A picture that cannot be read."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"cannot read the picture {self.path} ({self.reason}); remove it or replace it"


class LinesError(DataError):
    """Faults in lines of a text file: `found` holds (line, message) of each."""

    def __init__(self, message: str, path: str, found: Sequence[tuple[int, str]]):
        super().__init__(message, path, found)
        self.message, self.path, self.found = message, path, list(found)

    def __str__(self) -> str:
        return self.message


class CheckpointError(UserError):
    """A checkpoint that is missing or cannot be used."""

    exit_code = 4


class StorageError(UserError):
    """A file that could not be written: the disk is full, or the folder is not writable."""

    exit_code = 5


class NonFiniteError(UserError):
    """A loss or a gradient that is not finite; `steps` are the suspects, if it is not the last step alone."""

    exit_code = 6

    def __init__(self, message: str, steps: Sequence[int] = ()):
        super().__init__(message)
        self.steps = steps


class WorkerError(UserError):
    """Too many processes that load data were lost."""

    exit_code = 7


class MemoryShortage(UserError):
    """The device or the machine has no memory left."""

    exit_code = 8


class GroupError(UserError):
    """Another process of the group was lost; `late`: it is there, or its connection is, and does not answer.

    `first`: all processes before this one are known not to answer, so that this one tells it.
    """

    exit_code = 9

    def __init__(self, message: str, late: bool = False, first: bool = False):
        super().__init__(message)
        self.late, self.first = late, first


class CodeError(UserError):
    """A mistake in a file of the user's own: a model, a dataset, a task, a loss, a watcher or a notebook cell."""

    exit_code = 10


def is_memory_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory ran out."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SHORTAGES)
