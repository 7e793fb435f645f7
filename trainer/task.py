"""Task: the part of a run that differs between problems, and the one thing to subclass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from utils.blame import place_of_method
from utils.errors import CodeError, ConfigError

if TYPE_CHECKING:
    from utils.meters import Meter
    from utils.sinks.logger import Logger

__all__ = ["Row", "Task", "Update", "Weight", "output_of", "pair_of"]

Row = dict[str, Any]  # one sample's prediction: column and value
Weight = float | Tensor | Literal["sum"] | None


class Update(Protocol):
    """The callable that a training step is handed: called with a loss, the network of that role learns from it.

    `weight` tells how batches add up to a larger one, by accumulation or over processes: None for a mean over samples;
    the number of words, pixels, … for a mean over those; "sum" for a sum.
    """

    step: int  # how many steps were taken before this one, for rules such as "each fifth batch"

    def __call__(self, loss: Tensor, role: str = "model", weight: Weight = None) -> None: ...


class Task(nn.Module, ABC):
    """Its children are the networks; its methods say what one batch does to them.

    A task holds no Python state: what must last between two steps is a registered buffer.
    """

    # The metrics of validation, and whether min or max is better; {} for a task that measures nothing, such as a GAN.
    metrics: ClassVar[Mapping[str, str]] = {"loss": "min"}
    update_every: Mapping[str, int] = MappingProxyType({})  # of roles that do not learn at each step: at each n-th
    target_kind: ClassVar[str | None] = None  # "class", "number" or "labels", for datasets whose target may be either
    # of predictions, for task.metrics_too: "classes", "pixels", "labels" or "numbers"; None: val_step tells none
    predicted_kind: ClassVar[str | None] = None
    label_classes: int | None = None  # of a task over (inputs, labels): labels are int64 [B] below it, and looked at
    loss_takes: ClassVar[int] = 2  # tensors that its loss is given
    unsaved: ClassVar[tuple[str, ...]] = ()  # children that never learn and are not stored, such as a loss network
    still: frozenset[str] = frozenset()  # paths of layers that stay in evaluation, a function of train.freeze and epoch

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; layers that are frozen whole stay in evaluation."""
        super().train(mode)
        for path in self.still:
            self.get_submodule(path).eval()
        return self

    @abstractmethod
    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        """Learn from one batch by calling `update`; give the scalars to log, each a mean over the batch."""

    def at_chance(self) -> Mapping[str, float]:
        """Return the losses of a uniform guess, by their names in `train_step`'s scalars: ln C for C classes.

        {} where a guess has no known loss.
        """
        return {}

    def outputs_due(self) -> Literal["logits", "log-probabilities", ""]:
        """Return the kind of numbers that its networks are to give, as its loss takes them; "" where any may be due."""
        return "logits" if self.at_chance() else ""

    def own_of_processes(self) -> Sequence[str]:
        """Name the numbers that each of several processes draws in a step, such as noise; dropout is known."""
        return ()

    def meters(self) -> dict[str, "Meter"]:
        """Fresh meters for one validation, by metric."""
        return {}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        """Add one batch to the meters.

        `meters["predictions"]`, if it is there, takes scores and truth for task.metrics_too: probabilities [B, C] and
        class numbers [B]; probabilities and labels of 0 and 1, [B, L]; numbers [B, outputs] in the unit of the data's
        files; predicted and true classes of pixels [N].
        """

    def test_step(self, batch: Any) -> list[Row]:
        """Predictions, one row a sample; a picture is a uint8 tensor [H, W] or [3, H, W]."""
        raise ConfigError(f"{type(self).__name__} predicts nothing for a test split; see python main.py generate")

    def predicts(self) -> str:
        """Return in words the meaning of predictions whose columns' names do not tell it; empty if they do."""
        return ""

    def show(self, logger: "Logger", step: int) -> None:
        """Draw what a person would rather look at; called after each validation."""


def pair_of(batch: Any) -> tuple[Tensor, Tensor]:
    """Return (inputs, targets) of a batch. Raises ConfigError for a batch of other parts."""
    if isinstance(batch, (list, tuple)) and len(batch) == 2 and isinstance(batch[1], Tensor):
        return batch[0], batch[1]
    parts = ", ".join(type(part).__name__ for part in (batch if isinstance(batch, (list, tuple)) else [batch]))
    raise ConfigError(f"task: it learns from an input and a target, but data.dataset gives {parts} for each sample")


def _learns(network: nn.Module) -> bool:
    """Return whether a network is in training, and has weights that learn."""
    return torch.is_grad_enabled() and network.training and any(p.requires_grad for p in network.parameters())


def output_of(network: nn.Module, inputs: Tensor, rank: int, samples: int = 0) -> Tensor:
    """Return a network's output; `samples` is its dimension of samples.

    Raises ConfigError unless it is a tensor of `rank` dimensions, CodeError for None.
    """
    found = network(inputs)
    fits = isinstance(found, Tensor) and found.ndim == rank
    rows = len(inputs) if isinstance(inputs, Tensor) else None
    given = found.shape[samples] if fits else None
    if fits and rows in (None, given) and (found.requires_grad or not _learns(network)):
        return found
    place = place_of_method(network, "forward")
    place = f"{place}: " if place else ""
    if fits:
        told = f"{given} outputs for {rows} inputs"
        if rows in (None, given):
            told = "an output that depends on no weights: is it detached, or made under torch.no_grad?"
        raise CodeError(f"{place}forward of {type(network).__name__} gives {told}")
    if found is None:
        raise CodeError(f"{place}forward of {type(network).__name__} gives None; does it lack a return?")
    kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    raise ConfigError(
        f"{place}model: {type(network).__name__} gives {kind}, but the task takes a tensor of {rank} dimensions"
    )
