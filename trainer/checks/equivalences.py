"""Trainings that must be equal although they go about it differently, each with its measured difference."""

import copy
import glob
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from configs import Component, Config
from configs.schema import Mix
from trainer.build import NOTHING, Parts, build
from trainer.checkpointing.compare import state_difference
from trainer.checkpointing.weights import saved_names
from trainer.evaluate import evaluate
from trainer.messages import explain_torch_errors
from trainer.run.sinks import open_outlets
from trainer.trainer import Trainer
from trainer.watchers.watcher import Outlets
from utils.runs.folder import RunFolder
from utils.runs.reading import read_rows
from utils.sinks.console import Console
from utils.sinks.logger import Logger, MemoryJournal
from utils.torch_private import is_batch_norm

__all__ = ["TESTS", "Outcome", "measure"]

STATE = ("model", "buffers", "ema", "ema_count", "update")  # of a save; the rest is the position of the run
ROUNDING = 1e-3  # share by which sums in another order may differ
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
RATE = 1e-3  # learning rate of plain SGD: Adam's first steps turn a rounded zero into a whole step


class Outcome(NamedTuple):
    """One test: in words, and whether it holds."""

    text: str
    holds: bool


class Trained(NamedTuple):
    """The state of a training and its rows, without times."""

    parts: Parts
    rows: list[dict[str, Any]]

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().double() for name, value in self.parts.state.task.named_parameters()}


def measure(name: str, cfg: Config, steps: int) -> Outcome:
    """Run the test of that name on short trainings of a config. Raises the errors of training."""
    log = replace(cfg.log, print_freq=1, visdom=False, tensorboard=False, pictures=False, histograms=None, watchers=())
    train = replace(cfg.train, max_steps=steps, max_minutes=None, early_stop=None, val_steps=None, save_steps=None)
    with explain_torch_errors(cfg):
        return TESTS[name](replace(cfg, log=log, train=train))


def _train(
    cfg: Config, prepare: Callable[[nn.Module], object] = lambda task: None, folder: Path | None = None
) -> Trained:
    """Train without a word; with a folder, everything that may watch watches."""
    quiet = Console("quiet")
    parts = build(cfg, quiet.say)
    prepare(parts.state.task)
    outlets = Outlets(quiet, Logger([], MemoryJournal()))
    if folder is not None:
        outlets = open_outlets(parts, RunFolder(folder, "selftest"), quiet, NOTHING)
    trainer = Trainer(parts.cfg, parts, outlets)
    failed = True
    try:
        trainer.fit()
        failed = False
    finally:
        trainer.close(failed)
    history = trainer.logger.history() if folder is None else read_rows(folder / "log.jsonl")
    rows = [{key: value for key, value in row.items() if key != "time"} for row in history]
    return Trained(parts, [row for row in rows if row["phase"] in ("train", "val")])


def _accumulation(cfg: Config) -> Outcome:
    """Compare one batch with two halves of it that are accumulated. Norms and dropout rest: they see batches."""
    half = max(1, (32 if cfg.data.batch_size == "auto" else cfg.data.batch_size) // 2)
    sgd = {role: Component("SGD", {"lr": RATE}) for role in cfg.optim}
    cfg = _with(cfg, data={"mix": Mix(), "sampler": None})  # they depend on the batch, too
    cfg = replace(cfg, optim=sgd, schedule={}, train=replace(cfg.train, clip=None, ema=None, precision="fp32"))
    steps, times = min(cfg.train.max_steps or 1, 2), cfg.train.accumulate
    whole = _with(cfg, data={"batch_size": 2 * half}, train={"max_steps": steps})
    halves = _with(cfg, data={"batch_size": half}, train={"accumulate": 2 * times, "max_steps": 2 * steps})
    one, two = _train(whole, _calm), _train(halves, _calm)
    moved = _distance(one.weights(), _initial(whole))
    share = _distance(one.weights(), two.weights()) / max(moved, 1e-30)
    text = f"batches of {2 * half} and of {half} accumulated: the steps differ by {share:.1e} of their length"
    return Outcome(text, share < ROUNDING)


def _initial(cfg: Config) -> dict[str, torch.Tensor]:
    """Return the weights before the first step."""
    parts = build(cfg, Console("quiet").say)
    parts.train_loader.close()
    return {name: value.detach().double() for name, value in parts.state.task.named_parameters()}


def _calm(task: nn.Module) -> None:
    """Keep norms in evaluation and dropout off: both depend on the batch, so that no halves can equal a whole."""
    for module in task.modules():
        if is_batch_norm(module):
            module.eval()
            module.train = lambda mode=True, kept=module: kept  # type: ignore
        elif isinstance(module, DROPOUTS):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0


def _distance(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float:
    return float(sum((one[name] - two[name]).square().sum() for name in one) ** 0.5)


def _workers(cfg: Config) -> Outcome:
    """Compare reading in this process and in two others."""
    runs = [_train(_with(cfg, data={"num_workers": n, "loader": "processes"})) for n in (0, 2)]
    return _same("0 and 2 data processes", *runs)


def _watchers(cfg: Config) -> Outcome:
    """Compare a training without any watcher and one with all of them."""
    log = {"histograms": 1, "pictures": True, "pr_curves": True}
    with tempfile.TemporaryDirectory() as folder:
        return _same("no watcher and all of them", _train(cfg), _train(_with(cfg, log=log), folder=Path(folder)))


def _compile(cfg: Config) -> Outcome:
    """Compare the losses of a compiled network and of one that is not."""
    eager, compiled = (_train(_with(cfg, train={"compile": on, "precision": "fp32"})) for on in (False, True))
    share = _share(eager.rows, compiled.rows)
    return Outcome(f"compiled and not: losses and metrics differ by {share:.1e} of their size", share < ROUNDING)


def _validation(cfg: Config) -> Outcome:
    """Compare the metrics of validation batches of one size and of another."""
    trained = _train(cfg)
    assert trained.parts.cfg.data.batch_size != "auto"
    size = cfg.data.eval_batch_size or int(trained.parts.cfg.data.batch_size)
    other = max(1, size // 3)
    numbers = []
    for batch in (size, size, other):
        parts = build(_with(cfg, data={"eval_batch_size": batch}), Console("quiet").say)
        numbers.append(evaluate(trained.parts.state.eval_task, parts.val_loader, parts.cfg, parts.device)[0])
        for loader in filter(None, (parts.train_loader, parts.val_loader)):
            loader.close()
    if not numbers[0]:
        return Outcome("the task validates nothing", True)
    share = _share([numbers[0]], [numbers[2]])
    twice = "" if numbers[0] == numbers[1] else "; twice the same gives two results"
    text = f"batches of {size} and of {other}: the metrics differ by {share:.1e} of their size{twice}"
    return Outcome(text, share < ROUNDING and not twice)


def _save_load(cfg: Config) -> Outcome:
    """Compare a state with one that was saved and read back, and the metrics of both."""
    trained = _train(cfg)
    state, stream = trained.parts.state, io.BytesIO()
    torch.save(state.state_dict(), stream)
    stream.seek(0)
    stored = torch.load(stream, weights_only=True)
    parts = build(cfg, Console("quiet").say, copy.deepcopy(stored))
    again = parts.state.state_dict()
    kept, read_back = ({part: whole.get(part) for part in STATE} for whole in (stored, again))
    wrong = state_difference(kept, read_back)
    loaders = [parts.train_loader, parts.val_loader]
    one, two = (evaluate(s.eval_task, parts.val_loader, parts.cfg, parts.device)[0] for s in (state, parts.state))
    for loader in filter(None, loaders):
        loader.close()
    share = _share([one], [two])
    text = f"a state that was saved and read back differs in {wrong or 'nothing'}; its metrics by {share:.1e}"
    return Outcome(text, not wrong and share == 0)


def _frozen(cfg: Config) -> Outcome:
    """Compare frozen weights and statistics before and after a training; without train.freeze, half of each network."""
    if not (told := cfg.train.freeze):
        cfg = _with(cfg, train={"freeze": _half(cfg), "unfreeze": {str(10**6): ["*"]}})
        if not cfg.train.freeze:
            return Outcome("no network has two tensors, so that none can be frozen", True)
    parts = build(cfg, Console("quiet").say)
    parts.train_loader.close()
    before = {name: value.clone() for name, value in parts.state.task.state_dict().items()}
    state = _train(cfg).parts.state
    frozen = state.freezing.at(state.progress.epoch)
    moved = {name: (value.double() - before[name].double()) for name, value in state.task.state_dict().items()}
    largest = {name: float(change.abs().max()) for name, change in moved.items() if change.numel()}
    kept = {name for name in largest if name in frozen or any(name.startswith(f"{path}.") for path in state.task.still)}
    changed = max((largest[name] for name in kept), default=0.0)
    known = {p for step in state.update.steps.values() for p, own in step.optimizer.state.items() if own}
    names = [name for name, p in state.task.named_parameters() if name in frozen and p in known]
    text = state.freezing.tell(state.progress.epoch).partition(" (")[0].removeprefix("frozen: ")
    text += "" if told else " (half of each network: train.freeze is not set)"
    text += f"; they and their statistics differ by {changed:.1e} after {state.progress.step} steps"
    text += f", the others by {max((largest[name] for name in largest.keys() - kept), default=0.0):.1e}"
    text += f"; the optimizer keeps a state of {', '.join(names[:3]) or 'none of them'}"
    return Outcome(text, changed == 0 and not names)


def _half(cfg: Config) -> tuple[str, ...]:
    """Return the names of the first half of the weights of each network that learns."""
    parts = build(cfg, Console("quiet").say)
    parts.train_loader.close()
    saved, found = saved_names(parts.state.task), []
    for role, step in parts.state.update.steps.items():
        learn = {id(p) for p in step.params}
        own = [
            name for name, p in parts.state.task.named_parameters() if id(p) in learn and name.startswith(f"{role}.")
        ]
        found += [glob.escape(saved[name]) for name in own[: len(own) // 2]]
    return tuple(found)


def _same(what: str, one: Trained, two: Trained) -> Outcome:
    """Compare two trainings to the last bit."""
    left, right = ({"model": run.parts.state.state_dict()["model"]} for run in (one, two))
    equal = not state_difference(left, right)
    if equal and one.rows == two.rows:
        return Outcome(f"{what}: the same to the last bit", True)
    share = _share(one.rows, two.rows)
    return Outcome(f"{what}: {'weights' if not equal else 'rows'} differ, losses by {share:.1e} of their size", False)


def _share(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest difference of two numbers of the same name, as a share of the larger one."""
    pairs = [(a[key], b[key]) for a, b in zip(one, two, strict=False) for key in a.keys() & b.keys() if key != "phase"]
    return max((abs(x - y) / max(abs(x), abs(y), 1e-12) for x, y in pairs), default=0.0)


def _with(cfg: Config, **sections: Mapping[str, Any]) -> Config:
    return replace(cfg, **{name: replace(getattr(cfg, name), **values) for name, values in sections.items()})


TESTS: dict[str, Callable[[Config], Outcome]] = {
    "accumulation": _accumulation,
    "workers": _workers,
    "compile": _compile,
    "validation": _validation,
    "save_load": _save_load,
    "watchers": _watchers,
    "frozen": _frozen,
}
