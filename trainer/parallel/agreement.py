"""See that all processes of a group train the same: config, program, versions and data."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from configs import Config
from data.protocol import content_of, identity_of
from utils import dist
from utils.config.convert import flatten, to_plain
from utils.errors import DifferenceError
from utils.runs import record

__all__ = ["agree_on_checkpoint", "agree_on_config", "agree_on_data"]

# Keys that may differ from machine to machine: where the data lie, which GPUs there are.
LOCAL = ("data.train_data_root", "data.test_data_root", "data.dataset.root", "train.devices", "train.processes", "log.")


def agree_on_config(cfg: Config) -> None:
    """Raise DifferenceError, on every rank, unless all ranks have the same config, program and versions."""
    if dist.world_size() == 1:
        return
    facts = {key: value for key, value in flatten(to_plain(cfg)).items() if not key.startswith(LOCAL)}
    facts |= {f"the version of {name}": version for name, version in record.versions().items()}
    _compare(facts | {"the program's code": dict(record.hashes(record.code_files()))})


def agree_on_checkpoint(progress: Mapping[str, Any], source: str) -> None:
    """Raise DifferenceError, on every rank, unless all have read the same save."""
    found = dist.gather(dict(progress))
    for rank, other in enumerate(found):
        if other != found[0]:
            one, two = (f"step {at.get('step')}, {at.get('seconds', 0):.3f} s of training" for at in (found[0], other))
            raise DifferenceError(
                f"{source}: process {rank} of the group has read another checkpoint ({two}) than process 0 ({one}); "
                "the run folder must lie on a disk that all machines share"
            )


def agree_on_data(train: Dataset, val: Dataset | None) -> None:
    """Raise DifferenceError, on every rank, unless all have the same samples, at least one for each."""
    if dist.world_size() == 1:
        return
    splits = {"train": train} if val is None else {"train": train, "val": val}
    told = "(names, classes, number or content)"
    _compare({f"the {split} split {told}": (identity_of(data), content_of(data)) for split, data in splits.items()})
    if len(train) < dist.world_size():  # type: ignore[arg-type]
        raise DifferenceError(
            f"train.processes: {dist.world_size()} processes, and {len(train)} training samples;"  # type: ignore[arg-type]
            " start at most one process for each sample"
        )


def _compare(facts: dict[str, Any]) -> None:
    """Compare the facts of all ranks with those of rank 0; each rank raises the same error."""
    all_facts = dist.gather(facts)
    first = all_facts[0]
    for rank, others in enumerate(all_facts):
        for name in [*first, *others]:
            one, other = first.get(name, "not there"), others.get(name, "not there")
            if one != other:
                shown = f": {one} and {other}" if len(f"{one}{other}") < 100 else ""
                raise DifferenceError(
                    f"{name} differs between process 0 and process {rank} of the group{shown}; all must be started "
                    "with the same command, program and data"
                )
