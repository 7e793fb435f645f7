"""test RUN RUN …: the average of several runs' predictions for one test split."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from configs import COMPONENTS, load_stored
from configs.schema import Test
from trainer.inference.trained import LoadedRun
from trainer.submission.average import average, climb
from trainer.submission.figures import Unreadable, reader_of
from trainer.submission.mirror import Validated, read_back
from trainer.submission.predict import Form, Predicted, check_mirror, predict_both, write_checked
from trainer.submission.write import laid_out, target_of
from trainer.task import Row
from utils import dist
from utils.config.cli import Flag
from utils.errors import ConfigError, DataError
from utils.terminal import show

__all__ = ["test_average"]

LOSSES = ("log_loss", "rmse")  # hill climbing makes the first of these small that a file gives


def test_average(checkpoints: Sequence[str], flags: Sequence[Flag]) -> None:
    """Write the average of the predictions of several checkpoints, by default as submission-average.csv of the first.

    Each run predicts probabilities, and passes the mirror check by itself; `test.output` is of their average.
    Raises DataError for runs of other ids, columns or classes.
    """
    first = LoadedRun(checkpoints[0])
    wanted = load_stored(first.state["config"], first.source, flags).test
    plain = [flag for flag in flags if flag.key not in ("output", "test.output")]
    plain.append(Flag("test.output", "probability", "--test.output=probability"))
    if wanted.output == "rle":
        raise ConfigError("test.output: rle is of masks, which have no average; leave it out")
    found = [predict_both(run, plain) for run in (first, *map(LoadedRun, checkpoints[1:]))]
    dist.on_main(_refuse_other_classes, found)
    dist.on_main(_write_average, found, wanted, first.source.parent)
    dist.stop()


def _write_average(found: Sequence[Predicted], wanted: Test, folder: Path) -> None:
    names = [str(one.source) for one in found]
    for one in found:
        # the sample may want labels, which only the average becomes
        check_mirror(one, laid_out(one.rows, None)[0], of=f"{one.source}: ")
    form = found[0].form._replace(cfg=replace(found[0].form.cfg, test=wanted))
    if wanted.average == "rank" and wanted.output != "probability":
        raise ConfigError(f"test.average: ranks give no {wanted.output}; take mean, or --test.output=probability")
    seen = _one_split(found, wanted.average)
    weights = climb([one.rows for one in seen], _score(seen[0], found[0].form)) if wanted.average == "climb" else None
    if weights:
        pairs = zip(weights, names, strict=True)
        show(f"climb: {', '.join(f'{weight:.2f} {name}' for weight, name in pairs)}")
    rows = _decided(average([one.rows for one in found], wanted.average, weights, names), form)
    if seen:
        mean = _decided(average([one.rows for one in seen], wanted.average, weights, names), form)
        _tell_figures(seen[0]._replace(rows=mean), form, ranks=wanted.average == "rank")
    target = target_of(wanted.result_file, folder, "submission-average.csv")
    told = found[0]._replace(form=form, rows=rows, meaning="")
    write_checked(target, told, f"of the average ({wanted.average}) of {', '.join(names)}", check=False)


def _refuse_other_classes(found: Sequence[Predicted]) -> None:
    """Raise DataError for runs with other classes, or of which the column is that of another class."""
    first = found[0]
    for other in found[1:]:
        for what, one, two in (
            ("classes", first.form.meta.get("classes"), other.form.meta.get("classes")),
            ("columns", first.meaning, other.meaning),
        ):
            if one != two:
                told = f"{str(one)[:60]} and {str(two)[:60]}"
                raise DataError(
                    f"{first.source} and {other.source} have other {what} ({told}); average runs of the same"
                )


def _one_split(found: Sequence[Predicted], how: str) -> list[Validated]:
    """Return the validation splits, if all are the same samples; otherwise none, which is told.

    Raises DataError where `climb` needs them.
    """
    seen = [one.seen for one in found if isinstance(one.seen, Validated)]
    same = len(seen) == len(found) and all(one.truth.keys() == seen[0].truth.keys() for one in seen)
    if same:
        return seen
    if how == "climb":
        raise DataError("test.average: climb needs runs that hold out the same samples for validation; take mean")
    show("note: the average has no figure, because the runs hold out other samples, or their data cannot be read")
    return []


def _score(seen: Validated, form: Form) -> Any:
    """Return the loss of predictions of the validation split, the smaller the better. Raises DataError without one."""
    truth, columns = list(seen.truth.values()), list(next(iter(seen.rows.values())))
    positive = form.cfg.test.positive if form.cfg.test.positive is not None else form.meta.get("positive")
    try:
        reader = reader_of(columns, truth[0], form.meta, "probability", positive, Path())
    except Unreadable as reason:
        raise DataError(f"test.average: climb has no figure to make small: {reason}; take mean") from reason

    def score(rows: Mapping[str, Row]) -> float:
        cells = [{name: repr(value) for name, value in rows[key].items()} for key in seen.truth]
        numbers = reader.figures(cells, truth).numbers
        return next(numbers[name] for name in LOSSES if name in numbers)

    return score


def _decided(rows: dict[str, Row], form: Form) -> dict[str, Row]:
    """Return probabilities as test.output says: as they are, or the most probable class."""
    output, classes = form.cfg.test.output, list(map(str, form.meta.get("classes") or ()))
    if output == "probability" or not classes:
        return rows
    if COMPONENTS["task"].literal(form.cfg.task.name, "predicted_kind") == "labels":
        raise ConfigError(
            f"test.output: {output}: averages of several labels are written as probabilities; leave it out"
        )
    if [*next(iter(rows.values()))] == ["probability"]:
        positive = form.cfg.test.positive if form.cfg.test.positive is not None else form.meta.get("positive")
        place = len(classes) - 1 if positive is None else classes.index(positive)
        two = [[row["probability"], 1 - row["probability"]] for row in rows.values()]
        table = torch.tensor(two, dtype=torch.float64)[:, [0, 1] if place == 0 else [1, 0]]
    else:
        table = torch.tensor([[row[name] for name in classes] for row in rows.values()], dtype=torch.float64)
    chosen = table.argmax(1).tolist()
    return {k: {"class": classes[c]} if output == "class" else {"label": c} for k, c in zip(rows, chosen, strict=True)}


def _tell_figures(seen: Validated, form: Form, ranks: bool) -> None:
    """Print the figures of the average on the validation split, from a written file; ranks have none."""
    if ranks:
        show("note: the average has no figure, because ranks are no probabilities; their order alone counts")
        return
    try:
        layout = laid_out(seen.rows, None)[0]
        with tempfile.TemporaryDirectory() as folder:
            sure = form.probabilities(seen.rows)
            numbers = read_back(seen, layout, form.cfg, form.meta, sure, Path(folder)).figures().numbers
        show(f"average: {', '.join(f'{name} {value:.4g}' for name, value in numbers.items())} on the validation split")
    except Unreadable as reason:
        show(f"note: the average has no figure: {reason}")
