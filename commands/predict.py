"""predict: predict pictures, folders of pictures, or the rows of a CSV with a checkpoint.

python main.py predict CHECKPOINT PATH… [--out=FILE.csv | FILE.json]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
PATH is a picture, a folder of pictures (and folders in it), a CSV with a
column of paths, or for a run that learned from a table a CSV of its columns.
The rows stand in the order of the paths, those of a folder sorted; a picture
that cannot be read is named and has an empty row. predictions.png beside the
file shows the first ones.

  --out=FILE           the file to write (default: predictions.csv, here)
  --test.views=[hflip] average over views of each picture
  --test.output=label  class numbers instead of classes and probabilities
"""

from collections.abc import Sequence

from commands._arguments import split
from utils.config.cli import Flag
from utils.errors import ConfigError

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Predict files. Raises ConfigError without a checkpoint or without files."""
    options, keys = split(flags, ("out",))
    if len(words) < 2:
        raise ConfigError("predict: which checkpoint and files? e.g. python main.py predict checkpoints/NAME photos/")
    from trainer.deploy.predict import predict_files

    predict_files(words[0], words[1:], options.get("out") or "predictions.csv", keys)
