"""What only a GPU can show: a small step, the network at 224 px, batches, the stall of a save, how busy it is kept."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ready import make_batches, make_trainer
from benchmarks.rows import Options, Row, Sample, alternate, fact, missing, paired, timed
from benchmarks.step import by_hand, ours, scale_of, side_of
from configs import load
from configs.schema import Data
from data._images import ImageDataset
from data._stores import Pixels
from data.loading.cache import with_cache
from data.loading.loader import Loader
from models import ResNet34
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import Store
from trainer.progress import Progress
from trainer.trainer import Trainer
from trainer.watchers.watcher import Outlets
from utils.config.cli import as_flag
from utils.sinks.console import Console

__all__ = ["measure"]

STEPS, CLASSES = 400, 10
SAMPLES = 60_000  # as many as MNIST has
NETWORK = ("--model=ResNet34", "--optim=SGD", "--optim.lr=0.01", "--optim.momentum=0.9", "--schedule=null")
MODES = {  # TF32, bfloat16, channels_last, compiled
    "TF32": (True, False, False, False),
    "bfloat16": (True, True, False, False),
    "bfloat16, channels_last": (True, True, True, False),
    "bfloat16, channels_last, compiled": (True, True, True, True),
}


def measure(options: Options) -> Iterator[Row]:
    """All of it on the first GPU; without one a row says so."""
    if not torch.cuda.is_available():
        yield missing("gpu", "everything", "torch finds no GPU")
        return
    yield from on(torch.device("cuda", 0), options)
    yield busy(options)


def on(device: torch.device, options: Options) -> Iterator[Row]:
    """The rows that any device can have; times are those of the clock, until the device has done its work.

    The small step's are the host's, which gets ahead of the device by no more than its queue is long.
    """
    yield _step(device, options)
    yield from _batches(device, options)
    yield _stall(device, options)
    yield from _network(device, options)  # last: compiling takes as long as all the rest


def _step(device: torch.device, options: Options) -> Row:
    ready = [(x.to(device), y.to(device)) for x, y in make_batches(50 if options.quick else STEPS)]
    with tempfile.TemporaryDirectory() as folder:
        passes = [ours(ready, Path(folder), False), by_hand(ready)]
        sides = alternate([side_of(one) for one in passes], options.times(15))
    return paired("gpu", "a small step, bare; a hand-written loop", "µs a step", sides, scale_of(ready), clock="wall")


def _network(device: torch.device, options: Options) -> Iterator[Row]:
    """A training step in each mode, against float32 without TF32."""
    size, batch = (32, 4) if options.quick else (224, 32)
    plain = _training(device, size, batch, (False, False, False, False))
    for name, mode in MODES.items():
        sides = alternate([_training(device, size, batch, mode), plain], options.times(9, quick=1))
        what = f"ResNet34, {size} px, batches of {batch}: {name}; float32 without TF32"
        yield paired("gpu", what, "ms a step", sides, 1e3 / 10, clock="wall")


def _training(device: torch.device, size: int, batch: int, mode: Sequence[bool]) -> Callable[[], Sample]:
    """Ten steps."""
    tf32, bf16, last, compiled = mode
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    net: Any = ResNet34(CLASSES).to(device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    x = torch.randn(batch, 3, size, size, device=device).to(memory_format=layout)
    y = torch.randint(CLASSES, (batch,), device=device)
    if compiled:
        net.compile()

    def steps() -> None:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        for _ in range(10):
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        _wait(device)

    return partial(timed, steps)


def _batches(device: torch.device, options: Options) -> Iterator[Row]:
    """Whole shuffled epochs of pixels in uint8, as floats on the device: kept there or in memory, and by torch."""
    count, size = (2_000, 256) if options.quick else (SAMPLES, 256)
    pixels = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (count,))
    names = [str(i) for i in range(count)]
    dataset = ImageDataset(Pixels(pixels), names, labels, names[:CLASSES], None)
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=size, shuffle=True, pin_memory=device.type == "cuda")
    sides = [
        _epochs(with_cache(dataset, "gpu", device=device), size, device),
        _epochs(dataset, size, device),
        partial(timed, partial(_theirs, loader, device)),
    ]
    kept, sent, theirs = alternate(sides, options.times(9))
    row = partial(paired, "gpu", unit="µs a batch", scale=1e6 / (count // size), clock="wall")
    name = f"{count:,} samples of 28x28 in batches of {size}"
    yield row(f"{name}: pixels kept there; torch's DataLoader", sides=(kept, theirs))
    yield row(f"{name}: pixels sent; torch's DataLoader", sides=(sent, theirs))


def _epochs(dataset: Any, size: int, device: torch.device) -> Callable[[], Sample]:
    batches = Loader(dataset, Data(batch_size=size), seed=0, training=True, device=device)
    epochs = iter(range(1_000_000))

    def epoch() -> None:
        for _ in batches.epoch(next(epochs)):
            pass
        _wait(device)

    return partial(timed, epoch)


def _theirs(loader: DataLoader, device: torch.device) -> None:
    for x, y in loader:
        x.to(device, non_blocking=True).float().div_(255)
        y.to(device, non_blocking=True)
    _wait(device)


def _stall(device: torch.device, options: Options) -> Row:
    """How long a save keeps the training, after the device has done its work."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(*NETWORK, "--train.max_steps=1", gpu=device.type == "cuda")
        with closing(trainer):
            trainer.train_epoch()
            trainer.saver = Saver(Store(Path(folder)), background=True)
            network: nn.Module = trainer.state.task.model  # type: ignore[assignment]
            optimizer = trainer.state.update.steps["model"].optimizer

            def save() -> Sample:
                _wait(device)
                sample = timed(partial(trainer.save, []))
                trainer.saver.wait()
                return sample

            def plain() -> Sample:
                state = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
                return timed(partial(torch.save, state, Path(folder) / "plain.pth"))

            sides = alternate([save, plain], options.times(9))
    return paired("gpu", "the stall of a save, ResNet34 and momentum; torch.save", "ms", sides, 1e3, clock="wall")


def busy(options: Options) -> Row:
    """The share of an epoch in which the GPU computes: ResNet34 at 224 px from decoded photos, from its first to its
    last kernel; copies, on a stream of their own, do not count.
    """
    name = "ResNet34, 224 px, bf16, photos from data.cache=ram: the GPU computes"
    if not options.photos.is_dir():
        return missing("gpu", name, f"no photos in {options.photos}; set --photos=FOLDER")
    flags = (f"--train-data-root={options.photos}", "--data.cache=ram", "--num-workers=8", "--train.precision=bf16")
    cfg = load("dogcat", [as_flag(flag) for flag in (*flags, "--use-gpu")])
    with closing(Trainer(cfg, outlets=Outlets(Console("quiet")))) as trainer:
        trainer.train_epoch()  # finds the algorithms
        trainer.state.progress = Progress()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            trainer.train_epoch()
            torch.cuda.synchronize()
    seen = [event for event in profile.events() or [] if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event.time_range for event in seen if not event.name.startswith("Mem")]
    if not kernels:
        return missing("gpu", name, "the profiler saw nothing on the GPU")
    span = max(kernel.end for kernel in kernels) - min(kernel.start for kernel in kernels)
    share = sum(kernel.end - kernel.start for kernel in kernels) / span
    return fact("gpu", name, "% of the time", 100 * share, n=len(trainer.train_loader))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
