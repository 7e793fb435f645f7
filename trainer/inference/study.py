"""The command test for a study: its runs predict the test split, and their mean is written."""

from collections.abc import Sequence
from pathlib import Path

from trainer.inference.average import average
from trainer.inference.mirror import _positive
from trainer.inference.predictions import Form, _predict, _write
from trainer.inference.submission import target_of
from trainer.task import Row
from utils import dist
from utils.config.cli import Flag
from utils.errors import CheckpointError
from utils.runs.study import read_study
from utils.terminal import show
from utils.words import count_of

__all__ = ["test_study"]


def test_study(path: str, flags: Sequence[Flag]) -> None:
    """Average the predictions of a study's finished runs, write them, and print the out-of-fold score beside.

    A class or a label is that of the mean probability. Raises CheckpointError where no run has finished.
    """
    study = read_study(Path(path))
    done = [child for child in study.children if study.state(child) == "finished"]
    if not done:
        raise CheckpointError(f"{path}: none of its {count_of(len(study.children), 'run')} has finished; --resume it")
    first = _predict(str(study.folder(done[0])), flags)
    asked = first.form.cfg.test.output
    chosen = asked in ("class", "label") and bool(first.form.meta.get("classes"))
    numbers = [flag for flag in flags if flag.key not in ("output", "test.output")]
    numbers += [Flag("test.output", "probability", "--test.output=probability")] if chosen else []
    found = [first] if not chosen else []
    found += [_predict(str(study.folder(child)), numbers if chosen else flags) for child in done[len(found) :]]
    rows = average([one.rows for one in found], names=[child.name for child in done])
    if chosen:
        rows = _chosen(rows, first.form, asked)
    mean = first._replace(source=study.path / "study.json", rows=rows)
    if dist.is_main():
        told = f", {first.meaning}" if first.meaning else ""
        _write(target_of(first.form.cfg.test.result_file, study.path), mean, f"as the mean of {len(done)} runs{told}")
        if score := study.options.get("oof"):
            show(f"out-of-fold: {', '.join(f'{name} {value:.6g}' for name, value in score.items())}")
    dist.stop()


def _chosen(rows: dict[str, Row], form: Form, asked: str) -> dict[str, Row]:
    """Return the most probable class of each row, by its name or its number."""
    classes = list(map(str, form.meta["classes"]))
    positive = _positive(form.cfg, form.meta) or classes[-1]
    found: dict[str, Row] = {}
    for key, row in rows.items():
        if len(classes) == 2:
            name = positive if row["probability"] >= 0.5 else classes[1 - classes.index(positive)]
        else:
            name = max(classes, key=lambda one: row[one])
        found[key] = {"class": name} if asked == "class" else {"label": classes.index(name)}
    return found
