"""check --data: read the data of a config as training would, and print what they are taken for."""

from collections.abc import Callable

from torch.utils.data import Dataset

from configs import COMPONENTS, Config
from data._broken import broken_named
from data.loading.collate import check_labels, collate, read_sample
from data.loading.part import with_fraction
from data.protocol import batch_reader, meta_of
from trainer.build import build_dataset
from trainer.checks.data_facts import data_facts
from trainer.messages import explain_torch_errors
from trainer.tasks.classification import Classification
from utils.errors import DataError
from utils.randomness import same_random_state

__all__ = ["check_data"]

MOST = 32  # samples of a split that are read


def check_data(cfg: Config, say: Callable[[str], None]) -> None:
    """Print what each split is taken for, to the last line.

    Raises DataError for a folder that is missing or data that training would refuse; the split test may be absent,
    unless the config names its folder.
    """
    splits: dict[str, Dataset] = {}
    with explain_torch_errors(cfg):
        splits["train"] = with_fraction(build_dataset(cfg, "train", {}, say), cfg.data.fraction, cfg.train.seed)
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
        for line in data_facts(cfg.data.dataset.name, splits, cfg.data.transform):
            say(line)
        task = COMPONENTS["task"].get(cfg.task.name)
        for split in splits if issubclass(task, Classification) else ():
            _check_batch(cfg, splits[split], split)
    if absent:
        say(absent)


def _check_batch(cfg: Config, dataset: Dataset, split: str) -> None:
    """Raise the error of a batch of the first samples, as training would: of other sizes, or of wrong labels."""
    size = cfg.data.batch_size
    indices = range(min(MOST if size == "auto" else size, MOST, len(dataset)))  # type: ignore[arg-type]
    if not indices and split == "train":
        raise DataError("data.dataset: the split train has no sample; add some")
    if not indices or split == "test" or batch_reader(dataset):  # the last checks its labels itself
        return
    with same_random_state(), broken_named(dataset):
        batch = collate(dataset, indices, [read_sample(dataset, index) for index in indices])
    if classes := meta_of(dataset).get("classes"):
        check_labels(dataset, indices, batch, len(classes))
