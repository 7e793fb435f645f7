"""test: write the predictions of a checkpoint for the test split.

python main.py test CHECKPOINT [--key=value …]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
submission.csv is written into that folder. Of a kfold or sweep,
checkpoints/NAME, the predictions of all its runs are averaged.

  --test-data-root=FOLDER   the test files
  --test.sample=FILE        Kaggle's sample_submission.csv: gives header, ids
                            and their order
  --result-file=FILE        another file for the predictions
  --test.output=label       probability (the default), label or class
"""

from collections.abc import Sequence

from commands._arguments import checkpoint_and_keys
from utils.config.cli import Flag
from utils.runs.study import find_study

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Predict with a checkpoint. Raises ConfigError when none is named."""
    checkpoint, keys = checkpoint_and_keys("test", words, flags)
    if study := find_study(checkpoint):
        from trainer.inference.study import test_study

        return test_study(str(study), keys)
    from trainer.inference.predictions import test

    return test(checkpoint, keys)
