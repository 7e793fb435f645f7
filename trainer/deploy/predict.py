"""The command predict: the predictions of a checkpoint for any pictures or rows, as CSV or JSON and as a picture."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor

from data.loading.loader import Loader
from data.protocol import facts_of
from trainer.deploy.drawn import draw_photos, draw_spread
from trainer.deploy.inputs import Inputs, find_inputs
from trainer.evaluate import predict
from trainer.inference.trained import LoadedRun
from trainer.inference.viewed import with_views
from trainer.messages import explain_torch_errors
from trainer.submission.cells import encoded, text_of
from trainer.task import Row, Task
from trainer.watchers._thumbnails import guarded
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.files import output_file, write_atomic
from utils.images import write_image
from utils.optional import installed
from utils.terminal import show
from utils.words import count_of

__all__ = ["predict_files"]

PICTURE = "predictions.png"
KINDS = (".csv", ".json")
NAMED = 20  # broken pictures that are named on the screen


def predict_files(checkpoint: str, words: Sequence[str], out: str, flags: Sequence[Flag]) -> None:
    """Write the predictions of a checkpoint for what the words name, in their order.

    Raises ConfigError for an impossible `out`, DataError when nothing can be read.
    """
    target = Path(out)
    if target.suffix.lower() not in KINDS or target.is_dir():
        raise ConfigError(
            f"--out={out}: predictions are written as CSV or JSON; give a name that ends in .csv or .json"
        )
    output_file("--out", target, KINDS, read=words)
    run = LoadedRun(checkpoint)
    asked = [flag for flag in flags if flag.key in ("test.output", "output")]
    given = [*flags, *([] if asked else [Flag("test.output", "probability", "--test.output=probability")])]
    cfg, task, device = run.load_task(given)
    task = with_views(task, cfg, run.meta)
    inputs = find_inputs(words, cfg, run.meta, made=[target.parent / PICTURE, _masks(target)])
    for note in [*inputs.notes, *facts_of(inputs.dataset).lines]:
        show(note)
    with explain_torch_errors(cfg, training=False):
        loader = Loader(inputs.dataset, cfg.data, cfg.train.seed, training=False, device=device)
        with closing(loader):
            found = predict(task, loader, cfg, device)
    rows = [_classified(row, task, run.meta) for row in found.values()]
    named = {name: rows[place] for name, place in inputs.places.items()}
    _tell_broken(inputs.broken)
    written = _with_files(named, target)
    _write(target, inputs, written)
    show(f"{target}: {count_of(len(inputs.names), 'row')} from {run.source}{_summary(list(named.values()))}")
    _draw(target, inputs, named, f"predictions of {run.source}", run.meta)


def _classified(row: Row, task: Task, meta: Mapping[str, Any]) -> Row:
    """Return the row of a classifier with the likeliest class, or the labels, first, then the probability of each.

    Another row is returned as it is.
    """
    classes = [str(name) for name in meta.get("classes") or ()]
    if "mask_values" in meta or not classes:
        return row
    if task.predicted_kind == "labels" and row.keys() == set(classes):
        return {"labels": task.names_of(row), **row}  # type: ignore[operator]
    if row.keys() == {"probability"} and len(classes) == 2:
        place = int(getattr(task, "positive", 1))
        row = {classes[place]: row["probability"], classes[1 - place]: 1 - row["probability"]}
    if row.keys() != set(classes):
        return row
    columns = {name: f"probability of {name}" if name in ("path", "id", "class") else name for name in classes}
    best = max(classes, key=lambda name: row[name])
    return {"class": best, **{columns[name]: row[name] for name in classes}}


def _tell_broken(broken: Mapping[str, str]) -> None:
    if not broken:
        return
    show(f"{count_of(len(broken), 'picture')} cannot be read, with an empty row:")
    for path, reason in list(broken.items())[:NAMED]:
        show(f"  {path} ({reason})")
    if len(broken) > NAMED:
        show(f"  … and {len(broken) - NAMED:,} more")


def _masks(target: Path) -> Path:
    """Return the folder of the predicted masks that the file `target` names."""
    return target.with_name(f"{target.stem}_masks")


def _with_files(named: Mapping[str, Row], target: Path) -> dict[str, Row]:
    """Return the rows with each mask as the name of a picture, written in a folder beside `target`."""
    folder, taken, found = _masks(target).name, Counter[str](), dict[str, Row]()
    for name, row in named.items():
        stem = re.sub(r"\W+", "_", Path(text_of(name)).stem)[:100] or "mask"
        taken[stem] += 1
        file = f"{folder}/{stem}{f'_{taken[stem]}' if taken[stem] > 1 else ''}.png"
        found[name] = {key: file if isinstance(value, Tensor) else value for key, value in row.items()}
        for value in row.values():
            if isinstance(value, Tensor):
                write_image(target.parent / file, value)
    return found


def _write(target: Path, inputs: Inputs, named: Mapping[str, Row]) -> None:
    columns = list(next(iter(named.values())))
    rows = [{inputs.column: name, **named.get(name, dict.fromkeys(columns))} for name in inputs.names]
    if target.suffix.lower() == ".json":
        plain = [{key: text_of(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]
        body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in plain)
        write_atomic(target, f"[\n{body}\n]\n".encode())
        return
    lines = [[inputs.column, *columns], *(["" if cell is None else cell for cell in row.values()] for row in rows)]
    write_atomic(target, encoded(lines, exact=False))


def _summary(rows: Sequence[Row]) -> str:
    """Return how often each class was predicted."""
    if "class" not in rows[0]:
        return ""
    counts = Counter(row["class"] for row in rows).most_common()
    more = f", and {len(counts) - 5} more classes" if len(counts) > 5 else ""
    return f"; {', '.join(f'{name}: {count:,}' for name, count in counts[:5])}{more}"


def _draw(target: Path, inputs: Inputs, named: Mapping[str, Row], title: str, meta: Mapping[str, Any]) -> None:
    """Draw the predictions beside the file; in a run's folder the run's own picture of that name stays."""
    if not installed("matplotlib"):
        show("note: no picture of the predictions without matplotlib (pip install matplotlib)")
        return
    own = (target.parent / "config.yaml").exists()
    with guarded(target.parent / ("predicted.png" if own else PICTURE), show) as picture:
        if inputs.column == "id":
            draw_spread(f"{title}: {len(named):,} rows", list(named.values()), picture)
        else:
            draw_photos(title, {name: row for name, row in named.items() if os.path.exists(name)}, picture, meta)
        show(f"{picture}: the first of them, to look at")
