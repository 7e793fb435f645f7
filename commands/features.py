"""features: write the output of a layer for each sample, for other programs.

python main.py features CHECKPOINT --layer=NAME [--out=features.npz]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
NAME is a layer as last.pth and summary name it, such as layer4 or
generator.main.3. The file has the arrays features [N, …], ids [N] and, where
the split has them, labels [N]; numpy.load reads it. Pictures are read as for
validation, those of the training set, too.

  --out=FILE    the file to write (default: features.npz, here)
  --split=NAME  val (default), train or test
  --pool        the mean over height and width, as [N, C]
"""

from collections.abc import Sequence
from pathlib import Path

from commands._arguments import checkpoint_and_keys, split
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.files import output_file
from utils.terminal import show
from utils.words import suggest

__all__ = ["run"]

SPLITS = ("val", "train", "test")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Write the features of a layer. Raises ConfigError without a checkpoint or for a layer that does not exist."""
    options, keys = split(flags, ("layer", "out", "split", "pool"))
    checkpoint, keys = checkpoint_and_keys("features", words, keys)
    part, pool = options.get("split", "val"), options.get("pool", "false")
    if part not in SPLITS:
        raise ConfigError(f"--split={part}: no such split{suggest(part, SPLITS)}")
    if pool not in ("true", "false"):
        raise ConfigError(f"--pool={pool}: expected true or false")
    if not options.get("layer"):
        raise ConfigError("features: which layer? e.g. --layer=layer4; python main.py summary CONFIG lists them")
    target = output_file("--out", Path(options.get("out") or "features.npz"), [".npz"])
    from trainer.looking.layer_features import features_of

    found, source = features_of(checkpoint, options["layer"], part, pool == "true", keys)
    found.write(target)
    shape = " x ".join(map(str, found.features.shape))
    labels = "" if found.labels is not None else ", no labels"
    show(f"{source}: {options['layer']} of the {part} split, {shape}{labels}: {target}")
