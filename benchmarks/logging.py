"""What a logged scalar costs the training thread, and what a visdom server that does not answer costs a run."""

import io
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from benchmarks.processes import run, train_command
from benchmarks.rows import Options, Row, Sample, alternate, fact, missing, paired
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger
from utils.sinks.tensorboard import TensorBoard
from utils.sinks.visdom_board import VisdomBoard
from utils.visualize import Visualizer

__all__ = ["measure"]

ROWS = 400  # a repetition, of five scalars
SLOW_ROWS = 20  # where each scalar waits for a server
VALUES = {"loss": 1.25, "accuracy": 0.5, "lr": 0.01, "gradient norm": 3.5, "seconds": 12.0}
UNIT = "µs a scalar"
Write = Callable[[int], None]  # logs the row of a step


def measure(options: Options) -> Iterator[Row]:
    """Each set of views against the same written by hand; then whole runs with a server that is dead or frozen."""
    with tempfile.TemporaryDirectory() as name:
        yield from _scalars(Path(name), options)
    yield from _runs(options)


def _scalars(folder: Path, options: Options) -> Iterator[Row]:
    times, numbers = options.times(15), count()
    for board in (False, True):
        ours = partial(_ours, folder, numbers, board, None)
        sides = alternate([ours, partial(_by_hand, folder, numbers, board, None)], times)
        views = "journal and tensorboardX" if board else "journal"
        yield paired("logging", f"{views}; the same by hand", UNIT, sides, 1e6)
    views = "journal, tensorboardX and visdom"
    for what, place in (("no server", _dead), ("a server that never answers", _frozen)):
        with place() as port:
            samples = alternate([partial(_ours, folder, numbers, True, port)], options.times(5))[0]
            median = sorted(sample.cpu for sample in samples)[len(samples) // 2]
            note = "visdom's own client would wait for ever" if place is _frozen else ""
            yield fact("logging", f"{views}, {what}", UNIT, 1e6 * median, note, len(samples))
    try:
        with _served(folder / "environments") as port:
            ours = partial(_ours, folder, numbers, True, port)
            sides = alternate([ours, partial(_by_hand, folder, numbers, True, port)], options.times(5))
            yield paired("logging", f"{views}, a server; the same by hand", UNIT, sides, 1e6)
    except Exception as error:
        yield missing("logging", f"{views}, a server", f"visdom's server could not be used ({error})")


def _runs(options: Options) -> Iterator[Row]:
    flags = ["--model=MLP", "--max-epoch=3", "--print-freq=1"]
    with _dead() as dead, _frozen() as frozen:
        plain = partial(run, train_command(*flags))
        shown = [partial(run, train_command(*flags, f"--log.visdom-port={port}")) for port in (dead, frozen)]
        *with_server, without = alternate([*shown, plain], options.times(5, quick=1))
    for what, samples in zip(("no visdom server", "a visdom server that never answers"), with_server, strict=True):
        name = f"a whole run with {what}; with --log.visdom=false"
        yield paired("logging", name, "s on the wall", (samples, without), 1.0, clock="wall")


def _ours(folder: Path, numbers: Iterator[int], board: bool, port: int | None) -> Sample:
    """A scalar's cost with the journal and whatever else is asked for."""
    place = folder / str(next(numbers))
    place.mkdir()
    logger = Logger(journal=Journal(place / "log.jsonl"))
    if board:
        logger.sinks.append(TensorBoard(place / "tensorboard"))
    if port is not None:
        logger.sinks.append(VisdomBoard(Visualizer(place.name, "127.0.0.1", port, lambda message: None)))
    sample = _a_scalar(lambda step: logger.scalars("train", 0, step, VALUES), ROWS)
    logger.close()
    return sample


def _by_hand(folder: Path, numbers: Iterator[int], board: bool, port: int | None) -> Sample:
    """The same with the packages' own calls."""
    place = folder / str(next(numbers))
    place.mkdir()
    with ExitStack() as stack:
        stream = stack.enter_context(open(place / "log.jsonl", "w", buffering=1))
        writer = stack.enter_context(SummaryWriter(str(place / "tensorboard"))) if board else None
        client = None if port is None else _client(place.name, port)

        def write(step: int) -> None:
            stream.write(json.dumps({"time": time.time(), "phase": "train", "step": step, **VALUES}) + "\n")
            for name, value in VALUES.items():
                if writer is not None:
                    writer.add_scalar(name, value, step)
                if client is not None:
                    client.line(np.array([value]), np.array([step]), win=name, update="append" if step else None)

        return _a_scalar(write, ROWS if port is None else SLOW_ROWS)


def _client(env: str, port: int) -> Any:
    """Visdom's own client, which greets."""
    import visdom

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return visdom.Visdom(env=env, server="http://127.0.0.1", port=port, use_incoming_socket=False)


def _a_scalar(write: Write, rows: int) -> Sample:
    """The mean cost of a scalar on this thread; wall: with what it waits for."""
    cpu, wall = time.thread_time(), time.perf_counter()
    for step in range(rows):
        write(step)
    scalars = rows * len(VALUES)
    return Sample((time.thread_time() - cpu) / scalars, (time.perf_counter() - wall) / scalars)


@contextmanager
def _dead() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


@contextmanager
def _frozen() -> Iterator[int]:
    """A port at which connections are taken, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def _served(folder: Path) -> Iterator[int]:
    """A visdom server on this machine, started as the tests start it."""
    from tests.visdom_server import Server

    server = Server(folder)
    try:
        yield server.start().port
    finally:
        server.kill()
