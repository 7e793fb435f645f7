"""test: write the predictions of a checkpoint for the test split.

python main.py test CHECKPOINT [--key=value …]
python main.py test RUN RUN …  [--key=value …]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
submission.csv is written into that folder; the average of several runs is
submission-average.csv of the first one. Of a kfold or sweep, checkpoints/NAME,
all runs are averaged, into its own submission.csv; among several it counts as
one run, and climb weighs them by the rows that their folds held out (oof.csv).

Bare weights, such as the book's, need a config, and the model and classes if
they are others than its own: --config=dogcat --model=BookResNet34
--classes=cat,dog in the order of the network's outputs.

The validation split is written and read in the same way, too: if it does
not give validation's metrics again, nothing is written.

  --test-data-root=FOLDER   the test files
  --test.sample=FILE        Kaggle's sample_submission.csv: gives header, ids
                            and their order
  --result-file=FILE        another file for the predictions
  --test.output=label       probability (the default), label or class; rle
                            for masks
  --test.clip=1e-5          probabilities from 1e-5 to 1 - 1e-5
  --test.views=[hflip]      average over views of each picture
  --test.average=mean       of several runs: mean, geometric, rank, climb
"""

from collections.abc import Sequence

from commands._arguments import checkpoint_and_keys
from utils.config.cli import Flag
from utils.runs.study import Study, find_study, read_study
from utils.terminal import show

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Predict with a checkpoint, or with several. Raises ConfigError when none is named."""
    if len(words) > 1:
        from trainer.submission.ensemble import test_average

        test_average(words, flags)
        return
    checkpoint, keys = checkpoint_and_keys("test", words, flags)
    if study := find_study(checkpoint):
        _test_study(read_study(study), keys)
        return
    from trainer.submission.predict import test

    test(checkpoint, keys)


def _test_study(study: Study, flags: Sequence[Flag]) -> None:
    """Average the finished runs of a study, and print the out-of-fold score beside.

    Raises CheckpointError where no run has finished.
    """
    from trainer.submission.ensemble import finished_of, test_average

    done = finished_of(study)
    if not any(flag.key in ("result_file", "test.result_file") for flag in flags):
        target = str(study.path / "submission.csv")
        flags = [*flags, Flag("test.result_file", target, f"--result-file={target}")]
    test_average(done, flags)
    if score := study.options.get("oof"):
        show(f"out-of-fold: {', '.join(f'{name} {value:.6g}' for name, value in score.items())}")
