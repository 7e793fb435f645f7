"""One or several numbers for each input, learned by squared error or another loss over numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from trainer.losses._measure import check_fit, check_targets, learn, mean_of, measure, predicted
from trainer.losses.soft_target import SoftTargetCrossEntropy
from trainer.task import Row, Task, Update, output_of, pair_of
from utils.errors import ConfigError
from utils.meters import Mean, Meter

__all__ = ["Regression"]

# Losses of probabilities and counts, which have a meaning in the target's own unit alone.
IN_UNIT = (nn.PoissonNLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
OVER_CLASSES = (nn.CrossEntropyLoss, SoftTargetCrossEntropy)  # they would take a row of numbers for probabilities


class Regression(Task):
    """Regression over (input, target) batches, targets [B, outputs].

    `loss` takes predictions and targets of one shape, as L1Loss, SmoothL1Loss, HuberLoss, or PoissonNLLLoss for counts.
    Without one it is MSELoss, the mean over samples and outputs. Its `reduction` sum, also written as loss "sum", is
    summed over the batch for the gradient, as in PyTorch's first tutorial, and reported per sample, so that batches of
    any size compare. `rmse` is in the target's own unit, or, of a target whose logarithm is learned, in that of the
    logarithm: Kaggle's measure of house prices.
    """

    metrics: ClassVar[Mapping[str, str]] = {"loss": "min", "rmse": "min"}
    target_kind: ClassVar[str] = "number"
    predicted_kind: ClassVar[str] = "numbers"
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(
        self,
        model: nn.Module,
        loss: Annotated[nn.Module, "loss"] | None = None,
        outputs: Sequence[Mapping[str, Any]] = (),
    ):
        """`outputs` comes from the data: for each output a name and, where the data changed it, how.

        The target that is learned is (t - mean) / std, with t = log(1 + target) if `log` is true. A loss of counts or
        probabilities gets t itself.

        Raises ConfigError for a loss that does not compare numbers.
        """
        super().__init__()
        self.model, self.loss = model, loss or nn.MSELoss()
        self.outputs = [dict(output) for output in outputs]
        name = type(self.loss).__name__
        if isinstance(self.loss, OVER_CLASSES):
            raise ConfigError(f"task.loss: {name} is over classes, and Regression learns numbers; take Classification")
        self.in_unit = isinstance(self.loss, IN_UNIT)
        if self.in_unit and (logs := [output["name"] for output in self.outputs if output.get("log")]):
            raise ConfigError(f"task.loss: {name} takes no logarithms, and data.dataset gives that of {logs[0]}")
        check_fit(self.loss, [torch.zeros(3, 2), torch.zeros(3, 2)], "predictions and numbers of one shape")

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        outputs, targets = self._pair(batch)
        return {"loss": learn(update, *measure(self.loss, outputs, self._aim(targets)), len(targets))}

    def meters(self) -> dict[str, Meter]:
        return {"loss": Mean(), "rmse": RootMean()}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        outputs, targets = self._pair(batch)
        outputs, count = outputs.float(), len(targets)
        meters["loss"].add(*mean_of(*measure(self.loss, outputs, self._aim(targets)), count))
        predictions = self._predictions(outputs)
        if "predictions" in meters:
            meters["predictions"].add(self._in_files(predictions), self._in_files(targets))
        residuals = predictions - targets  # [B, outputs]
        meters["rmse"].add((residuals * self._facts("std", 1.0, residuals)).square().mean(), count)

    def test_step(self, batch: Any) -> list[Row]:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch  # a test split may have no targets
        return self.in_units(self._predictions(self.model(inputs)))

    def in_units(self, values: Tensor) -> list[Row]:
        """Return outputs or targets [B, outputs] in the unit of the data's files, a row for each sample."""
        predictions = self._in_files(values)
        names = [output["name"] for output in self.outputs]
        names = names or (["y"] if predictions.shape[1] == 1 else [f"y{i}" for i in range(predictions.shape[1])])
        return [dict(zip(names, row, strict=True)) for row in predictions.tolist()]

    def _in_files(self, values: Tensor) -> Tensor:
        """Return outputs or targets [B, outputs] in the unit of the data's files, in double precision on the CPU.

        A logarithm's inverse is infinite where a float ends, which no submission takes.
        """
        values = values.double().cpu()
        values = values * self._facts("std", 1.0, values) + self._facts("mean", 0.0, values)
        logs = [bool(output.get("log")) for output in self.outputs]
        return torch.where(torch.tensor(logs), values.expm1(), values) if any(logs) else values

    def _facts(self, name: str, default: float, like: Tensor) -> Tensor:
        """Return a number of each output, such as its std, [outputs]; `default` where the data tell none."""
        return like.new_tensor([output.get(name, default) for output in self.outputs] or [default])

    def _aim(self, targets: Tensor) -> Tensor:
        """Return the targets as the loss takes them. Raises ConfigError for those that it does not take."""
        if not self.in_unit:
            return targets
        targets = targets * self._facts("std", 1.0, targets) + self._facts("mean", 0.0, targets)
        check_targets(self.loss, targets)
        return targets

    def _predictions(self, outputs: Tensor) -> Tensor:
        """Return the network's outputs in the unit of the batch's targets."""
        if not self.in_unit:
            return outputs
        values = predicted(self.loss, outputs)
        return (values - self._facts("mean", 0.0, values)) / self._facts("std", 1.0, values)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the network's outputs and the targets, [B, outputs].

        Raises ConfigError when they differ in shape: subtracting [B] from [B, 1] would quietly give [B, B].
        """
        inputs, targets = pair_of(batch)
        outputs = output_of(self.model, inputs, rank=targets.ndim)
        if outputs.shape != targets.shape:
            shapes = f"{list(outputs.shape)} for targets of shape {list(targets.shape)}"
            raise ConfigError(f"model: gives {shapes}; let the network have as many outputs as the data have targets")
        if self.outputs and len(self.outputs) != outputs.shape[-1]:
            raise ConfigError(f"task.outputs: names {len(self.outputs)} of {outputs.shape[-1]}; leave it out")
        return outputs, targets.float()


class RootMean(Mean):
    """The root of a mean over samples, such as the root mean squared error."""

    def value(self) -> float | None:
        mean = super().value()
        return None if mean is None else math.sqrt(mean)
