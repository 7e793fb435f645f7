"""Views of a run on request: histograms of weights and gradients, the graph; at the end hyperparameters and more."""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trainer.evaluate import undisturbed
from trainer.tasks.classification import Classification
from utils.config.convert import flatten, to_plain
from utils.device import autocast
from utils.sinks.logger import Backend
from utils.sinks.tensorboard import TensorBoard

if TYPE_CHECKING:
    from trainer.trainer import Trainer

__all__ = ["Inspector", "add_closing_views"]

MOST_VALUES = 100_000  # of a tensor, evenly, that a histogram is made of
MOST_SAMPLES = 1000  # points of an embedding


class Board(Protocol):
    """What can show histograms."""

    def histograms(self, name: str, step: int, values: Mapping[str, np.ndarray]) -> None: ...


class Inspector(Backend):
    """A backend that looks at the task when a train row comes, and tells boards what it saw; it changes nothing."""

    def __init__(self, task: nn.Module, boards: Sequence[Board], every: int, step: int):
        """`every`: steps between two looks; `step`: where the run stands."""
        self.task, self.boards, self.every = task, boards, every
        self.due = every * math.ceil((step + 1) / every)
        self.gradients: dict[str, np.ndarray] = {}
        self.hooks: list[Any] = []

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        if phase != "train":
            return
        if self.gradients:
            names = [name for name, _ in self.task.named_parameters() if name in self.gradients]
            self._tell("gradients", step, {name: self.gradients[name] for name in names})
            self._unhook()
        if step >= self.due:
            self.due = self.every * (step // self.every + 1)
            self._tell("weights", step, {name: _values(p) for name, p in self.task.named_parameters()})
            self._hook()

    def close(self) -> None:
        self._unhook()

    def _hook(self) -> None:
        """Gradients are gone after a step, so they are looked at while the next one makes them."""

        def look(name: str, parameter: Tensor) -> None:
            if name not in self.gradients and parameter.grad is not None:
                self.gradients[name] = _values(parameter.grad)

        for name, parameter in self.task.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(lambda p, name=name: look(name, p))
                self.hooks.append(hook)

    def _unhook(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.gradients = [], {}

    def _tell(self, name: str, step: int, values: Mapping[str, np.ndarray]) -> None:
        for board in self.boards:
            board.histograms(name, step, values)


def _values(tensor: Tensor) -> np.ndarray:
    """A copy of so many of its values, evenly."""
    flat = tensor.detach().flatten()
    return flat[:: math.ceil(max(1, len(flat)) / MOST_VALUES)].float().cpu().numpy().copy()


def add_closing_views(trainer: "Trainer") -> None:
    """For TensorBoard hyperparameters with the last validation's metrics; on request what a classifier has to show.

    What cannot be made costs a sentence.
    """
    for board in [board for board in trainer.logger.backends if isinstance(board, TensorBoard)]:
        metrics = {f"{name}/val": value for name, value in board.measured.items()}
        board.note(_Hyperparameters(flatten(to_plain(trainer.cfg)), metrics))
        try:
            _add_requested(trainer, board)
        except Exception as error:  # the run is done, whatever its last views are
            trainer.console.say(f"not everything is shown in TensorBoard: {' '.join(str(error).split())}")


def _add_requested(trainer: "Trainer", board: TensorBoard) -> None:
    log, task, step = trainer.cfg.log, trainer.eval_task, trainer.progress.step
    if not (log.graph or log.pr_curves or log.embedding):
        return
    if not isinstance(task, Classification) or trainer.val_batches is None:
        trainer.console.say("log.graph, log.pr_curves and log.embedding show a classifier's validation; left out here")
        return
    with undisturbed(task), torch.no_grad():
        seen = _look(trainer, task)
    if log.graph:
        board.note(partial(_add_graph, copy.deepcopy(task.model).cpu().eval(), seen["inputs"][:1].cpu()))
    if log.pr_curves:
        for k, name in enumerate(task.classes):
            truth, scores = (seen["labels"] == k).numpy(), seen["probabilities"][:, k].numpy()
            board.note(methodcaller("add_pr_curve", f"precision over recall/{name}", truth, scores, step))
    if log.embedding:
        names = [task.classes[k] for k in seen["labels"][:MOST_SAMPLES].tolist()]
        features = seen["features"][:MOST_SAMPLES]
        board.note(methodcaller("add_embedding", features, names, None, step, "validation"))


def _add_graph(network: nn.Module, inputs: Tensor, writer: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have us use another tracer
        writer.add_graph(network, inputs)


def _look(trainer: "Trainer", task: Classification) -> dict[str, Tensor]:
    """Of the validation: the first batch's inputs, labels [N], probabilities [N, C], the last layer's [N, F]."""
    assert trainer.val_batches is not None
    found: dict[str, list[Tensor]] = {"inputs": [], "labels": [], "probabilities": [], "features": []}
    last = [layer for layer in task.model.modules() if getattr(getattr(layer, "weight", None), "ndim", 0) > 1][-1]
    hook = last.register_forward_pre_hook(lambda _, args: found["features"].append(args[0].float().flatten(1).cpu()))
    try:
        for _, (inputs, labels) in trainer.val_batches.epoch(0):
            with autocast(trainer.device, trainer.cfg.train.precision):
                found["probabilities"].append(task.probabilities(inputs).cpu())
            found["labels"].append(labels.cpu())
            found["inputs"] = found["inputs"] or [inputs.float()]
    finally:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


class _Hyperparameters:
    """Into the run's own event file, where its curves are; tensorboardX would make a second run of it."""

    def __init__(self, config: Mapping[str, Any], metrics: Mapping[str, float]):
        self.config = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}
        self.metrics = dict(metrics)

    def __call__(self, writer: Any) -> None:
        from tensorboardX.summary import hparams

        for summary in hparams(self.config, self.metrics):
            writer.file_writer.add_summary(summary)
