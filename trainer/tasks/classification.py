"""One label of several for each input, learned by cross-entropy or another loss over classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.losses._measure import check_fit, entropy_of_guess, learn, mean_of, measure, outputs_due
from trainer.task import Row, Task, Update, output_of, pair_of
from utils.config.ranges import Fraction
from utils.errors import ConfigError, DataError
from utils.meters import AUC, F1, Accuracy, Confusion, Mean, Meter

__all__ = ["Classification"]


class Classification(Task):
    """A classifier over (input, label) batches.

    `loss` takes logits [B, classes] and class numbers [B], as CrossEntropyLoss with a `weight` for each class, or
    FocalLoss. Without one it is cross-entropy. `log_loss` is always plain cross-entropy.
    """

    metrics: ClassVar[Mapping[str, str]] = {
        "accuracy": "max",
        "loss": "min",
        "log_loss": "min",
        "f1": "max",
        "auc": "max",
        "top5": "max",
    }

    target_kind: ClassVar[str] = "class"
    predicted_kind: ClassVar[str] = "classes"
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str] = (),
        positive: str | None = None,
        output: str = "probability",
        label_smoothing: Fraction = 0.0,
        loss: Annotated[nn.Module, "loss"] | None = None,
    ):
        """`classes` are the names in label order; `output` and `positive` say what `test_step` writes.

        Raises ConfigError when `positive` is none of the classes, or `loss` takes no classes, DataError when there is
        but one class.
        """
        super().__init__()
        if len(classes) == 1:
            raise DataError(f"there is one class only, '{classes[0]}': nothing to tell apart; see data.dataset")
        self.model = model
        self.classes, self.label_classes = list(classes), len(classes) or None
        self.output, self.loss = output, self._loss(loss, label_smoothing)
        if positive is not None and positive not in self.classes:
            raise ConfigError(f"test.positive: no class '{positive}'; there is {', '.join(self.classes)}")
        self.positive = self.classes.index(positive) if positive is not None else len(self.classes) - 1

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        inputs, labels = pair_of(batch)
        logits = self._logits(inputs)
        loss, weight = measure(self.loss, logits, labels, checked=True)
        return {"loss": learn(update, loss, weight, len(labels))}

    def at_chance(self) -> dict[str, float]:
        count = len(self.classes)
        return {"loss": math.log(count)} if count and entropy_of_guess(self.loss, count) else {}

    def outputs_due(self) -> Literal["logits", "log-probabilities", ""]:
        return outputs_due(self.loss)

    def meters(self) -> dict[str, Meter]:
        count = len(self.classes)
        chosen: dict[str, Meter] = {"accuracy": Accuracy(), "loss": Mean(), "log_loss": Mean()}
        chosen |= {"f1": F1(count, positive=self.positive if count == 2 else None), "confusion": Confusion(count)}
        if count == 2:
            chosen["auc"] = AUC()
        return chosen | ({"top5": Accuracy(k=5)} if count > 5 else {})

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        inputs, labels = pair_of(batch)
        logits = self._logits(inputs).float()
        meters["loss"].add(*mean_of(*measure(self.loss, logits, labels, checked=True), len(labels)))
        meters["log_loss"].add(F.cross_entropy(logits, labels), len(labels))
        for name in meters.keys() & {"accuracy", "f1", "confusion", "top5"}:
            meters[name].add(logits, labels)
        if "predictions" in meters:
            meters["predictions"].add(logits.double().softmax(1), labels)
        if "auc" in meters:
            # The difference of two logits ranks as the probability does, without its ties near 0 and 1.
            logits = logits.double()
            meters["auc"].add(logits[:, self.positive] - logits[:, 1 - self.positive], labels == self.positive)

    def test_step(self, batch: Any) -> list[Row]:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch  # a test split may have no labels
        # in double precision 1 - p of a sure classifier is more than 0
        probabilities = self._logits(inputs).cpu().double().softmax(1)
        if self.output == "probability":
            return [self._probabilities(p) for p in probabilities.tolist()]
        labels = probabilities.argmax(1).tolist()
        return [{"class": self.classes[k]} if self.output == "class" else {"label": k} for k in labels]

    def predicts(self) -> str:
        """Return the class whose probability is written, of two."""
        if self.output != "probability" or len(self.classes) != 2:
            return ""
        return f"the probability of {self.classes[self.positive]} (test.positive)"

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return the probability of each class, [B, classes]."""
        return self._logits(inputs).float().softmax(1)

    def _loss(self, loss: nn.Module | None, label_smoothing: float) -> nn.Module:
        """Return the loss. Raises ConfigError for one that takes no logits of classes, or is smoothed twice."""
        if loss is None:
            return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        if label_smoothing:
            raise ConfigError(
                "task.label_smoothing: is of the loss that task.loss replaces; see task.loss.label_smoothing"
            )
        count = len(self.classes) or 2
        labels = torch.zeros(2 if count != 2 else 3, dtype=torch.int64)  # as many as classes could broadcast
        check_fit(loss, [torch.zeros(len(labels), count), labels], f"logits of {count} classes and class numbers")
        return loss

    def _logits(self, inputs: Tensor) -> Tensor:
        """Return [B, classes]. Raises ConfigError where the network gives another number of classes."""
        logits = output_of(self.model, inputs, rank=2)
        if logits.shape[1:] != (len(self.classes),):
            shape = list(logits.shape[1:])
            told = f"the data has {len(self.classes)} classes; see model.num_classes"
            if not self.classes:
                told = "the dataset does not tell its classes; give it meta = {'classes': [their names], …}"
            raise ConfigError(f"model: gives {shape} for each sample, {told}")
        return logits

    def _probabilities(self, row: list[float]) -> Row:
        """Return the positive class's probability of two classes, a column for each of more."""
        if len(row) == 2:
            return {"probability": row[self.positive]}
        return dict(zip(self.classes, row, strict=True))
