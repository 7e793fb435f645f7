"""How a task uses a loss: its value over a batch, the weight of that batch among others, and whether it fits at all."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import mixed_fault
from trainer.losses.focal import FocalLoss
from trainer.losses.soft_target import SoftTargetCrossEntropy
from trainer.task import Update, Weight
from utils.blame import place_of_method
from utils.errors import ConfigError, is_memory_shortage
from utils.words import reason_of

__all__ = [
    "check_fit",
    "check_mixed",
    "check_targets",
    "check_weights",
    "entropy_of_guess",
    "learn",
    "mean_of",
    "measure",
    "outputs_due",
    "predicted",
    "unfit",
]

OF_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss, FocalLoss, SoftTargetCrossEntropy)

OF_SIGNS = (nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.CosineEmbeddingLoss, nn.MarginRankingLoss)

TINY = 1e-12  # a batch whose samples all have the weight 0 has the loss 0
NEAR = 1e-4  # a target that was standardised may come back a little beside its place
BROADCAST = "Using a (input|target) size"  # of torch's warning about inputs of unequal shapes


def measure(loss: nn.Module, *inputs: Any, checked: bool = False) -> tuple[Tensor, Weight]:
    """Return a loss over a batch, in fp32, and the weight of the batch among others, as `update` takes it.

    `checked`: class numbers are known to be none of those that do not count.
    """
    device = next((part.device.type for part in inputs if isinstance(part, Tensor)), "cpu")
    if not torch.is_autocast_enabled(device):
        return _measure(loss, inputs, checked)
    with torch.autocast(device, enabled=False):
        floats = [p.float() if isinstance(p, Tensor) and p.is_floating_point() else p for p in inputs]
        return _measure(loss, floats, checked)


def _measure(loss: nn.Module, inputs: Sequence[Any], checked: bool) -> tuple[Tensor, Weight]:
    over_classes = isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) and loss.reduction == "mean"
    if over_classes and (factors := _factors(loss, inputs[1], checked)) is not None:
        weight = factors.sum()
        return _sum(loss, *inputs) / weight.clamp(min=TINY), weight
    value = _ctc(loss, inputs) if isinstance(loss, nn.CTCLoss) else loss(*inputs)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"{list(value.shape)} numbers" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ConfigError(f"task.loss: {type(loss).__name__} gives {given} for a batch; it must give one number")
    if getattr(loss, "reduction", "mean") == "sum":
        return value, "sum"
    weight_of = getattr(loss, "weight_of", None)
    return value, weight_of(*inputs) if weight_of else None


def _ctc(loss: nn.CTCLoss, inputs: Sequence[Any]) -> Tensor:
    """Return the loss; on the CPU where the same bits are asked for, which no algorithm of a GPU gives."""
    if not torch.are_deterministic_algorithms_enabled():
        return loss(*inputs)
    return loss(*(part.cpu() if isinstance(part, Tensor) else part for part in inputs)).to(inputs[0].device)


def _factors(loss: Any, targets: Tensor, checked: bool) -> Tensor | None:
    """Return the factor of each target in the mean of a loss over classes; None if all are 1."""
    if targets.is_floating_point():  # probabilities of the classes; torch divides by the number of samples
        return None
    if loss.weight is None and checked and loss.ignore_index < 0:
        return None
    counted = targets != loss.ignore_index
    return counted.float() if loss.weight is None else loss.weight[targets.where(counted, 0)] * counted


def _sum(loss: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the same loss as a sum over the batch."""
    options: dict[str, Any] = {"weight": loss.weight, "ignore_index": loss.ignore_index, "reduction": "sum"}
    if isinstance(loss, nn.CrossEntropyLoss):
        return F.cross_entropy(outputs, targets, label_smoothing=loss.label_smoothing, **options)
    return F.nll_loss(outputs, targets, **options)


def learn(update: Update, value: Tensor, weight: Weight, samples: int) -> Tensor:
    """Learn from a loss and return it as it is told: a sum over the batch as its mean over the samples."""
    if weight is None:
        update(value)
    else:
        update(value, weight=weight)
    return value / samples if isinstance(weight, str) else value


def mean_of(value: Tensor, weight: Weight, samples: int) -> tuple[Tensor, float | Tensor]:
    """Return a loss as a mean, and the number of samples, words or pixels that it is a mean over."""
    if isinstance(weight, str):
        return value / samples, samples
    return value, samples if weight is None else weight


def check_fit(loss: nn.Module, inputs: Sequence[Any], takes: str) -> None:
    """Raises ConfigError for a loss that does not take such inputs; `takes` tells in words which those are."""
    check_weights(loss)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=BROADCAST)
            measure(copy.deepcopy(loss), *inputs)
    except ConfigError:
        raise
    except Exception as error:
        if (told := unfit(loss, takes, error)) is None:
            raise
        raise told from error


def check_targets(loss: nn.Module, targets: Any) -> None:
    """Raises ConfigError for targets that make no sense to a loss of torch, which takes them without a word.

    In training on a GPU nothing is looked at: the host would wait for each number.
    """
    if not isinstance(targets, Tensor) or (targets.device.type != "cpu" and torch.is_grad_enabled()):
        return
    if isinstance(loss, nn.BCEWithLogitsLoss):
        takes, wrong = "from 0 to 1", (targets < -NEAR) | (targets > 1 + NEAR)
    elif isinstance(loss, OF_SIGNS):
        takes, wrong = "of 1 or -1", targets.abs() != 1
    elif isinstance(loss, nn.PoissonNLLLoss):
        takes, wrong = "from 0 on", targets < -NEAR * targets.abs().max().clamp(min=1)
    else:
        return
    if wrong.any():
        raise ConfigError(
            f"task.loss: {type(loss).__name__} takes targets {takes}, and the data give {float(targets[wrong][0]):g}; "
            "take another loss, or see data.dataset"
        )


def check_mixed(loss: nn.Module, classes: int) -> None:
    """Raises ConfigError for a loss that takes class numbers only, where data.mix makes shares of classes of them."""
    device = next((buffer.device for buffer in loss.buffers()), torch.device("cpu"))
    shares = torch.full((3, classes), 1 / classes, device=device)
    try:
        with torch.no_grad():
            measure(copy.deepcopy(loss), torch.zeros_like(shares), shares)
    except Exception as error:
        if is_memory_shortage(error):
            raise
        raise ConfigError(mixed_fault(type(loss).__name__)) from error


def check_weights(loss: nn.Module) -> None:
    """Raises ConfigError for a loss with weights that would learn."""
    if learning := [name for name, p in loss.named_parameters() if p.requires_grad]:
        raise ConfigError(
            f"task.loss: {type(loss).__name__} has weights of its own ({learning[0]}), which would not learn: a loss "
            "has no optimizer; make it a part of the network"
        )


def unfit(loss: nn.Module, takes: str, error: Exception) -> ConfigError | None:
    """Return the sentence about inputs that a loss refuses; None for a bug in a loss of the user's own."""
    place = place_of_method(loss, "forward")  # empty for those of torch
    if is_memory_shortage(error) or (place and not isinstance(error, ValueError)):
        return None
    where = f"; {place}" if place else ""
    reason = reason_of(error).partition(". ")[0]
    other = "" if "task.route" in takes else "; task=Supervised gives a loss any parts of a batch"
    return ConfigError(f"task.loss: {type(loss).__name__} does not take {takes} ({reason}{where}){other}")


def predicted(loss: nn.Module, outputs: Tensor) -> Tensor:
    """Return the predictions that a network's outputs stand for: some losses take logarithms or logits."""
    if isinstance(loss, nn.PoissonNLLLoss) and loss.log_input:
        return outputs.exp()
    return outputs.sigmoid() if isinstance(loss, nn.BCEWithLogitsLoss) else outputs


def outputs_due(loss: Any) -> Literal["logits", "log-probabilities", ""]:
    """Return the kind of numbers that a loss of classes or labels takes; "" for one that is not known."""
    if isinstance(loss, nn.NLLLoss):
        return "log-probabilities"
    return "logits" if isinstance(loss, OF_LOGITS) else ""


def entropy_of_guess(loss: Any, classes: int) -> bool:
    """Return whether a uniform guess among the classes has the loss ln C, also as validation measures it."""
    plain = isinstance(loss, nn.CrossEntropyLoss) and loss.reduction == "mean" and loss.weight is None
    return plain and not 0 <= loss.ignore_index < classes
