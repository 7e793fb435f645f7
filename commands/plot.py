"""plot: draw the curves of a run, or of several runs together, as a PNG; and a checkpoint's predictions.

python main.py plot RUN… [--out=FILE] [--predictions]

RUN is a run folder or its name in checkpoints/. One run is drawn into its
curves.png, several into checkpoints/comparison.png, a line for each run, and
a kfold or sweep into its study.png: the score over each swept key.
Nothing is trained.

  --out=FILE     another PNG
  --predictions  of one run also confusion_matrix.png and predictions.png: the
                 results of its best checkpoint on the validation data
"""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from commands.runs import options_of
from utils.config.cli import Flag
from utils.errors import CheckpointError, ConfigError
from utils.runs.folder import ROOT
from utils.runs.reading import find_run, read_curves, run_labels, without_copies
from utils.runs.study import find_study, read_study
from utils.terminal import show

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Draw the curves of one or several runs; of one run, if asked, its predictions too.

    Raises ConfigError without a run and for a file that is no PNG, CheckpointError for a run that is missing or has no
    numbers, StorageError when the picture cannot be written.
    """
    options = options_of([_filled(flag) for flag in flags], ("out", "predictions"))
    predictions = options.get("predictions", "false")
    if not words:
        raise ConfigError("plot: which runs? e.g. python main.py plot checkpoints/NAME")
    out = options.get("out", "")
    if out and Path(out).suffix.lower() != ".png":
        raise ConfigError(f"--out={out}: curves are drawn as PNG; give a name that ends in .png")
    if predictions not in ("true", "false"):
        raise ConfigError(f"--predictions={predictions}: is neither true nor false")
    if len(words) == 1 and (study := find_study(words[0])):
        if predictions == "true":
            raise ConfigError(f"--predictions: takes one run, as {study}/fold0")
        return _draw_study(study, Path(out) if out else study / "study.png")
    folders = list({path.resolve(): path for path in (find_run(word, ROOT) for word in words)}.values())
    if len(folders) == 1:
        _draw_one(folders[0], Path(out) if out else folders[0] / "curves.png")
        if predictions == "true":
            _draw_validation(folders[0])
    elif predictions == "true":
        raise ConfigError("--predictions: takes one run at a time")
    else:
        _draw_several(folders, Path(out) if out else ROOT / "comparison.png")
    return None


def _draw_study(path: Path, target: Path) -> None:
    """Draw the score of a study's children over each key that was swept."""
    from commands._leaderboard import ordered
    from utils.figures.study import draw_study

    study = read_study(path)
    found = [(child, value) for child in study.children if (value := study.best(child)) is not None]
    if not found:
        raise CheckpointError(f"{path}: none of its runs has measured anything yet")
    best = ordered(study, [child for child, _ in found])[0]
    keys = list(dict.fromkeys(key for child, _ in found for key in child.keys))
    draw_study(
        study.name,
        study.monitor(),
        [({k: child.keys.get(k, "-") for k in keys}, value) for child, value in found],
        target,
    )
    show(f"{target}: {study.monitor()} over {', '.join(keys)}; the best is {best.name}")


def _filled(flag: Flag) -> Flag:
    """Return the flag, `--predictions` alone with the value true."""
    return Flag(flag.key, "true", f"{flag.typed}=true") if flag.typed == "--predictions" else flag


def _draw_one(folder: Path, target: Path) -> None:
    from utils.figures.curves import draw_curves

    if not draw_curves(folder / "log.jsonl", target):
        raise CheckpointError(f"{folder}: log.jsonl holds no numbers to draw")
    show(f"{target}: the curves of {run_labels([folder])[0]}")


def _draw_validation(folder: Path) -> None:
    """Draw confusion_matrix.png and predictions.png of a run's best checkpoint, from its validation data.

    Raises CheckpointError if there is no checkpoint, DataError if the validation data is missing.
    """
    from trainer.evaluate import evaluate
    from trainer.inference.trained import LoadedRun
    from trainer.messages import explain_torch_errors
    from trainer.watchers.predictions import MATRIX, PREDICTIONS, Drawer, draw_matrices

    trained = LoadedRun(str(folder))
    cfg, task, device = trained.load_task([], losses=True)
    of, began = trained.source.name, time.time()
    with explain_torch_errors(cfg), closing(trained.loader(cfg, "val", task, device)) as loader:
        _, matrices = evaluate(task, loader, cfg, device)
        draw_matrices(matrices, trained.meta.get("classes", []), folder, of, show)
        Drawer(task, loader.dataset, cfg, device, show, trained.meta).draw_predictions(
            folder / PREDICTIONS, of, math.inf
        )
    for target in (folder / MATRIX, folder / PREDICTIONS):
        if target.exists() and target.stat().st_mtime >= began:
            show(f"{target}: of {run_labels([folder])[0]}")


def _draw_several(folders: Sequence[Path], target: Path) -> None:
    from utils.figures.compare import draw_comparison
    from utils.figures.fonts import ADVICE

    curves = without_copies(*(read_curves(folder / "log.jsonl") for folder in folders))
    runs = dict(zip(run_labels(folders), curves, strict=True))
    drawn = {name: curves for name, curves in runs.items() if curves}
    if not drawn:
        raise CheckpointError(f"{', '.join(runs)}: their log.jsonl hold no numbers to draw")
    for name in runs.keys() - drawn.keys():
        show(f"{name} is left out: its log.jsonl holds no numbers to draw")
    labels = draw_comparison(drawn, target)
    show(f"{target}: the curves of {', '.join(drawn)}")
    for number, (label, name) in enumerate(zip(labels, drawn, strict=True), start=1):
        if label == f"#{number}":
            show(f"{label} is {name}: no font here has its characters; {ADVICE}")
