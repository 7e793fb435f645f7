"""The network itself: ResNet34 at 64 px in float32 and bfloat16, in both memory layouts, on one thread."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional as F

from benchmarks.machine import has_fast_bf16
from benchmarks.rows import Options, Row, Sample, alternate, paired, timed
from models import ResNet34

__all__ = ["measure"]

CLASSES = 2


class Mode(NamedTuple):
    """How a step is computed."""

    name: str
    bf16: bool
    layout: torch.memory_format
    compiled: bool = False  # with constant weights, as val and test do with train.compile


EAGER = Mode("float32", False, torch.contiguous_format)
MODES = (
    Mode("float32, channels_last", False, torch.channels_last),
    Mode("bfloat16 autocast", True, torch.contiguous_format),
    Mode("bfloat16 autocast, channels_last", True, torch.channels_last),
)
COMPILED = Mode("float32, channels_last, compiled", False, torch.channels_last, compiled=True)


def measure(options: Options) -> Iterator[Row]:
    """Each mode against eager float32, a step and a forward pass; few of bfloat16 where the CPU has no such numbers."""
    size, batch = (32, 8) if options.quick else (64, 32)
    for kind, training in (("training", True), ("inference", False)):
        eager = _step(EAGER, size, batch, training)
        for mode in MODES if training else (*MODES, COMPILED):
            slow = mode.bf16 and not has_fast_bf16()
            times = options.times(2 if slow else 9, quick=1)
            sides = alternate([_step(mode, size, batch, training), eager], times)
            name = f"{kind}, {size} px, batches of {batch}: {mode.name}; float32"
            note = "this CPU computes bfloat16 by way of float32" if slow else ""
            yield paired("precision", name, "ms a batch", sides, 1e3, note=note)


def _step(mode: Mode, size: int, batch: int, training: bool) -> Callable[[], Sample]:
    """A training step with SGD, or a forward pass without gradients."""
    torch.manual_seed(0)
    net = ResNet34(CLASSES).to(memory_format=mode.layout).train(training)  # type: ignore[call-overload]
    x = torch.randn(batch, 3, size, size).to(memory_format=mode.layout)
    y = torch.randint(CLASSES, (batch,))
    if mode.compiled:
        net.compile(options={"freezing": True})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if mode.bf16 else nullcontext():
            loss = F.cross_entropy(net(x), y)
        if training:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def without_gradients() -> None:
        with torch.no_grad():
            step()

    return partial(timed, step if training else without_gradients)
