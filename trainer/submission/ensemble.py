"""test RUN RUN …: the average of several runs' predictions for one test split."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from configs import COMPONENTS, load_stored
from configs.schema import Test
from trainer.inference.trained import LoadedRun
from trainer.submission.average import average, climb
from trainer.submission.figures import Unreadable, reader_of
from trainer.submission.mirror import Validated, read_back
from trainer.submission.out_of_fold import OOF, held_out, loss_of
from trainer.submission.predict import Form, Predicted, check_mirror, predict_both, write_checked
from trainer.submission.write import laid_out, target_of
from trainer.task import Row
from utils import dist
from utils.config.cli import Flag
from utils.errors import CheckpointError, ConfigError, DataError
from utils.runs.folder import run_path
from utils.runs.study import Study, find_study, read_study
from utils.terminal import show
from utils.words import count_of

__all__ = ["finished_of", "test_average"]

LOSSES = ("log_loss", "rmse")  # hill climbing makes the first of these small that a file gives


class _Member(NamedTuple):
    """A run that is averaged with others, or a study whose runs count as one: their mean."""

    name: str
    folder: Path
    runs: list[Predicted]
    study: Study | None

    def rows(self) -> dict[str, Row]:
        """Return the predictions of the test split."""
        return average([one.rows for one in self.runs]) if self.study else self.runs[0].rows


def test_average(checkpoints: Sequence[str], flags: Sequence[Flag]) -> None:
    """Write the average of the predictions of several checkpoints, by default as submission-average.csv of the first.

    A study among them counts as one, the mean of its finished runs. Each run predicts probabilities, and passes the
    mirror check by itself; `test.output` is of their average.
    Raises DataError for runs of other ids, columns or classes, CheckpointError for a study without a finished run.
    """
    places = [os.path.realpath(find_study(word) or run_path(word)) for word in checkpoints]
    if twice := [word for word, path in zip(checkpoints, places, strict=True) if places.count(path) > 1]:
        raise ConfigError(f"{twice[0]}: is given twice, and would count twice; leave one out")
    for place in filter(None, map(find_study, checkpoints)):
        dist.on_main(_tell_unfinished, read_study(place))
    named = {word: finished_of(read_study(path)) if (path := find_study(word)) else [word] for word in checkpoints}
    first = LoadedRun(named[checkpoints[0]][0])
    wanted = load_stored(first.state["config"], first.source, flags).test
    plain = [flag for flag in flags if flag.key not in ("output", "test.output")]
    plain.append(Flag("test.output", "probability", "--test.output=probability"))
    if wanted.output == "rle":
        raise ConfigError("test.output: rle is of masks, which have no average; leave it out")
    target_of(wanted, first.source.parent, "submission-average.csv")
    members, opened = [], {named[checkpoints[0]][0]: first}
    for word in checkpoints:
        runs = [predict_both(opened.get(one) or LoadedRun(one), plain) for one in named[word]]
        study = read_study(path) if (path := find_study(word)) else None
        folder = study.path if study else runs[0].source.parent
        members.append(_Member(str(folder if study else runs[0].source), folder, runs, study))
    dist.on_main(_refuse_other_classes, [one for member in members for one in member.runs])
    dist.on_main(_write_average, members, wanted)
    dist.stop()


def finished_of(study: Study) -> list[str]:
    """Return the folders of the finished runs of a study. Raises CheckpointError where there are none."""
    done = [str(study.folder(child)) for child in study.children if study.state(child) == "finished"]
    if not done:
        raise CheckpointError(f"{study.path}: none of its {count_of(len(study.children), 'run')} has finished")
    return done


def _tell_unfinished(study: Study) -> None:
    """Say which runs of a study do not count."""
    for child in study.children:
        if not study.is_done(child):
            again = f"{study.command} --resume={study.path} trains it"
            show(f"note: {study.path} counts without {child.name}, which is {study.state(child)}; {again}")


def _write_average(members: Sequence[_Member], wanted: Test) -> None:
    names, found = [member.name for member in members], [one for member in members for one in member.runs]
    for one in found:
        # the sample may want labels, which only the average becomes
        check_mirror(one, laid_out(one.form.apply(one.rows), None)[0], of=f"{one.source}: ")
    form = found[0].form._replace(cfg=replace(found[0].form.cfg, test=wanted))
    form.refuse_places()
    if wanted.average == "rank" and wanted.output != "probability":
        raise ConfigError(f"test.average: ranks give no {wanted.output}; take mean, or --test.output=probability")
    if wanted.average == "rank" and wanted.clip:
        raise ConfigError("test.clip: ranks are no probabilities; leave it out, or take --test.average=mean")
    if any(member.study for member in members):
        weights = _weigh_studies(members, wanted.average)
    else:
        weights = _weigh_runs(found, wanted.average, names, form)
    rows = _decided(average([member.rows() for member in members], wanted.average, weights, names), form)
    target = target_of(wanted, members[0].folder, "submission-average.csv")
    owner = find_study(str(members[0].folder.parent)) or members[0].folder  # which the line that uploads names
    told = found[0]._replace(form=form, rows=rows, meaning="", source=owner / target.name)
    write_checked(target, told, f"of the average ({wanted.average}) of {', '.join(names)}", check=False)


def _weigh_runs(found: Sequence[Predicted], how: str, names: Sequence[str], form: Form) -> list[float] | None:
    """Return the weights of runs by their validation split, None for equal ones; print the average's figures on it."""
    seen = _one_split(found, how)
    weights = climb([one.rows for one in seen], _score(seen[0], found[0].form)) if how == "climb" else None
    _tell_weights(weights, names)
    if seen:
        mean = _decided(average([one.rows for one in seen], how, weights, names), form)
        _tell_figures(seen[0]._replace(rows=mean), form, ranks=how == "rank")
    return weights


def _weigh_studies(members: Sequence[_Member], how: str) -> list[float] | None:
    """Return the weights of studies by the rows that their runs held out, None for equal ones; print the figure there.

    Raises DataError where `climb` is to weigh a run that belongs to no study.
    """
    studies = [member.study for member in members if member.study]
    if lone := next((member.name for member in members if not member.study), ""):
        if how == "climb":
            raise DataError(f"test.average: climb weighs studies by rows that were held out, and {lone} is a lone run")
        return None
    whole = all(study.state(child) == "finished" for study in studies for child in study.children)
    if how != "climb" and not (whole and all((study.path / OOF).is_file() for study in studies)):
        return None
    held = held_out(studies)
    name, loss = loss_of(held[0].truth, members[0].runs[0].form.meta)
    rows = [one.rows for one in held]
    weights = climb(rows, loss) if how == "climb" else None
    _tell_weights(weights, [member.name for member in members])
    if how != "rank":
        alone = ", ".join(f"{loss(one):.6g}" for one in rows)
        told = f"{name} {loss(average(rows, how, weights)):.6g}, alone {alone}"
        show(f"average: {told}, on {len(rows[0]):,} rows that were held out")
    return weights


def _tell_weights(weights: Sequence[float] | None, names: Sequence[str]) -> None:
    if weights:
        show(f"climb: {', '.join(f'{weight:.2f} {name}' for weight, name in zip(weights, names, strict=True))}")


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
        raise DataError(
            "test.average: climb needs runs that hold out the same samples for validation, or several studies of folds "
            "(test STUDY STUDY); take mean"
        )
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
