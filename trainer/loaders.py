"""Batches of a dataset: their order is a function of (seed, epoch), augmentation of (seed, epoch, index)."""

import ctypes
import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torch.utils.data import default_collate as collate

from configs.schema import Data
from trainer.workers import Workers, let_go
from utils import dist
from utils.errors import DataError, UserError, WorkerError

__all__ = ["Batches", "random_state", "seed_all", "set_random_state"]

Key = tuple[int, int]  # epoch and index of a sample
PR_SET_PDEATHSIG = 1  # of Linux' prctl: the signal that a process gets when its parent dies
LOSSES = 3  # of worker processes in one epoch: then the run ends


class Batches:
    """A split's batches, from any position of any epoch; reading starts there, nothing before is touched."""

    def __init__(self, dataset: Dataset, cfg: Data, seed: int, training: bool, say: Callable[[str], None] = print):
        """`say` is told when processes were lost and are replaced."""
        self.dataset, self.cfg, self.seed, self.training, self.say = dataset, cfg, seed, training, say
        self.size: int = len(dataset)  # type: ignore[arg-type]
        self.order = _Order()
        self._workers: Workers | None = None

    def __len__(self) -> int:
        """Batches an epoch, the same on every rank."""
        whole = self.cfg.batch_size * dist.world_size()
        rest = self.size % whole
        # A last batch too small to give each rank a sample is left out of training; validation drops nothing.
        partial = rest >= dist.world_size() and not self.cfg.drop_last if self.training else rest > 0
        return self.size // whole + partial

    def fullness(self, number: int) -> float:
        """How full a batch is, over all ranks: 1.0, but for a short last one."""
        whole = self.cfg.batch_size * dist.world_size()
        return min(whole, self.size - number * whole) / whole

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[list[int], Any]]:
        """(indices, batch) from batch `start` on.

        Raises what the dataset raised, DataError among it; and WorkerError when processes were lost too often.
        """
        order = epoch_order(self.dataset, self.size, self.cfg, (self.seed, epoch) if self.training else None)
        batches = [batch for b in range(len(self)) if (batch := self._mine(order, b, epoch))]
        position, losses = start, 0
        if self._workers is not None and self._workers.loader.num_workers < self.cfg.num_workers:
            self._workers = None  # the epoch before had ended carefully
        while position < len(batches):
            try:
                for indices, batch in self._read(batches[position:], careful=losses == LOSSES - 1):
                    if isinstance(batch, UserError):
                        raise batch
                    yield indices, batch
                    position += 1
            except (UserError, MemoryError):
                raise
            except Exception as error:  # a dead process shows in many ways; what its dataset raised comes as it was
                if not self.cfg.num_workers:
                    raise
                losses += 1
                self._replace(error, losses, batches[position])

    def _read(self, batches: list[list[Key]], careful: bool) -> Iterator[tuple[list[int], Any]]:
        """Careful: one process reads one batch at a time, so that, if it dies, it is known at which."""
        self.order.batches = batches
        if self._workers is None:
            self._workers = Workers(self._make_loader(careful))
        return self._workers.batches()

    def _replace(self, error: Exception, losses: int, awaited: list[Key]) -> None:
        """Drop the processes: the next ones go on where these were, and give the same batches.

        Raises WorkerError the third time.
        """
        dead = self._workers.kill() if self._workers is not None else ""
        reason = dead or (str(error) or type(error).__name__).strip().splitlines()[-1]
        self._workers = None
        let_go(error)
        if losses < LOSSES:
            self.say(f"data workers lost ({reason}); others go on at the same batch ({losses} of {LOSSES} in an epoch)")
            return
        ids = getattr(self.dataset, "ids", range(self.size))
        samples = [str(ids[index]) for _, index in awaited]
        raise WorkerError(
            f"the processes that load data were lost {losses} times in one epoch (last: {reason}), the last time at "
            f"the samples {', '.join(samples[:64])}{', …' if len(samples) > 64 else ''}; --num-workers=0 shows why; "
            "if memory ran out try fewer workers; what was saved is intact, --resume goes on"
        ) from error

    def close(self) -> None:
        """Let the worker processes go: at the interpreter's end torch would take their end for a loss."""
        self._workers = None

    def _mine(self, order: list[int], number: int, epoch: int) -> list[Key]:
        """This rank's share of a batch: each sample goes to one rank."""
        whole = self.cfg.batch_size * dist.world_size()
        batch = order[number * whole : (number + 1) * whole]
        return [(epoch, index) for index in batch[dist.rank() :: dist.world_size()]]

    def _make_loader(self, careful: bool = False) -> DataLoader:
        workers = min(self.cfg.num_workers, 1) if careful else self.cfg.num_workers
        return DataLoader(
            _Samples(self.dataset, self.seed),
            batch_sampler=self.order,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.cfg.pin_memory and torch.cuda.is_available(),
            timeout=self.cfg.worker_timeout if workers else 0,
            worker_init_fn=partial(_start_worker, os.getpid()),
            persistent_workers=workers > 0,
            prefetch_factor=(1 if careful else 2) if workers else None,
            generator=torch.Generator(),  # else a loader draws its workers' seed from the run's random numbers
        )


class _Order(Sampler):
    """The batches to read next."""

    batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Samples(Dataset):
    """A dataset read a batch at a time, each sample with random numbers of its own."""

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitems__(self, keys: list[Key]) -> tuple[list[int], Any]:
        """(indices, the collated batch); a UserError in place of the batch, since workers would wrap it."""
        indices = [index for _, index in keys]
        try:
            if getattr(self.dataset, "in_memory", False):
                return indices, self.dataset.take(indices)  # type: ignore[attr-defined]
            return indices, self._gather(keys)
        except UserError as error:
            return indices, error

    def _gather(self, keys: list[Key]) -> Any:
        before = None if get_worker_info() else random_state()
        samples = []
        for epoch, index in keys:
            seed_all(mix(self.seed, epoch, index))
            samples.append(self.dataset[index])
        if before:
            set_random_state(before)
        return _collate(self.dataset, samples)


def _collate(dataset: Dataset, samples: list[Any]) -> Any:
    """The dataset's own `collate`, or torch's.

    Raises DataError when samples differ in size.
    """
    try:
        return getattr(dataset, "collate", collate)(samples)
    except RuntimeError as error:
        if "equal size" not in str(error):
            raise
        first = [s[0] if isinstance(s, (tuple, list)) else s for s in samples]
        sizes = sorted({"x".join(map(str, s.shape)) for s in first if isinstance(s, torch.Tensor)})
        raise DataError(
            f"samples of different sizes ({', '.join(sizes[:3])}) cannot make a batch; give data.transform a "
            "RandomResizedCrop (train) and Resize with CenterCrop (eval)"
        ) from error


def epoch_order(dataset: Any, size: int, cfg: Data, key: tuple[int, int] | None) -> list[int]:
    """The order of samples in the epoch of `key` (seed, epoch); without a key, as they stand."""
    if key is None:
        return list(range(size))
    generator = torch.Generator().manual_seed(mix(*key))
    if cfg.balance_classes:
        return _balanced(dataset, size, generator)
    return torch.randperm(size, generator=generator).tolist() if cfg.shuffle else list(range(size))


def _balanced(dataset: Any, size: int, generator: torch.Generator) -> list[int]:
    """Draws with replacement in which each class is equally likely.

    Raises DataError for a dataset that does not tell its labels.
    """
    if getattr(dataset, "labels", None) is None:
        raise DataError(f"data.balance_classes: {type(dataset).__name__} has no `labels` to balance by")
    labels = torch.as_tensor(dataset.labels)
    weights = 1.0 / labels.bincount().double()[labels]
    return torch.multinomial(weights, size, replacement=True, generator=generator).tolist()


def mix(*numbers: int) -> int:
    """A seed of 63 bits that is a function of some numbers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch. torch.manual_seed would do for torch, at a hundred times the price a sample."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random number generator, as plain values and tensors."""
    name, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Continue where `random_state` was taken."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(parent: int, number: int) -> None:
    """Ctrl-C goes to every process of the terminal; the training process alone decides what follows.

    It ends with the training process: torch's own watch begins too late for one that is killed right after the start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
