"""lr_find: try all learning rates in one short training, and suggest one.

python main.py lr_find [CONFIG] [--key=value …] [--steps=100] [--out=FOLDER]

CONFIG and flags are those of train. The rate grows with each step, from very
small to very large; it is good where the loss falls steadily, in the middle
of its longest fall. The loss is smoothed, and the test ends when it diverges.
Schedules rest, groups keep their proportions, and no run is made of it.

  --steps=N      optimizer steps (default: 100)
  --from=1e-7    the first rate
  --to=10        the last rate
  --out=FOLDER   where lr_find.png and lr_find.json are written (default: this
                 folder)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from commands._arguments import one_word, split
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.terminal import show

__all__ = ["run"]

OPTIONS = ("config", "steps", "from", "to", "out", "debug")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print a suggestion and write the points. Raises ConfigError where a range test says nothing."""
    options, keys = split(flags, OPTIONS)
    steps, first, last = int(_number(options, "steps", 100)), _number(options, "from", 1e-7), _number(options, "to", 10)
    if first >= last or steps < 10:
        raise ConfigError("lr_find: --from must be below --to, and --steps at least 10")
    word = one_word("lr_find", words, options.get("config"))
    from trainer.build import build
    from trainer.looking.opened import config_of
    from trainer.looking.rates import for_range_test, range_test
    from trainer.messages import explain_torch_errors

    folder = Path(options.get("out") or ".")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out={folder}: is no folder for lr_find.png and lr_find.json; name one")
    cfg = for_range_test(config_of(word, keys, OPTIONS))
    with explain_torch_errors(cfg):
        parts = build(cfg, show)
        try:
            found = range_test(parts, steps, first, last, show)
        finally:
            parts.train_loader.close()
    picture, target = found.write(folder, word or "default")
    now = next(iter(parts.state.update.steps.values())).optimizer.defaults["lr"]
    show(f"{len(found.points)} steps; {found.end}")
    show(f"suggestion: --lr={found.suggestion:.2g} (the config has {now:.2g}; lowest loss at {found.lowest:.2g})")
    show(f"{picture} shows it, {target} has the points")


def _number(options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"--{name}={text}: expected a number such as {default:g}") from error
    if not 0 < value < 1e12 or (name == "steps" and value != int(value)):
        raise ConfigError(f"--{name}={text}: expected a number above 0, such as {default:g}")
    return value
