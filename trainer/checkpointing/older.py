"""Checkpoints of older versions, read as those of now."""

from typing import Any

__all__ = ["brought_up"]

SIZES = ("batch_size", "eval_batch_size")


def brought_up(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's state with its position in samples, and with batches of all processes together.

    Older ones counted batches, and their sizes were those of each process. `each_process` is then the old batch size.
    """
    progress, data, known = state["progress"], state["config"].get("data"), state.get("fingerprint", {})
    if "samples" in progress or not isinstance(data, dict) or not isinstance(data.get("batch_size"), int):
        return state
    processes, size = known.get("processes", 1), known.get("training samples")
    batch = progress.get("batch")
    if not isinstance(processes, int) or not isinstance(batch, int):
        return state
    if processes > 1:
        state["each_process"] = data["batch_size"]
        data.update({name: data[name] * processes for name in SIZES if isinstance(data.get(name), int)})
    progress["samples"] = batch * data["batch_size"]
    if isinstance(size, int):
        repeats = state["config"].get("train", {}).get("overfit")  # then an epoch is longer than the training set
        progress["samples"] = batch * min(data["batch_size"], size) if repeats else min(progress["samples"], size)
    return state
