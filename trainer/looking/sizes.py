"""The summary of a config, of its data's or of a made batch, and its table in 80 columns."""

from collections.abc import Callable, Iterator
from typing import Any

from configs import Config
from trainer.build import build, build_task
from trainer.checks.memory import apart
from trainer.looking.opened import networks_of
from trainer.looking.summary import Line, Summary, summarise, summarise_made
from trainer.looking.told import shortened_name
from trainer.messages import explain_torch_errors
from trainer.setup import prepare_networks, resolve_auto, seed_everything
from utils.device import CPU
from utils.errors import ConfigError, DataError
from utils.terminal import head, in_language, padded

__all__ = ["summary_of", "tell"]

Say = Callable[[str], None]
CLASSES = 10  # of a made batch, if the config does not say how many
NAME, SHAPE = 36, 20  # columns


def summary_of(cfg: Config, size: tuple[int, ...] | None, say: Say) -> Summary:
    """Return the summary of a config; with `size`, or where the data are absent, that of a made batch.

    Raises DataError where the data are absent and no size can be told.
    """
    with explain_torch_errors(cfg):
        if size is not None:
            return _made(cfg, size, say)
        try:
            parts = build(cfg, lambda text: None)
        except DataError as error:
            raise DataError(f"{error}; or --input=C,H,W for a made batch, such as --input=3,224,224") from error
        try:
            with apart(parts):
                return summarise(parts)
        finally:
            parts.train_loader.close()


def _made(cfg: Config, size: tuple[int, ...], say: Say) -> Summary:
    """Return the summary for inputs of that size, without any data."""
    cfg = resolve_auto(cfg, CPU)
    seed_everything(cfg.train)
    names = list(map(str, range(CLASSES)))
    meta: dict[str, Any] = {"classes": names, "num_classes": CLASSES, "outputs": 1, "in_features": size[0]}
    if len(size) == 3:
        meta = {"classes": names, "num_classes": CLASSES, "in_channels": size[0], "image_size": list(size[1:])}
    task = build_task(cfg, meta, losses=False)
    if len(networks_of(task)) > 1:
        raise ConfigError("--input: for one network only; several need the data of their task")
    prepare_networks(task, cfg.train, training=True)
    told = "" if "num_classes" in next(iter(cfg.model.values())).args else f"; {CLASSES} classes are a guess"
    say(f"a made batch of {cfg.data.batch_size} x {' x '.join(map(str, size))}{told}")
    return summarise_made(cfg, task, size)


def tell(summary: Summary, depth: int) -> Iterator[str]:
    """Yield the lines of the table."""
    for role, lines in summary.networks.items():
        names = padded(head("layer"), NAME, left=True), padded(head("output shape"), SHAPE, left=True)
        yield " ".join([*names, padded(head("parameters"), 12), f"{'FLOPs':>8}"])
        for line in lines:
            if 0 < line.depth <= depth:
                yield _row(line, "  " * (line.depth - 1) + _last(line))
        yield _row(lines[0], f"{role} ({lines[0].kind})")
        yield ""
    for name, number in {**summary.memory, "together": sum(summary.memory.values())}.items():
        yield f"{padded(f'{head(name)} (MB)', NAME, left=True)} {number / 1e6:>12,.2f}"
    yield f"batch size {summary.batch}; FLOPs are those of the forward pass of one sample, and a"
    flops = sum(lines[0].flops for lines in summary.networks.values()) / summary.batch
    yield f"multiplication with its addition counts as two: {_short(flops / 2)} multiply-adds"


def _last(line: Line) -> str:
    return f"{line.name if line.depth == 1 else line.name.rpartition('.')[2]} ({line.kind})"


def _row(line: Line, name: str) -> str:
    """Return a layer's line, with its FLOPs for one sample."""
    shape = in_language("not called") if line.shape is None else " x ".join(map(str, line.shape))
    left = f"{shortened_name(name, NAME):<{NAME}} {padded(shape, SHAPE, left=True)} {line.parameters:>12,}"
    return f"{left} {_short(line.flops / max(1, line.samples)):>8}" if line.shape is not None else left


def _short(number: float) -> str:
    """Return a number with a unit: 1.81 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"
