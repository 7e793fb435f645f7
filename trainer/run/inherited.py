"""Requests of ctl that belong to a run: one that is trained from its config.yaml does the same at the same steps."""

from collections.abc import Callable
from pathlib import Path

from configs import Config, differences, load
from trainer.control.requests import REPEATED
from utils.runs.requests import FILE, read_interventions, write_interventions

__all__ = ["CHANGEABLE", "PLACES", "inherit_requests"]

# Keys that may change on resume. Any other change would make it another run.
LENGTH = ("train.max_epoch", "train.max_steps", "train.max_minutes")
PROCESSES = ("train.processes", "train.devices", "train.dist_timeout")  # their number is no part of a run
CHANGEABLE = (*LENGTH, "data.num_workers", "data.loader", *PROCESSES, "log.", "train.shard")
# The data may lie elsewhere: names and split are compared with those that the run began with.
PLACES = ("data.train_data_root", "data.test_data_root", "data.dataset.root")


def inherit_requests(config: str, cfg: Config, folder: Path, say: Callable[[str], None]) -> None:
    """Take over the requests that changed the run whose config.yaml this one is trained from, unless keys differ.

    Raises StorageError.
    """
    source = Path(config)
    rows = read_interventions(source.parent) if source.name == "config.yaml" else []
    rows = [row for row in rows if row["request"] in REPEATED]
    if not rows:
        return
    told = ", ".join(f"{row['request']} at step {row['step']}" for row in rows[:5]) + ", …" * (len(rows) > 5)
    changed = [key for key in differences(load(config), cfg) if not key.startswith(CHANGEABLE) and key not in PLACES]
    if changed:
        say(f"note: the requests in {source.with_name(FILE)} ({told}) are not repeated: {changed[0]} is another")
        return
    write_interventions(folder, rows)
    say(f"repeats the requests in {source.with_name(FILE)}: {told}")
