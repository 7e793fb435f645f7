"""The command test: the predictions of one run or of several, checked before they are written."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from configs import COMPONENTS, Config, more_metrics
from data.protocol import cells_of, facts_of, files_of, identity_of, ids_of
from trainer.evaluate import predict
from trainer.inference.bare import open_weights
from trainer.inference.trained import LoadedRun
from trainer.inference.viewed import with_views
from trainer.last_epochs import AVERAGED
from trainer.messages import explain_torch_errors
from trainer.progress import Monitor, Progress
from trainer.submission.cells import NUMBER
from trainer.submission.figures import Unreadable
from trainer.submission.mirror import Validated, compare, validated
from trainer.submission.run_lengths import by_class, with_runs
from trainer.submission.sample import Sample, check_ids, check_numbers, read_sample
from trainer.submission.upload import upload_lines
from trainer.submission.write import (
    Layout,
    laid_out,
    refuse_among_data,
    target_of,
    tell_formulas,
    tell_odd_names,
    write_pictures,
    write_rows,
)
from trainer.task import Row, Task
from utils import dist
from utils.config.cli import Flag
from utils.errors import ConfigError, DataError, UserError
from utils.terminal import show

__all__ = ["Form", "Predicted", "check_mirror", "predict_both", "test", "write_checked"]

PLACES = ("probability", "label")  # outputs that say nothing of themselves which of two classes they are of


class Form(NamedTuple):
    """The form in which predictions are written."""

    cfg: Config
    meta: Mapping[str, Any]
    sample: Sample | None

    def apply(self, rows: dict[str, Row]) -> dict[str, Row]:
        """Return masks as runs, and a column for each of two classes, where the sample wants them so.

        Raises ConfigError for runs where there are no masks.
        """
        values, classes = self.meta.get("mask_values", ()), self.meta.get("classes") or ()
        if self.sample is not None and len(classes) == 2 and self.sample.has_columns([*map(str, classes)]):
            rows = self._of_both(rows, [*map(str, classes)])
        several = classes[1:] if len(classes) > 2 else ()
        runs = self.sample is not None and (self.sample.wants_runs() or self.sample.has_columns(several))
        if not (runs and values) and self.cfg.test.output != "rle":
            return rows
        return with_runs(rows, values, classes, self.cfg.test.positive)

    def _of_both(self, rows: dict[str, Row], classes: Sequence[str]) -> dict[str, Row]:
        """Return the probability of each of two classes, where the rows have that of one."""
        written = self.cfg.test.positive or self.meta.get("positive") or classes[1]
        other = classes[1 - classes.index(written)]
        found = {key: row.get("probability") for key, row in rows.items() if len(row) == 1}
        if len(found) < len(rows) or not all(isinstance(value, float) for value in found.values()):
            return rows
        return {key: {written: value, other: 1 - value} for key, value in found.items()}  # type: ignore[operator]

    def divided(self, rows: dict[str, Row]) -> dict[str, Row] | None:
        """Return a row for each picture and class, where the sample wants runs so; otherwise None."""
        several = self.sample is not None and self.sample.wants_runs() and len(next(iter(rows.values()))) > 1
        return by_class(rows, self.sample) if several and self.sample is not None else None

    def clip(self, rows: dict[str, Row]) -> dict[str, Row]:
        """Return the rows with probabilities in test.clip's bounds. Raises ConfigError where they are none."""
        least = self.cfg.test.clip
        if least is None:
            return rows
        if not self.probabilities(rows):
            raise ConfigError("test.clip: these predictions are no probabilities; leave it out")
        return {k: {c: min(max(v, least), 1 - least) for c, v in row.items()} for k, row in rows.items()}

    def refuse_places(self) -> None:
        """Raise ConfigError for places of classes that are named by other numbers."""
        names = [*map(str, self.meta.get("classes") or ())]
        numbers = [float(name) for name in names if NUMBER.fullmatch(name)]
        if self.cfg.test.output == "label" and len(numbers) == len(names) and numbers != [*range(len(names))]:
            raise ConfigError(
                f"test.output: label writes the places 0 to {len(names) - 1} of classes that are named "
                f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}; --test.output=class writes the names"
            )

    def refuse_other_class(self) -> None:
        """Raise DataError where the sample's column is named after the other one of two classes."""
        names, test = [*map(str, self.meta.get("classes") or ())], self.cfg.test
        if not self.sample or len(names) != 2 or "mask_values" in self.meta or test.output not in PLACES:
            return
        written = names[1] if test.output == "label" else test.positive or self.meta.get("positive") or names[1]
        named = self.sample.class_of_column(names)
        if named not in ("", written) and test.positive != written:
            raise DataError(
                f"{self.sample.path}: the column '{self.sample.header[1]}' looks like that of {named}, and the "
                f"predictions are of {written}; --test.output=probability --test.positive={named} writes those of "
                f"{named}, and --test.positive={written} says that {written} is meant"
            )

    def tell_classes(self) -> None:
        """Say so where the sample holds classes, and the predictions are probabilities."""
        names = [*map(str, self.meta.get("classes") or ())]
        if self.sample and self.cfg.test.output == "probability" and self.sample.holds_classes(names):
            show(
                f"note: {self.sample.path} holds classes ({', '.join(names[:3])}), the predictions are probabilities; "
                "--test.output=class writes the classes"
            )

    def probabilities(self, rows: Mapping[str, Row]) -> bool:
        """Return whether the predictions are probabilities of classes."""
        columns, classes = {*next(iter(rows.values()))}, {*map(str, self.meta.get("classes") or ())}
        asked = self.cfg.test.output == "probability" and "mask_values" not in self.meta
        return asked and bool(classes) and (columns == {"probability"} or columns == classes)


class Predicted(NamedTuple):
    """The predictions of a run for the test split, and for the validation split or the reason that there are none."""

    form: Form
    source: Path
    rows: dict[str, Row]
    seen: Validated | str
    meaning: str  # of the predictions, in words


def test(checkpoint: str, flags: Sequence[Flag]) -> None:
    """Write the predictions of a checkpoint for the test split."""
    found = predict_both(open_weights(checkpoint, flags), flags)
    target = target_of(found.form.cfg.test, found.source.parent)
    told = f"from {found.source}{f', {found.meaning}' if found.meaning else ''}"
    dist.on_main(write_checked, target, found, told)
    dist.stop()


def write_checked(target: Path, found: Predicted, source: str, check: bool = True) -> None:
    """Write the predictions; `check` makes the mirror check before."""
    form = found.form
    form.tell_classes()
    applied = form.apply(found.rows)
    divided = form.divided(applied)
    layout, rows = laid_out(divided or applied, form.sample)
    if check:
        check_mirror(found, laid_out(applied, None)[0] if divided else layout)
    rows = form.clip(rows)
    tell_odd_names(list(rows), layout.exact)
    tell_formulas(layout, rows)
    refuse_among_data(target, form.cfg, layout, rows)
    pictures = any(isinstance(value, Tensor) for value in next(iter(rows.values())).values())
    write_rows(target, layout, write_pictures(target, rows), form.probabilities(rows))
    show(f"{target}: {len(rows)} rows {source}")
    if not pictures:
        for line in upload_lines(form.cfg.test, target, found.source.parent.name):
            show(line)


def check_mirror(found: Predicted, layout: Layout, of: str = "") -> None:
    """Print the outcome of the mirror check `of` a run. Raises DataError where the file would give other metrics."""
    form = found.form
    if not form.cfg.test.mirror:
        return
    try:
        if isinstance(found.seen, str):
            raise Unreadable(found.seen)
        seen = found.seen._replace(rows=form.apply(found.seen.rows))
        told = compare(seen, layout, form.cfg, form.meta, form.probabilities(seen.rows))
        show(f"{of}mirror check: the file's column gives {told}")
    except Unreadable as reason:
        show(f"{of}note: no mirror check: {reason}")


def predict_both(run: LoadedRun, flags: Sequence[Flag]) -> Predicted:
    """Predict the test split and the validation split with a checkpoint."""
    costly = "losses" in COMPONENTS["task"].signature(run.stored.task.name).parameters
    cfg, task, device = run.load_task(flags, losses=not costly)
    task = with_views(task, cfg, run.meta)
    if cfg.test.output == "rle" and "mask_values" not in run.meta:
        raise ConfigError("test.output: rle is of masks, and this run predicts none; leave it out")
    form = Form(cfg, run.meta, None if cfg.test.sample is None else read_sample(cfg.test.sample))
    form.refuse_places()
    form.refuse_other_class()
    target_of(cfg.test, run.source.parent)  # before minutes are spent on predictions
    with explain_torch_errors(cfg, training=False), closing(run.loader(cfg, "test", task, device)) as loader:
        for line in facts_of(loader.dataset).lines:
            dist.on_main(show, line)
        if form.sample is not None:
            check_numbers(form.sample, cells_of(loader.dataset))
        check_ids([str(key) for key in ids_of(loader.dataset)], files_of(loader.dataset))
        rows = predict(task, loader, cfg, device)
        reason = f"validation of {type(task).__name__} needs a network of its own" if costly else ""
        seen = reason or (
            _validate(run, cfg, task, device, loader.dataset) if cfg.test.mirror else "test.mirror is off"
        )
    return Predicted(form, run.source, rows, seen, task.predicts())


def _validate(run: LoadedRun, cfg: Config, task: Task, device: torch.device, test: Any) -> Validated | str:
    """Return the validation split, evaluated and predicted, or why there is none."""
    if not task.metrics:
        return f"{type(task).__name__} measures nothing"
    try:
        loader = run.loader(cfg, "val", task, device)
        if not loader.size:
            return "the validation split has no samples"
    except UserError as error:
        return f"the validation split cannot be read ({error})"
    try:
        with closing(loader):
            seen = validated(task, loader, cfg, device, test)
    except Unreadable as reason:
        return str(reason)
    if not cfg.test.views and identity_of(loader.dataset) == run.state.get("data", {}).get("val"):
        dist.on_main(_tell_other_metric, run, cfg, task, seen)
    return seen


def _tell_other_metric(run: LoadedRun, cfg: Config, task: Task, seen: Validated) -> None:
    """Say where the monitored metric is another one than when the checkpoint was written, just after a validation."""
    monitor, progress = (
        Monitor(cfg.train, {**task.metrics, **more_metrics(cfg.task)}),
        Progress.from_state(run.state["progress"]),
    )
    if progress.score is None or progress.validated != progress.step or monitor.name not in seen.numbers:
        return
    stored, now = progress.score if monitor.mode == "min" else -progress.score, seen.numbers[monitor.name]
    if run.source.name != AVERAGED and abs(stored - now) > 1e-3 * (1 + abs(stored)):
        show(f"note: {monitor.name} is {now:.4g} here, and was {stored:.4g} when {run.source} was written")
