"""check --data: read the data of a config as training would, and print what they are taken for."""

from collections.abc import Callable

from torch.utils.data import Dataset

from configs import COMPONENTS, Config
from data.protocol import meta_of
from trainer.build import build_dataset
from trainer.messages import explain_torch_errors
from trainer.run.data_facts import data_facts
from utils.errors import DataError

__all__ = ["check_data"]


def check_data(cfg: Config, say: Callable[[str], None]) -> None:
    """Print what each split is taken for, to the last line.

    Raises DataError for a folder that is missing or data that training would refuse; the split test may be absent,
    unless the config names its folder.
    """
    splits: dict[str, Dataset] = {}
    with explain_torch_errors(cfg):
        splits["train"] = build_dataset(cfg, "train", {}, say)
        meta = meta_of(splits["train"])
        if COMPONENTS["task"].get(cfg.task.name).metrics:
            splits["val"] = build_dataset(cfg, "val", meta, say)
        absent = ""
        try:
            splits["test"] = build_dataset(cfg, "test", meta, say)
        except DataError as error:
            if cfg.data.test_data_root is not None:
                raise
            absent = f"  test: none ({error})"
        for line in data_facts(cfg.data.dataset.name, splits):
            say(line)
    if absent:
        say(absent)
