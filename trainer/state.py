"""Everything that decides the future of a run, as one dict of tensors and plain values."""

from typing import TYPE_CHECKING, Any

import torch

from trainer.checkpointing.weights import buffer_state, load_network_state, network_state
from trainer.progress import Progress
from utils import dist
from utils.config.convert import to_plain
from utils.errors import CheckpointError
from utils.randomness import random_state, set_random_state

if TYPE_CHECKING:
    from trainer.trainer import Trainer

__all__ = ["fingerprint", "pack", "unpack"]


def pack(trainer: "Trainer") -> dict[str, Any]:
    """The state of a run between two steps; every rank must call it."""
    averaged = trainer.averaged
    return {
        "model": network_state(trainer.task),
        "buffers": buffer_state(trainer.task),
        "ema": network_state(averaged.module) if averaged else None,  # type: ignore[arg-type]
        "ema_count": int(averaged.n_averaged) if averaged else 0,  # type: ignore[arg-type]
        "update": trainer.update.state_dict(),
        "progress": trainer.progress.state_dict(),
        "ranks": dist.gather({"random": random_state(), "window": trainer.window.state_dict()}),
        "config": to_plain(trainer.cfg),
        "meta": trainer.meta,
        "fingerprint": fingerprint(trainer),
    }


def unpack(trainer: "Trainer", state: dict[str, Any]) -> None:
    """Make a new trainer, whose networks have their weights already, stand where `pack` was called.

    Raises CheckpointError when the state lacks something, or is that of another run.
    """
    try:
        _put_back(trainer, state)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise CheckpointError(f"the checkpoint's state is not whole ({reason}); resume from another one") from error


def _put_back(trainer: "Trainer", state: dict[str, Any]) -> None:
    if trainer.averaged:
        weights, buffers = state["ema"] or state["model"], state["buffers"]
        load_network_state(trainer.averaged.module, weights, buffers, "the checkpoint")  # type: ignore[arg-type]
        trainer.averaged.n_averaged.fill_(state["ema_count"])  # type: ignore[operator, union-attr]
    trainer.update.load_state_dict(state["update"])
    trainer.averaged_at = trainer.update.taken
    trainer.progress = Progress.from_state(state["progress"])
    own = state["ranks"][dist.rank()] if dist.rank() < len(state["ranks"]) else None
    if own:
        trainer.window.load_state_dict(own["window"])
        set_random_state(own["random"])


def fingerprint(trainer: "Trainer") -> dict[str, Any]:
    """What must be the same for a resumed run to be the same to the last bit."""
    device = trainer.device
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": dist.world_size(),
        "training samples": trainer.train_batches.size,
    }
