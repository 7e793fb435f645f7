"""Profiler: some steps under torch.profiler; a trace to look at, and the dearest operations in words."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.watchers.watcher import Run, Watcher
from utils.files import write_atomic

__all__ = ["Profiler"]

TRACE, LINES = "trace.json", "profile.txt"  # in the run folder
MOST = 10  # operations that are named
WORDS = {  # the operations of torch that one meets most, by parts of their names
    "convolution_backward": "convolution, backward",
    "conv": "convolution",
    "native_batch_norm_backward": "BatchNorm, backward",
    "batch_norm": "BatchNorm",
    "addmm": "linear layer",
    "::mm": "product of matrices",
    "::bmm": "product of batches of matrices",
    "threshold_backward": "ReLU, backward",
    "clamp_min": "ReLU",
    "relu": "ReLU",
    "max_pool2d_with_indices_backward": "max pooling, backward",
    "max_pool": "max pooling",
    "log_softmax": "softmax of the loss",
    "copy_": "copy",
    "Optimizer.step": "the optimizer's own bookkeeping",
    "fused_sgd": "optimizer's step",
    "fused_adam": "optimizer's step",
    "lstm": "LSTM",
    "rnn": "LSTM or GRU",
}


class Profiler(Watcher):
    """Profiles the steps from `first` to `last`, counted from 1, and tells at the end what took the time."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last
        self.profile: Any = None  # while it runs
        self.began, self.start, self.lines = 0.0, 0, list[str]()

    def begin(self, run: Run) -> None:
        """Say that the steps lie beyond the end; begin with the first step that is left of them."""
        whole = run.cfg.train.max_epoch * len(run.train_loader)
        whole = min(whole, run.cfg.train.max_steps or whole)
        if self.first > whole:
            run.say(f"note: train.profile: {self._span()} lie beyond the end of the run, which has {whole} steps")
        self._start(run)

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Begin before the first of the steps, and end after the last."""
        if self.profile is not None and run.progress.step >= self.last:
            self._stop(run)
        else:
            self._start(run)
        return run.progress.step < self.last

    def end(self, run: Run) -> None:
        """Say the dearest operations."""
        if self.profile is not None:  # the run ended between the two steps
            self._stop(run)
        for line in self.lines:
            run.say(line)

    def close(self) -> None:
        if self.profile is not None:
            self.profile.stop()
            self.profile = None

    def _span(self) -> str:
        return f"steps {self.first} to {self.last}"

    def _start(self, run: Run) -> None:
        if self.profile is None and self.first <= run.progress.step + 1 <= self.last and not self.lines:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of missing GPUs
            from torch import profiler  # some 0.1 s

            kinds = [profiler.ProfilerActivity.CPU]
            kinds += [profiler.ProfilerActivity.CUDA] if run.device.type == "cuda" else []
            self.profile, self.start = profiler.profile(activities=kinds), run.progress.step
            self.profile.start()
            self.began = time.perf_counter()

    def _stop(self, run: Run) -> None:
        """End the profile, and write the trace and the lines."""
        seconds, profile, self.profile = time.perf_counter() - self.began, self.profile, None
        profile.stop()
        steps = run.progress.step - self.start
        if not steps:
            return
        on_gpu = run.device.type == "cuda"
        self.lines = list(_told(profile.key_averages(), self.start + 1, steps, seconds, on_gpu))
        if run.folder is None or not run.folder.is_dir():
            return
        write_atomic(run.folder / LINES, ("\n".join(self.lines) + "\n").encode())
        with tempfile.TemporaryDirectory() as folder:
            profile.export_chrome_trace(str(Path(folder, TRACE)))
            write_atomic(run.folder / TRACE, Path(folder, TRACE).read_bytes())
        self.lines.append(f"{run.folder / TRACE} has each call: open it with https://ui.perfetto.dev")


def _told(events: Any, first: int, steps: int, seconds: float, on_gpu: bool) -> Iterator[str]:
    """Yield a line about the steps, and a line for each of the dearest operations, by their own time."""
    costs = [
        (float(event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6, event.count, event.key)
        for event in events
    ]
    costs = sorted((cost for cost in costs if cost[0] > 0), reverse=True)
    counted = sum(cost for cost, _, _ in costs)
    where = "on the GPU" if on_gpu else "in operations of torch"
    rest = max(0.0, 1 - counted / seconds)
    yield (
        f"profile of steps {first} to {first + steps - 1}: {1e3 * seconds / steps:.3g} ms a step, {1 - rest:.0%} of it "
        f"{where}, {rest:.0%} in Python, reading and waiting"
    )
    for number, (cost, count, key) in enumerate(costs[:MOST], start=1):
        name = next((words for sign, words in WORDS.items() if sign in key), "")
        named = f"{name} ({key})" if name else key
        told = f"{cost / seconds:.0%}, {1e3 * cost / steps:.3g} ms a step in {count / steps:.4g} calls"
        yield f"{number:>3}. {named}: {told}"
