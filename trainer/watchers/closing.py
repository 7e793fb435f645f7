"""ClosingViews: for TensorBoard, what only the end of a run can show."""

import copy
import warnings
from collections.abc import Mapping
from functools import partial
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor, nn

from data.loading.loader import Loader
from trainer.evaluate import evaluating
from trainer.watchers.watcher import Run, Watcher
from utils.config.convert import flatten, to_plain
from utils.device import autocast

__all__ = ["ClosingViews"]

MOST_SAMPLES = 1000  # points of an embedding


class ClosingViews(Watcher):
    """Hyperparameters with the last validation's metrics; on request what a classifier has to show.

    `log.graph`, `log.pr_curves` and `log.embedding` ask for it. What cannot be made costs a sentence.
    """

    def __init__(self) -> None:
        self.numbers: Mapping[str, float] = {}  # of the last validation

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        self.numbers = numbers

    def end(self, run: Run) -> None:
        if not run.logger.shown("events"):
            return
        metrics = {f"{name}/val": value for name, value in self.numbers.items()}
        run.logger.event(_Hyperparameters(flatten(to_plain(run.cfg)), metrics))
        try:
            _add_requested(run)
        except Exception as error:  # the run is done, whatever its last views are
            run.say(f"not everything is shown in TensorBoard: {' '.join(str(error).split())}")


def _add_requested(run: Run) -> None:
    log, step = run.cfg.log, run.progress.step
    task: Any = run.eval_task
    if not (log.graph or log.pr_curves or log.embedding):
        return
    if not hasattr(task, "probabilities") or run.val_loader is None:
        run.say("log.graph, log.pr_curves and log.embedding show a classifier's validation; left out here")
        return
    with evaluating(task), torch.no_grad():
        seen = _look(run, run.val_loader, task)
    if log.graph:
        run.logger.event(partial(_add_graph, copy.deepcopy(task.model).cpu().eval(), seen["inputs"][:1].cpu()))
    if log.pr_curves:
        for k, name in enumerate(task.classes):
            truth, scores = (seen["labels"] == k).numpy(), seen["probabilities"][:, k].numpy()
            run.logger.event(methodcaller("add_pr_curve", f"precision over recall/{name}", truth, scores, step))
    if log.embedding:
        names = [task.classes[k] for k in seen["labels"][:MOST_SAMPLES].tolist()]
        features = seen["features"][:MOST_SAMPLES]
        run.logger.event(methodcaller("add_embedding", features, names, None, step, "validation"))


def _add_graph(network: nn.Module, inputs: Tensor, writer: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have us use another tracer
        writer.add_graph(network, inputs)


def _look(run: Run, loader: Loader, task: Any) -> dict[str, Tensor]:
    """Return of the validation the first batch's inputs, labels [N], probabilities [N, C], the last layer's [N, F]."""
    found: dict[str, list[Tensor]] = {"inputs": [], "labels": [], "probabilities": [], "features": []}
    last = [layer for layer in task.model.modules() if getattr(getattr(layer, "weight", None), "ndim", 0) > 1][-1]
    hook = last.register_forward_pre_hook(lambda _, args: found["features"].append(args[0].float().flatten(1).cpu()))
    try:
        for _, (inputs, labels) in loader.epoch(0):
            with autocast(run.device, run.cfg.train.precision):
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
