"""The random numbers of python, numpy and torch: seeds from other numbers, and states to return to."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["mix", "random_mark", "random_state", "same_random_state", "seed_all", "set_random_state"]


def mix(*numbers: int) -> int:
    """Return a seed of 63 bits, a function of the given numbers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch. torch.manual_seed takes a hundred times as long, which counts for each sample."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of every random number generator, as plain values and tensors."""
    name, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def random_mark() -> int:
    """Return a number that changes when a random number is drawn, on a GPU excepted."""
    _, keys, *rest = np.random.get_state()
    return hash((random.getstate(), np.asarray(keys).tobytes(), *rest, torch.get_rng_state().numpy().tobytes()))


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the state that `random_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def same_random_state() -> Iterator[None]:
    """Restore the random state at the end, as if nothing had been drawn within."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)
