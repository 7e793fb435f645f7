"""Compare the tensors of a network with those of a file, by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["Match", "Renaming", "bare", "bare_names", "match", "renamed"]

# Names that DataParallel, DistributedDataParallel and torch.compile add to a parameter's path.
WRAPPERS = {"module", "_orig_mod"}
COUNTER = "num_batches_tracked"  # of batch norm: files from before PyTorch 0.4.1 lack it, and evaluation needs it not
SHOWN = 3  # tensors that are named of each kind

# patterns of names in a published file, and the names here, each a template or a function, as re.sub takes them
Renaming = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]


class Match(NamedTuple):
    """The tensors that a network takes of a file, by their names here, and those that found no partner, in words."""

    taken: dict[str, Tensor]
    reshaped: list[str]  # among those taken: of as many numbers, and the same sides except those of 1
    unlike: list[str]  # of another shape
    missing: list[str]  # in the file
    left: list[str]  # in the file, for which there is no place here

    @property
    def total(self) -> int:
        """The tensors of the network, except counters that the file lacks."""
        return len(self.taken) + len(self.unlike) + len(self.missing)

    def lines(self) -> list[str]:
        """Return a line for each kind of tensor that did not fit as it was."""
        kinds = (
            ("taken in another form", self.reshaped),
            ("left as they were, of another shape in the file", self.unlike),
            ("left as they were, missing in the file", self.missing),
            ("not used, unknown here", self.left),
        )
        return [f"{told} ({len(found)}): {_few(found)}" for told, found in kinds if found]


def match(own: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Match:
    """Return the tensors of a file that fit those of a network; the names of both are without wrappers."""
    found = Match({}, [], [], [], [f"{name} {_shape(there[name])}" for name in there if name not in own])
    for name, tensor in own.items():
        other = there.get(name)
        if other is None:
            if not name.endswith(COUNTER):
                found.missing.append(f"{name} {_shape(tensor)}")
        elif other.shape == tensor.shape:
            found.taken[name] = other
        elif _sides(other) == _sides(tensor):
            found.taken[name] = other.reshape(tensor.shape)
            found.reshaped.append(f"{name} {_shape(other)} as {_shape(tensor)}")
        else:
            found.unlike.append(f"{name} {_shape(other)} there and {_shape(tensor)} here")
    return found


def renamed(state: Mapping[str, Tensor], renaming: Renaming) -> dict[str, Tensor]:
    """Return the tensors of a published file under the names that they have here."""
    found = {}
    for name, tensor in state.items():
        for pattern, here in renaming:
            name = re.sub(pattern, here, name)
        found[name] = tensor
    return found


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under their names without wrappers."""
    return {bare(name): tensor for name, tensor in state.items()}


def bare(name: str) -> str:
    """Return a name without those of DataParallel, DistributedDataParallel and torch.compile."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _sides(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _few(names: list[str]) -> str:
    return "; ".join(names[:SHOWN]) + ("; …" if len(names) > SHOWN else "")
