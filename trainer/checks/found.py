"""Faults and oddities that were found before a run, in words; several processes find them together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from configs import Config
from trainer.messages import explain_torch_errors
from utils import dist, errors
from utils.blame import code_error
from utils.errors import CheckpointError, ConfigError, GroupError, MemoryShortage, UserError
from utils.sinks.console import Console

__all__ = ["Found", "Heard", "slowest"]

PLAIN = "a checkpoint holds tensors and plain values"  # of the error about a state that holds others
Say = Callable[[str], None]


@dataclass
class Found:
    """The faults that would ruin the run, the oddities that may be meant, and the parts that went well, in words."""

    faults: list[UserError] = field(default_factory=list)
    odd: list[UserError] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def note(self, text: str, kind: type[UserError] = ConfigError) -> None:
        """Add an oddity, if there is one and it is not there yet."""
        if text and text.removeprefix("note: ") not in map(str, self.odd):
            self.odd.append(kind(text.removeprefix("note: ")))

    @contextmanager
    def caught(self, cfg: Config) -> Iterator[None]:
        """Add an error as a fault, in words.

        Lets a shortage of memory, the loss of another process and bugs of ours pass.
        """
        try:
            with explain_torch_errors(cfg):
                yield
        except (MemoryShortage, GroupError):
            raise
        except CheckpointError as error:  # the network is to blame: the file was written a moment ago
            self.faults.append(ConfigError(f"the network cannot be loaded from its own checkpoint: {error}"))
        except UserError as error:
            self.faults.append(error)
        except Exception as error:
            unsaved = isinstance(error, TypeError) and PLAIN in str(error)
            told = ConfigError(f"the network cannot be saved: {error}") if unsaved else code_error(error)
            if told is None:
                raise
            self.faults.append(told)

    def agree(self, place: str, before: int) -> bool:
        """Return whether no process of the group has found a fault since there were `before`, and take over theirs.

        Raises this process's own fault if others do not come to this place: they wait for it elsewhere.
        """
        own = self.faults[before:]
        ranks = dist.meet(place, _plain(own), failed=bool(own))
        if ranks is None:
            self._raise(own)
        for fault in [fault for rank in ranks or () for fault in rank]:
            if fault not in _plain(self.faults):
                self.faults += _errors([fault])
        return len(self.faults) == before

    def end(self, only: bool, say: Say) -> None:
        """Say the oddities. Raises one error with a line for each fault, and with `only` for each oddity.

        Of several processes all raise those of the first one.
        """
        if dist.world_size() > 1:
            self.faults, self.odd = map(_errors, dist.broadcast((_plain(self.faults), _plain(self.odd))))
        for error in () if only else self.odd:
            say(f"note: {error}")
        self._raise(self.faults + self.odd * only)

    def _raise(self, found: list[UserError]) -> None:
        """Raise the errors as one, with the exit code of the first."""
        if not found:
            return
        together = UserError("\n".join(map(str, found)))
        together.exit_code = found[0].exit_code
        raise found[0] if len(found) == 1 else together


def _plain(found: Sequence[UserError]) -> list[list[str]]:
    return [[type(error).__name__, str(error)] for error in found]


def _errors(plain: Sequence[Sequence[str]]) -> list[UserError]:
    """Return the errors again; of one that takes more than a text, its exit code stays."""
    made = []
    for kind, text in plain:
        error = UserError(text)
        error.exit_code = getattr(errors, kind).exit_code
        made.append(error)
    return made


def slowest(place: str, seconds: Sequence[float], failed: Exception | None) -> list[float]:
    """Return the longest of each of these times over the processes; zeros where it failed in one of them.

    Raises the error of this process if the others do not come to this place: they wait for it elsewhere.
    """
    ranks = dist.meet(place, None if failed else list(seconds), failed=failed is not None)
    if ranks is None:
        assert failed is not None
        raise failed
    known = [times for times in ranks if times is not None]
    return [max(times) for times in zip(*known, strict=True)] if len(known) == len(ranks) else [0.0] * len(seconds)


class Heard(Console):
    """Keeps what is said, and prints nothing."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)
