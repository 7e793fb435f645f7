"""doctor: look at a network with a few batches, and say what is odd.

python main.py doctor [CONFIG | RUN] [--key=value …] [--out=FOLDER]

CONFIG and flags are those of train; of a run (its best checkpoint, otherwise
its last, or a .pth file) the weights are taken. A table has the mean and the
spread of each layer's outputs, of ReLUs the share of dead units, and the mean
and the spread of each parameter's gradient. The verdict below it is in words:
the loss at the start beside that of a guess, signals and gradients that
explode or vanish, dead units, layers in a Python list, parameters without a
gradient or an optimizer, outputs that are no logits, targets of the wrong
kind, norm layers in the wrong mode. All is done on a copy; a fault that would
end a training has its exit code.

  --out=FOLDER  where doctor.json is written (default: of a run its folder,
                otherwise this folder)
"""

from collections.abc import Sequence
from pathlib import Path

from commands._arguments import one_word, split
from utils.config.cli import Flag
from utils.terminal import show

__all__ = ["run"]

OPTIONS = ("config", "out", "debug")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the diagnosis of a config or a run. Raises the errors that would end a training."""
    options, keys = split(flags, OPTIONS)
    word = one_word("doctor", words, options.get("config"))
    from trainer.build import build
    from trainer.looking.doctor import FILE, diagnose
    from trainer.looking.opened import config_of, is_config, open_run
    from trainer.looking.told import tell

    if is_config(word):
        cfg, folder = config_of(word, keys, OPTIONS), Path()
        diagnosis = diagnose(cfg, lambda: build(cfg, show), trained=cfg.train.load_model_path is not None)
    else:
        cfg, parts, source = open_run(word, keys, show)
        folder = source.parent
        show(f"{source}")
        diagnosis = diagnose(cfg, lambda: parts, trained=True)
    tell(diagnosis)
    target = Path(options.get("out") or folder) / FILE
    diagnosis.write(target)
    show(f"all numbers: {target}")
    diagnosis.found.odd.clear()
    diagnosis.found.end(only=False, say=show)
