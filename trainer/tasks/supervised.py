"""Any loss of torch.nn or of one's own: a route says which parts of a batch, and which outputs, it is given."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.losses._measure import check_targets, check_weights, learn, mean_of, measure, predicted, unfit
from trainer.task import Row, Task, Update, Weight
from utils.blame import place_of_method
from utils.config.route import Entry, read_entry, route_fault
from utils.errors import CodeError, ConfigError
from utils.meters import Mean, Meter

__all__ = ["Supervised"]

# The routes of torch's losses that are not given (an output, a target).
PAIR, TRIPLET = ("model(0)", "model(1)", "2"), ("model(0)", "model(1)", "model(2)")
ROUTES: dict[str, tuple[str, ...]] = {
    "CosineEmbeddingLoss": PAIR,
    "MarginRankingLoss": PAIR,
    "HingeEmbeddingLoss": ("model(0, 1)", "2"),  # a network that gives the distance of two inputs
    "TripletMarginLoss": TRIPLET,
    "TripletMarginWithDistanceLoss": TRIPLET,
    "CTCLoss": ("model(0)", "1", "2", "3"),
    "GaussianNLLLoss": ("model(0)", "1", "2"),
}
# Losses that compare number with number: shapes that only broadcast would give a wrong loss without a word.
EVEN: tuple[type[nn.Module], ...] = (nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.KLDivLoss)
EVEN += (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss, nn.PoissonNLLLoss)
EVEN += (nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.MarginRankingLoss)
Hits = Callable[..., Tensor]


class Supervised(Task):
    """A network and a loss of any arguments, which `route` names in their order.

    An entry is a part of the batch, by its number ("1") or its name where a batch has names, or the network on parts of
    it: "model(0)", "model(0, 2)". Without a route it is ["model(0)", "1"], or as usual for the loss: ["model(0)",
    "model(1)", "model(2)"] for TripletMarginLoss, ["model(0)", "1", "2", "3"] for CTCLoss. Of losses that compare
    number with number, whole numbers are taken as floats, and [B, 1] beside [B] as [B]. `accuracy` is there for losses
    that tell right from wrong.
    """

    metrics: ClassVar[Mapping[str, str]] = {"loss": "min", "accuracy": "max"}
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(self, model: nn.Module, loss: Annotated[nn.Module, "loss"], route: Sequence[str] | None = None):
        """Raises ConfigError for a route that cannot be read, or does not fit the loss."""
        super().__init__()
        self.model, self.loss = model, loss
        name, takes = type(loss).__name__, _arguments(loss)
        chosen = route if route is not None else getattr(loss, "route", ROUTES.get(name, ("model(0)", "1")))
        fault = route_fault(chosen, takes, name)
        if fault and route is None:
            fault = (
                f"task.route: {name} takes {', '.join(takes)}: say which parts of a batch these are, as [model(0), 1]"
            )
        if fault:
            raise ConfigError(fault)
        check_weights(loss)
        self.route = tuple(map(read_entry, chosen))
        self.hits = _hits(loss)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        value, weight = self._measure(self._inputs(batch))
        return {"loss": learn(update, value, weight, _count(batch))}

    def meters(self) -> dict[str, Meter]:
        return {"loss": Mean()} | ({"accuracy": Mean()} if self.hits else {})

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        inputs = self._inputs(batch)
        meters["loss"].add(*mean_of(*self._measure(inputs), _count(batch)))
        if self.hits:
            right = self.hits(*inputs)
            counted = _counted(self.loss, right, inputs[-1])
            count = counted.sum()
            meters["accuracy"].add((right & counted).sum() / count.clamp(min=1), count)

    def test_step(self, batch: Any) -> list[Row]:
        """Return the outputs for the first entry of the route that calls the network, a column for each number."""
        entry = next(entry for entry in self.route if entry.network)
        outputs = predicted(self.loss, self._value(entry, batch).float()).double().cpu()
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        if outputs.ndim != 2 or len(outputs) != _count(batch):
            raise ConfigError(f"task: {entry} gives outputs of shape {list(outputs.shape)}, which fit into no row each")
        names = ["y"] if outputs.shape[1] == 1 else [f"y{i}" for i in range(outputs.shape[1])]
        return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]

    def predicts(self) -> str:
        return f"the outputs of {next(entry for entry in self.route if entry.network)}"

    def _measure(self, inputs: Sequence[Any]) -> tuple[Tensor, Weight]:
        """Return the loss and the batch's weight. Raises ConfigError for inputs that the loss does not take."""
        check_targets(self.loss, inputs[-1])
        try:
            return measure(self.loss, *inputs)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            given = ", ".join(f"{entry}: {_shown(part)}" for entry, part in zip(self.route, inputs, strict=True))
            if (told := unfit(self.loss, f"what task.route gives it ({given})", error)) is None:
                raise
            raise told from error

    def _inputs(self, batch: Any) -> list[Any]:
        """Return the arguments of the loss; the network is called once for each different entry, in their order."""
        known: dict[Entry, Any] = {}
        for entry in self.route:
            if entry not in known:
                known[entry] = self._value(entry, batch)
        return self._even([known[entry] for entry in self.route])

    def _value(self, entry: Entry, batch: Any) -> Any:
        parts = [_part(batch, part, entry) for part in entry.parts]
        if not entry.network:
            return parts[0]
        found = self.model(*parts)
        if isinstance(found, Tensor):
            return found
        place = place_of_method(self.model, "forward")
        given = "None; does it lack a return?" if found is None else f"a {type(found).__name__}, not one tensor"
        raise CodeError(f"{place + ': ' if place else ''}forward of {type(self.model).__name__} gives {given}")

    def _even(self, inputs: list[Any]) -> list[Any]:
        """Return the arguments of one shape and type for a loss that compares number with number.

        Raises ConfigError for other shapes.
        """
        if not isinstance(self.loss, EVEN) or not all(isinstance(part, Tensor) for part in inputs):
            return inputs
        least = min(part.ndim for part in inputs)
        inputs = [part.squeeze(1) if part.ndim == least + 1 == 2 and part.shape[1] == 1 else part for part in inputs]
        if len({part.shape for part in inputs}) > 1:
            shapes = ", ".join(f"{entry}: {list(p.shape)}" for entry, p in zip(self.route, inputs, strict=True))
            raise ConfigError(
                f"task.route: {type(self.loss).__name__} compares tensors of one shape, not {shapes}; see model"
            )
        return [part if part.is_floating_point() else part.float() for part in inputs]


def _arguments(loss: nn.Module) -> list[str]:
    """Return the arguments that a loss must be given; [] where it takes any."""
    found = signature(loss.forward).parameters.values()
    if any(one.kind is Parameter.VAR_POSITIONAL for one in found):
        return []
    return [one.name for one in found if one.default is Parameter.empty]


def _part(batch: Any, part: int | str, entry: Entry) -> Any:
    """Return a part of a batch. Raises ConfigError for one that is not there."""
    if isinstance(batch, Mapping):
        if part in batch:
            return batch[part]
        raise ConfigError(f"task.route: '{entry}': the batch has no '{part}'; it has {', '.join(map(str, batch))}")
    parts = batch if isinstance(batch, (list, tuple)) else [batch]
    if isinstance(part, int) and part < len(parts):
        return parts[part]
    count = f"{len(parts)} parts, counted from 0" if len(parts) > 1 else "one part, 0"
    raise ConfigError(f"task.route: '{entry}': the batch has no part {part}; it has {count}, see data.dataset")


def _count(batch: Any) -> int:
    """Return the number of samples of a batch."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    return len(parts[0] if isinstance(parts, (list, tuple)) else parts)


def _shown(part: Any) -> str:
    if isinstance(part, Tensor):
        kind = "" if part.dtype == torch.float32 else f"{str(part.dtype).removeprefix('torch.')} "
        return f"{kind}{list(part.shape)}"
    return type(part).__name__


def _hits(loss: nn.Module) -> Hits | None:
    """Return the function that says from a loss's arguments which samples are right; None for a loss that cannot."""
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)):
        return _classes
    if isinstance(loss, (nn.BCELoss, nn.BCEWithLogitsLoss)):
        return lambda outputs, targets: (predicted(loss, outputs) > 0.5) == (targets > 0.5)
    if isinstance(loss, nn.SoftMarginLoss):
        return lambda outputs, targets: (outputs > 0) == (targets > 0)
    if isinstance(loss, nn.MarginRankingLoss):
        return lambda one, other, order: (one - other) * order > 0
    if isinstance(loss, nn.TripletMarginLoss):
        distance = partial(F.pairwise_distance, p=loss.p)
        return lambda anchor, near, far: distance(anchor, near) < distance(anchor, far)
    return None


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return which classes are right; targets that are probabilities mean the likeliest class."""
    return outputs.argmax(1) == (targets.argmax(1) if targets.is_floating_point() else targets)


def _counted(loss: nn.Module, right: Tensor, targets: Any) -> Tensor:
    """Return which of the samples count: not those whose class is the loss's `ignore_index`."""
    if not hasattr(loss, "ignore_index") or targets.is_floating_point():
        return torch.ones_like(right)
    return targets != loss.ignore_index
