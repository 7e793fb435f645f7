"""One or several numbers for each input, learned by squared error."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from trainer.task import Row, Task, Update, output_of, pair_of
from utils.errors import ConfigError
from utils.meters import Mean, Meter

__all__ = ["Regression"]


class Regression(Task):
    """Regression by squared error over (input, target) batches, targets [B, outputs].

    `loss` "mean" is the mean over samples and outputs. "sum" is summed over the batch for the gradient, as in PyTorch's
    first tutorial, and reported per sample, so that batches of any size compare. `rmse` is in the target's own unit,
    or, of a target whose logarithm is learned, in that of the logarithm: Kaggle's measure of house prices.
    """

    metrics: ClassVar[Mapping[str, str]] = {"loss": "min", "rmse": "min"}
    target_kind: ClassVar[str] = "number"

    def __init__(
        self, model: nn.Module, loss: Literal["mean", "sum"] = "mean", outputs: Sequence[Mapping[str, Any]] = ()
    ):
        """`outputs` comes from the data: for each output a name and, where the data changed it, how.

        The target that is learned is (t - mean) / std, with t = log(1 + target) if `log` is true.

        Raises ValueError for another `loss`.
        """
        if loss not in ("mean", "sum"):
            raise ValueError(f"loss={loss} is neither mean nor sum")
        super().__init__()
        self.model, self.loss = model, loss
        self.outputs = [dict(output) for output in outputs]

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        squares = self._residuals(batch).square()  # [B, outputs]
        if self.loss == "mean":
            update(loss := squares.mean())
            return {"loss": loss}
        update(squares.sum(), weight="sum")
        return {"loss": squares.sum() / len(squares)}

    def meters(self) -> dict[str, Meter]:
        return {"loss": Mean(), "rmse": RootMean()}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        residuals = self._residuals(batch).float()  # [B, outputs]
        squares = residuals.square()
        meters["loss"].add(squares.mean() * (squares.shape[1] if self.loss == "sum" else 1), len(squares))
        meters["rmse"].add((residuals * self._scales(residuals)).square().mean(), len(squares))

    def test_step(self, batch: Any) -> list[Row]:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch  # a test split may have no targets
        return self.in_units(self.model(inputs))

    def in_units(self, values: Tensor) -> list[Row]:
        """Return outputs or targets [B, outputs] in the unit of the data's files, a row for each sample."""
        predictions = values.double().cpu()
        if not self.outputs:
            names = ["y"] if predictions.shape[1] == 1 else [f"y{i}" for i in range(predictions.shape[1])]
            return [dict(zip(names, row, strict=True)) for row in predictions.tolist()]
        return [self._row(values) for values in predictions.tolist()]

    def _row(self, values: list[float]) -> Row:
        """Return one sample's predictions in the unit of the data's files."""
        row = {}
        for output, value in zip(self.outputs, values, strict=True):
            t = value * output.get("std", 1.0) + output.get("mean", 0.0)
            row[output["name"]] = _exp(t) if output.get("log") else t
        return row

    def _scales(self, like: Tensor) -> Tensor:
        """Return a difference of 1 in each output in the target's unit, [outputs]."""
        return like.new_tensor([output.get("std", 1.0) for output in self.outputs] or [1.0])

    def _residuals(self, batch: Any) -> Tensor:
        """Return prediction minus target, [B, outputs].

        Raises ConfigError when they differ in shape: subtracting [B] from [B, 1] would quietly give [B, B].
        """
        inputs, targets = pair_of(batch)
        predictions = output_of(self.model, inputs, rank=targets.ndim)
        if predictions.shape != targets.shape:
            shapes = f"{list(predictions.shape)} for targets of shape {list(targets.shape)}"
            raise ConfigError(f"model: gives {shapes}; let the network have as many outputs as the data have targets")
        if self.outputs and len(self.outputs) != predictions.shape[-1]:
            raise ConfigError(f"task.outputs: names {len(self.outputs)} of {predictions.shape[-1]}; leave it out")
        return predictions - targets


class RootMean(Mean):
    """The root of a mean over samples, such as the root mean squared error."""

    def value(self) -> float | None:
        mean = super().value()
        return None if mean is None else math.sqrt(mean)


def _exp(t: float) -> float:
    """Return the inverse of log(1 + x); infinite where a float ends, which no submission takes."""
    return float(torch.tensor(t, dtype=torch.float64).expm1())
