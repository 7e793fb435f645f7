"""test: write the predictions of a checkpoint for the test split.

python main.py test CHECKPOINT [--key=value …]
python main.py test RUN RUN …  [--key=value …]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
submission.csv is written into that folder; the average of several runs is
submission-average.csv of the first one.

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

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Predict with a checkpoint, or with several. Raises ConfigError when none is named."""
    if len(words) > 1:
        from trainer.inference.ensemble import test_average

        test_average(words, flags)
        return
    checkpoint, keys = checkpoint_and_keys("test", words, flags)
    from trainer.inference.predictions import test

    test(checkpoint, keys)
