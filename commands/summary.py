"""summary: print a network's layers, shapes, parameters and FLOPs, and the memory of a step.

python main.py summary [CONFIG] [--key=value …] [--depth=N] [--input=C,H,W]

CONFIG and flags are those of train. One batch goes through the networks, and
one step is taken on a copy. FLOPs are those of the forward pass for one
sample; a multiplication with its addition counts as two. Memory is that of
the batch size: parameters, gradients, the optimizer's state and activations
that are kept for the backward pass.

  --depth=N      levels of layers within layers (default: 2; 0: totals alone)
  --input=C,H,W  where the data are not here: the size of a made input; the
                 arguments of the model that the data would tell must be set
"""

from collections.abc import Sequence

from commands._arguments import one_word, split
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.terminal import show

__all__ = ["run"]

OPTIONS = ("config", "depth", "input", "debug")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the summary of a config. Raises ConfigError, and DataError where the data are absent."""
    options, keys = split(flags, OPTIONS)
    depth = _number(options.get("depth", "2"))
    size = _size(options["input"]) if "input" in options else None
    word = one_word("summary", words, options.get("config"))
    from trainer.looking.opened import config_of
    from trainer.looking.sizes import summary_of, tell

    for line in tell(summary_of(config_of(word, keys, OPTIONS), size, show), depth):
        show(line)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--depth={text}: expected a whole number such as 2")
    return int(text)


def _size(text: str) -> tuple[int, ...]:
    """Return the numbers of C,H,W; also of a row of features."""
    parts = text.strip("[]").replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--input={text}: expected sizes such as 3,224,224")
    return tuple(map(int, parts))
