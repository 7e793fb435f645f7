"""Numbers that each process has for itself in a step, so that they are not those of one with the same batch."""

from torch import nn

from configs import Config
from trainer.task import Task

__all__ = ["drawn_apart"]


def drawn_apart(task: Task, cfg: Config) -> str:
    """Name dropout, noise and the like, which each process draws for itself; empty if there is nothing."""
    found = ["dropout"] * any(map(drops, task.modules())) + [*task.own_of_processes()]
    if cfg.data.mix.mixup or cfg.data.mix.cutmix:
        found.append("partners of mixed samples")
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))


def drops(layer: nn.Module) -> bool:
    """Return whether a layer drops values while it learns: a Dropout, an LSTM with some, a stochastic depth."""
    kind = type(layer).__name__
    name = "p" if "Dropout" in kind or kind == "StochasticDepth" else "drop_prob" if kind == "DropPath" else "dropout"
    share = getattr(layer, name, 0.0)
    return layer.training and isinstance(share, float | int) and share > 0
