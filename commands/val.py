"""val: print the validation metrics of a checkpoint.

python main.py val CHECKPOINT [--key=value …]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
Keys of data may be set, as --batch-size=64. Bare weights, such as the book's,
need a config, and the model and classes if they are others than its own:

  --config=dogcat --model=BookResNet34 --classes=cat,dog
"""

from collections.abc import Sequence

from commands._arguments import checkpoint_and_keys
from utils.config.cli import Flag

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Evaluate a checkpoint. Raises ConfigError when none is named."""
    checkpoint, keys = checkpoint_and_keys("val", words, flags)
    from trainer.inference.measured import val

    val(checkpoint, keys)
