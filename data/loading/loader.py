"""Loader: a split's batches; their order is a function of (seed, epoch), augmentation of (seed, epoch, index).

A batch is that of all processes together. How many there are decides only which process reads which of its samples.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs.schema import Data, Mix
from data._broken import all_broken
from data.loading.bad_samples import BadSamples
from data.loading.mixing import mixing_of
from data.loading.samplers import Order, epoch_order, order_told, sampler_of, spread
from data.loading.samples import Keys, Samples
from data.loading.threads import Threads
from data.loading.workers import Workers, release_frames
from data.protocol import batch_reader, draws, files_of, ids_of, is_on_gpu, takes_exclude
from utils import dist
from utils.device import CPU, move
from utils.errors import ConfigError, DataError, PictureError, UserError, WorkerError
from utils.terminal import show
from utils.torch_private import pin_memory

__all__ = ["Loader", "looking"]

# errors of the program; they do not mean that a worker was lost
PROGRAM_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
MOST_TOLD = 8  # shares of a batch that a sentence names
PROBED = 8  # samples of a probe
MAX_WORKER_LOSSES = 3  # worker processes that may be lost in one epoch; the last one ends the run


class Loader:
    """A split's batches, from any position of any epoch; batches before the position are not read.

    Each process reads a share of every batch: of 10 samples, four processes read 3, 3, 2 and 2.
    """

    def __init__(
        self,
        dataset: Dataset,
        cfg: Data,
        seed: int,
        training: bool,
        say: Callable[[str], None] = show,
        least: int = 1,
        device: torch.device = CPU,
        classes: int | None = None,
    ):
        """Prepare the batches; they come on `device`.

        `say` announces lost processes that are replaced. A rank needs `least` samples of a training batch.
        Pictures of a fused transform are sent to a GPU as bytes and normalised there. With `classes` the labels of
        batches (inputs, labels) are looked at: they must be numbers below it.

        Raises ConfigError when threads are asked for but the samples draw from the process's random numbers, and for
        more processes than a training batch has samples for; DataError when there are too few samples for a batch.
        """
        if not training and cfg.eval_batch_size is not None:
            cfg = replace(cfg, batch_size=cfg.eval_batch_size)
        if is_on_gpu(dataset):
            cfg = replace(cfg, num_workers=0, pin_memory=False)
        self.dataset, self.cfg, self.seed, self.training, self.say = dataset, cfg, seed, training, say
        assert cfg.batch_size != "auto", "a number takes its place before"
        self.batch_size = cfg.batch_size  # of all processes together
        self.sampler = (
            sampler_of(dataset, cfg, self.batch_size) if training and len(dataset) else None  # type: ignore[arg-type]
        )
        self.size: int = len(self.sampler or dataset)  # type: ignore[arg-type]
        self.least, self.device = least, device
        self.order: Order | None = None  # of a part, see `part`
        self.samples = Samples(dataset, seed, late=device.type == "cuda", classes=classes)
        self.samples.population = None if self.sampler is None else self.sampler.population()
        self.bad = BadSamples(dataset, cfg, training, self.samples.drawable(), say)
        self.samples.action, self.samples.fewest = self.bad.action, least if training else 0
        self.mixing = mixing_of(cfg.mix, seed, classes) if training else None
        self.threaded = self._use_threads()
        self._workers: Workers | None = None
        self._threads: Threads | None = None
        if training and not len(self):
            raise DataError(
                f"{self.size} training samples make no batch of {cfg.batch_size}; give more, or a smaller "
                "--batch-size, or leave out --data.drop_last"
            )
        if training and self.batch_size < least * dist.world_size():
            raise ConfigError(_too_many(self.batch_size, least))
        if training:
            self._tell()

    def _tell(self) -> None:
        """Say by which rule the order is drawn, if it is not the usual one, and which samples are left out."""
        if told := order_told(self.size, self.cfg, self.sampler):
            self.say(told)
        if not self.cfg.drop_last and 0 < self.size % self.batch_size < self.least:
            self.say("a last batch with a lone sample is left out of training: BatchNorm learns from two or more")

    def __len__(self) -> int:
        """Return the number of batches an epoch, the same for any number of processes."""
        rest = self.size % self.batch_size
        # A last batch too small to learn from is left out of training; validation leaves out nothing.
        partial = rest >= self.least and not self.cfg.drop_last if self.training else rest > 0
        return self.size // self.batch_size + partial

    def taken(self, batches: int) -> int:
        """Return how many samples of an epoch's order its first batches hold."""
        return min(batches * self.batch_size, self.size)

    def batches_in(self, samples: int) -> int:
        """Return how many batches the first samples of an epoch's order are."""
        return min(-(-samples // self.batch_size), len(self))

    def tell_shares(self) -> str:
        """Return in words how the processes share a batch."""
        ranks, batch = dist.world_size(), self.batch_size
        shares = [f"{len(range(rank, batch, ranks)):,}" for rank in range(min(ranks, MOST_TOLD))]
        told = " + ".join(shares) + " + …" * (ranks > MOST_TOLD)
        return f"{ranks} processes share each batch of {batch:,} samples (data.batch_size): {told}"

    def weights(self, number: int, samples: int) -> tuple[float, float | None]:
        """Return how much a batch counts: this rank's samples over a full share, and the mean of that over ranks.

        The second is None where bad samples are left out, of which a rank does not know the others'.
        """
        own, whole = samples * dist.world_size() / self.batch_size, self.taken(number + 1) - self.taken(number)
        return own, None if self.training and self.bad.action == "skip" else whole / self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[list[int], Any]]:
        """Yield (indices, batch) from batch `start` on, the batch on the device.

        A rank without a share of a training batch gets samples of another one, to take part in the step, and no index.
        Raises the dataset's errors, for example DataError, and WorkerError when processes were lost too often.
        """
        batches = self._read_epoch(epoch, start)
        if self.device.type != "cpu" or self.samples.late:
            batches = map(self._to_device, batches)
        return batches if self.mixing is None else self.mixing.mixed(batches, epoch, start)

    def probe(self) -> None:
        """Read a few samples, from all over the split, as one batch. Raises the errors that a batch may raise.

        Samples of several sizes, or labels of the wrong kind, would otherwise be found after a whole epoch.
        """
        if self.size and self.samples.reader is None:
            chosen = spread(len(self.samples), PROBED)
            if isinstance(batch := self.samples.__getitems__((0, chosen, ()))[1], UserError):
                raise batch

    def first(self, batches: int) -> Tensor:
        """Return the samples of the first batches of the first epoch [N]; of full ones, if there are any."""
        order = self.order_of(0)
        count = min(batches * self.batch_size, self.size)
        return order[: count - count % self.batch_size or count]

    def part(self, indices: Tensor, times: int = 1) -> "Loader":
        """Return a loader of these samples alone, so many times an epoch, the same in each; this process reads them."""
        part = copy(self)
        part.order, part.size = indices.repeat(times), times * len(indices)
        part.batch_size = min(self.batch_size, max(1, len(indices)))
        part.cfg, part._workers, part._threads = replace(self.cfg, num_workers=0, drop_last=False), None, None
        part.bad = self.bad.silent()
        return part

    def _to_device(self, read: tuple[list[int], Any]) -> tuple[list[int], Any]:
        """Return (indices, batch) with the batch on the device."""
        batch = move(read[1], self.device)
        return read[0], self.samples.reader.finish(batch) if self.samples.late else batch  # type: ignore[union-attr]

    def _read_epoch(self, epoch: int, start: int) -> Iterator[tuple[list[int], Any]]:
        """Yield (indices, batch) as they were read; lost processes are replaced."""
        order = self.order_of(epoch) if self.order is None else self.order
        epoch = epoch if self.order is None else 0  # of a part: the same augmentation each time
        position, lost, count = start, 0, len(self)
        while count and not len(self._rank_indices(order, count - 1)):
            count -= 1  # a batch of validation with fewer samples than there are ranks
        if self._workers is not None and self._workers.count < self.cfg.num_workers:
            self._workers.close()  # the last epoch ended in the careful mode, with one process
            self._workers = None
        while position < count:
            try:
                numbers = range(position, count)
                wanted = ((epoch, self._rank_indices(order, number), self.bad.unread()) for number in numbers)
                for indices, batch, bad in self._read(wanted, careful=lost == MAX_WORKER_LOSSES - 1):
                    if bad:
                        self.bad.add(bad)
                    if isinstance(batch, PictureError):
                        raise all_broken(files_of(self.dataset), batch, takes_exclude(self.dataset))
                    if isinstance(batch, UserError):
                        raise batch
                    if indices:  # all samples of a batch of validation may be left out
                        yield indices if dist.rank() < self._sharers(position) else [], batch
                    position += 1
            except (UserError, MemoryError):
                raise
            except Exception as error:  # a dead process causes errors of many types
                if not self.cfg.num_workers or self.threaded or isinstance(error, PROGRAM_ERRORS):
                    raise
                lost += 1
                self._replace(error, lost, self._rank_indices(order, position).tolist())
        self.bad.share()

    def order_of(self, epoch: int) -> Order:
        """Return the samples of an epoch, in their order."""
        key = (self.seed, epoch) if self.training else None
        return epoch_order(self.size, self.cfg, self.sampler, key)

    def _use_threads(self) -> bool:
        """Return whether threads read. Processes read if samples draw random numbers that threads would share."""
        reader = batch_reader(self.dataset)
        if self.cfg.loader == "threads" and reader is None:
            raise ConfigError(
                "data.loader: threads need samples whose random numbers are their own, as those of data.pixels=fast "
                "are; take auto or processes"
            )
        return self.cfg.loader == "threads" or (self.cfg.loader == "auto" and draws(reader))

    def _read(self, wanted: Iterator[Keys], careful: bool) -> Iterator[tuple[list[int], Any, Any]]:
        """Return the wanted batches. `careful`: one worker, one batch at a time, so that the failing batch is known."""
        cfg, pin = self.cfg, self.cfg.pin_memory and self.device.type == "cuda"
        if cfg.num_workers and not self.threaded:
            if self._workers is None:
                count, ahead = (1, 1) if careful else (cfg.num_workers, 2)
                self._workers = Workers(self.samples, count, ahead, cfg.worker_timeout, pin)
            return self._workers.batches(wanted)
        read = (lambda keys: pin_memory(self.samples.__getitems__(keys))) if pin else self.samples.__getitems__
        if not cfg.num_workers:
            return map(read, wanted)
        self._threads = self._threads or Threads(cfg.num_workers, cfg.worker_timeout)
        return self._threads.batches(read, wanted)

    def _replace(self, error: Exception, lost: int, awaited: list[int]) -> None:
        """End the processes; new ones continue at the same batch and give the same batches.

        Raises WorkerError the third time.
        """
        dead = self._workers.kill() if self._workers is not None else ""
        reason = dead or (str(error).strip() or type(error).__name__).splitlines()[-1]
        if "SIGBUS" in reason or "(shm)" in reason:
            reason += ": /dev/shm is full, docker run --shm-size=2g gives more"
        self._workers = None
        release_frames(error)
        if lost < MAX_WORKER_LOSSES:
            count = f"{lost} of {MAX_WORKER_LOSSES} in an epoch"
            self.say(f"data workers lost ({reason}); others go on at the same batch ({count})")
            return
        ids = ids_of(self.dataset)
        samples = [str(ids[index]) for index in awaited]
        raise WorkerError(
            f"the processes that load data were lost {lost} times in one epoch (last: {reason}), the last time at "
            f"the samples {', '.join(samples[:64])}{', …' if len(samples) > 64 else ''}; --num-workers=0 shows why; "
            "if memory ran out try fewer workers; what was saved is intact, --resume goes on"
        ) from error

    def close(self) -> None:
        """End the processes and threads. At the interpreter's exit torch would report ended processes as lost."""
        if self._threads is not None:
            self._threads.close()
        if self._workers is not None:
            self._workers.close()
        self._workers = self._threads = None

    def _rank_indices(self, order: Order, number: int) -> Tensor:
        """Return this rank's share of a batch; each sample goes to one rank."""
        batch, sharers = order[self.taken(number) : self.taken(number + 1)], self._sharers(number)
        if self.training and dist.rank() >= sharers:
            return batch[: self.least]  # it steps along, and they count nothing
        return batch[dist.rank() :: sharers]

    def _sharers(self, number: int) -> int:
        """Return how many ranks share a batch: all, except for a last one that is too small."""
        if not self.training:
            return dist.world_size()
        samples = self.taken(number + 1) - self.taken(number)
        return min(dist.world_size(), max(1, samples // self.least))


def _too_many(batch: int, least: int) -> str:
    """Return in words that a batch has too few samples for the processes."""
    if dist.world_size() == 1:
        return (
            f"data.batch_size: {batch} is too few, for BatchNorm learns from {least} samples or more; take a larger one"
        )
    fit, why = max(1, batch // least), f", and BatchNorm learns from {least} or more in each" if least > 1 else ""
    told = f"data.batch_size: {batch} samples a step are too few for {dist.world_size()} processes{why}; start "
    return told + (f"at most {fit} processes" if fit > 1 else "one process") + ", or take a larger --batch-size"


def looking(dataset: Dataset, cfg: Any, device: torch.device) -> Loader:
    """Return the batches of a split in a drawn order, for a look that is no part of the run of this config."""
    action: Any = "raise" if cfg.data.on_bad_sample == "raise" else "replace"
    own: dict[str, Any] = {"sampler": None, "balance_classes": False, "on_bad_sample": action, "mix": Mix()}
    data = replace(cfg.data, num_workers=0, shuffle=True, drop_last=False, **own)
    loader = Loader(dataset, data, cfg.train.seed, training=True, device=device)
    loader.bad = loader.bad.silent()
    return loader
