"""A dataset that is read a batch at a time, by processes, threads or the training process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from data.loading.bad_samples import Bad
from data.loading.collate import check_labels, collate, read_sample
from data.protocol import BAD, batch_reader, draws, files_of, is_missing
from utils.errors import DataError, PictureError, UserError
from utils.randomness import mix, same_random_state, seed_all

__all__ = ["Keys", "Samples"]

Keys = tuple[int, Any, tuple[int, ...]]  # of a batch: its epoch, its samples' indices, indices that are not read
TRIES = 1000  # other samples that are tried in the place of a bad one


class Samples(Dataset):
    """Reads batches; each sample has its own random numbers, a function of (seed, epoch, index)."""

    # the answer to samples that cannot be read; fewest: samples that a batch keeps where they are left out
    action, fewest = "raise", 0
    population: Tensor | None = None  # indices of the samples that may take another's place; None: all

    def __init__(self, dataset: Dataset, seed: int, late: bool = False, classes: int | None = None):
        """Store the dataset. `late`: leave batches unfinished, if the dataset can finish them on the device."""
        self.dataset, self.seed, self.classes = dataset, seed, classes
        self.reader = batch_reader(dataset)
        self.draws = draws(self.reader)
        self.late = late and self.draws

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def drawable(self) -> int:
        """Return the number of samples that an epoch may have."""
        return len(self) if self.population is None else len(self.population)

    def __getitems__(self, keys: Keys) -> tuple[list[int], Any, Sequence[Bad]]:
        """Return (indices, the collated batch, the samples that could not be read).

        A UserError is returned in place of the batch, because workers would wrap it. Where samples are left out the
        indices are those of the others, and the batch of none is None.
        """
        epoch, chosen, unread = keys
        indices, bad = torch.as_tensor(chosen).tolist(), dict[int, Bad]()
        try:
            with self._own_numbers():
                if self.action == "raise":
                    return indices, self._read(indices, self._seeds(epoch, indices)), ()
                indices, batch = self._sift(epoch, indices, set(unread), bad)
                return indices, batch, list(bad.values())
        except UserError as error:
            return indices, error, list(bad.values())

    def _seeds(self, epoch: int, indices: Sequence[int]) -> list[int]:
        return [mix(self.seed, epoch, index) for index in indices] if self.draws or not self.reader else []

    def _read(self, indices: list[int], seeds: list[int]) -> Any:
        if self.reader is None:
            return self._collate(indices, self._gather(indices, seeds))
        batch = self.reader.read(torch.tensor(indices), seeds)
        return self.reader.finish(batch) if self.draws and not self.late else batch

    def _gather(self, indices: Sequence[int], seeds: Sequence[int]) -> list[Any]:
        samples = []
        for index, seed in zip(indices, seeds, strict=True):
            seed_all(seed)
            samples.append(read_sample(self.dataset, index))
        return samples

    @contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """Restore the run's random numbers afterwards; processes and readers of batches do not touch them."""
        if self.reader is not None or get_worker_info():
            yield
            return
        with same_random_state():
            yield

    def _collate(self, indices: list[int], samples: list[Any]) -> Any:
        batch = collate(self.dataset, indices, samples)
        if self.classes:
            check_labels(self.dataset, indices, batch, self.classes)
        return batch

    # Bad samples

    def _sift(self, epoch: int, indices: list[int], unread: set[int], bad: dict[int, Bad]) -> tuple[list[int], Any]:
        """Return (indices, batch) of the samples that can be read, with others in the place of bad ones.

        A sample that takes another's place has that one's random numbers.
        """
        if self.reader is not None:  # most batches have no bad sample, and are read at once
            kept = self._good(epoch, indices, unread, bad, trusting=True)
            chosen = [index for index, _, _ in kept]
            try:
                return chosen, self._read(chosen, [seed for _, seed, _ in kept] if self.draws else []) if kept else None
            except BAD:  # of which samples is found out below
                pass
        kept = self._good(epoch, indices, unread, bad)
        chosen, samples = [index for index, _, _ in kept], [sample for _, _, sample in kept]
        if not kept:
            return [], None
        return chosen, self._collate(chosen, samples) if self.reader is None else self._joined(samples)

    def _joined(self, batches: list[Any]) -> Any:
        """Return one batch of batches of one sample each."""
        assert self.reader is not None, "a dataset that reads batches"
        pairs = isinstance(batches[0], tuple)
        joined = tuple(map(torch.cat, zip(*batches, strict=True))) if pairs else torch.cat(batches)
        return self.reader.finish(joined) if self.draws and not self.late else joined

    def _good(
        self, epoch: int, indices: list[int], unread: set[int], bad: dict[int, Bad], trusting: bool = False
    ) -> list[tuple[int, int, Any]]:
        """Return (index, seed, sample) of good samples; `trusting`: of these indices too, which are not read yet."""
        kept: list[tuple[int, int, Any]] = []
        lost: list[tuple[int, int]] = []
        for index in indices:
            seed = mix(self.seed, epoch, index)
            trusted = trusting and index not in unread
            if found := [(index, seed, None)] if trusted else self._try(index, seed, unread, bad):
                kept += found
            elif self.action == "skip":
                lost.append((index, seed))
            else:
                kept.append(self._instead(epoch, index, seed, unread, bad))
        missing = max(0, self.fewest - len(kept))
        return kept + [self._instead(epoch, index, seed, unread, bad) for index, seed in lost[:missing]]

    def _try(self, index: int, seed: int, unread: set[int], bad: dict[int, Bad]) -> list[tuple[int, int, Any]]:
        """Return [(index, seed, sample)], or nothing for a sample that cannot be read, which is noted in `bad`."""
        if index in unread or index in bad:
            return []
        try:
            if self.reader is not None:
                sample = self.reader.read(torch.tensor([index]), [seed] if self.draws else [])
            else:
                sample = self._gather([index], [seed])[0]
        except BAD as error:
            bad[index] = self._explained(index, error)
            return []
        if self.reader is None and is_missing(sample):
            bad[index] = self._explained(index, DataError("the dataset gives None for it"))
            return []
        return [(index, seed, sample)]

    def _instead(
        self, epoch: int, index: int, seed: int, unread: set[int], bad: dict[int, Bad]
    ) -> tuple[int, int, Any]:
        """Return the first good sample of those that (seed, epoch, index) draw. Raises DataError if none is good."""
        for candidate in self._candidates(epoch, index):
            if found := self._try(candidate, seed, unread, bad):
                return found[0]
        raise DataError(f"{TRIES:,} samples were tried in the place of sample {index}, and none can be read")

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        count = self.drawable()
        for attempt in range(1, TRIES + 1):
            place = mix(self.seed, epoch, index, attempt) % count
            yield place if self.population is None else int(self.population[place])

    def _explained(self, index: int, error: Exception) -> Bad:
        if isinstance(error, PictureError):
            return Bad(index, error.path, error.reason)
        files = files_of(self.dataset)
        file = str(files[index]) if len(files) == len(self) else ""
        return Bad(index, file, " ".join((str(error) or type(error).__name__).split()))
