"""The command val: the metrics of a checkpoint on the validation split."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from configs import COMPONENTS
from data.loading.loader import Loader
from data.protocol import facts_of
from trainer.evaluate import evaluate
from trainer.inference.bare import open_weights
from trainer.inference.viewed import with_views
from trainer.messages import explain_torch_errors
from utils import dist
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.terminal import show

__all__ = ["val"]


def val(checkpoint: str, flags: Sequence[Flag]) -> None:
    """Print the metrics of a checkpoint, or of bare weights, on the validation split."""
    trained = open_weights(checkpoint, flags)
    if not COMPONENTS["task"].get(trained.stored.task.name).metrics:
        raise ConfigError(f"{trained.stored.task.name} measures nothing; python main.py generate {checkpoint} shows it")
    cfg, task, device = trained.load_task(flags, losses=True)
    task = with_views(task, cfg, trained.meta)
    with explain_torch_errors(cfg, training=False), closing(trained.loader(cfg, "val", task, device)) as loader:
        numbers, _ = evaluate(task, loader, cfg, device)
    dist.on_main(_tell, trained.source, loader, numbers)
    dist.stop()


def _tell(checkpoint: Path, loader: Loader, numbers: Mapping[str, float]) -> None:
    """Print the metrics, below the split that they are of."""
    source = facts_of(loader.dataset).source
    show(f"{checkpoint}: {loader.size} samples{f', {source}' if source else ''}")
    if told := loader.bad.summary():
        show(told)
    for name, value in numbers.items():
        show(f"{name} {value}")
