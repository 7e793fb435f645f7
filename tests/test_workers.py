"""Processes that load data die, freeze and raise: others take their place, and no batch is another."""

import multiprocessing.queues
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from conftest import TOY, rows, same_run, state
from torch.utils.data import DataLoader, Dataset

from configs.schema import Data
from data.loading import workers
from data.loading.loader import Loader
from data.loading.workers import _start_worker
from utils.errors import CodeError, WorkerError

SAMPLES = 24


class Fragile(Dataset):
    """Random numbers; at one sample the process that reads it meets with a fault, as often as there are marks."""

    ids = tuple(f"sample-{i}" for i in range(SAMPLES))

    def __init__(self, fault: str, marks: Path, at: int = 9):
        self.fault, self.marks, self.at, self.owner = fault, marks, at, os.getpid()

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> torch.Tensor:
        left = sorted(self.marks.glob("*.mark"))
        if index == self.at and left and os.getpid() != self.owner:
            left[0].unlink()
            if self.fault == "raising":
                raise OSError("the share is gone")
            os.kill(os.getpid(), signal.SIGKILL if self.fault == "killed" else signal.SIGSTOP)
        return torch.rand(2) + index


def read(dataset: Fragile, workers: int, start: int = 0, say=lambda text: None, timeout: float = 3) -> list:
    cfg = Data(batch_size=4, num_workers=workers, worker_timeout=timeout, shuffle=True)
    batches = Loader(dataset, cfg, seed=1, training=True, say=say)
    found = [(indices, batch.tolist()) for indices, batch in batches.epoch(5, start)]
    batches.close()
    return found


def mark(folder: Path, count: int) -> Path:
    for i in range(count):
        (folder / f"{i}.mark").touch()
    return folder


@pytest.mark.parametrize("fault", ["killed", pytest.param("frozen", marks=pytest.mark.slow), "raising"])
@pytest.mark.parametrize("start", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_others_go_on_with_the_same_batches(tmp_path, fault, start):
    whole = read(Fragile(fault, tmp_path), workers=0, start=start)
    said: list[str] = []
    at = whole[2][0][0]  # a sample that is read in any case
    assert read(Fragile(fault, mark(tmp_path, 2), at), workers=2, start=start, say=said.append) == whole
    assert len(said) == 2 and "1 of 3 in an epoch" in said[0] and "2 of 3" in said[1], said
    assert not list(tmp_path.glob("*.mark")), "the fault never came: nothing was tested"


@pytest.mark.filterwarnings("error::UserWarning")
def test_more_processes_than_cores_cause_no_raw_lines_of_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    with pytest.raises(UserWarning, match="This DataLoader will create 2 worker processes"):
        DataLoader(Fragile("", tmp_path), num_workers=2)
    said: list[str] = []
    assert read(Fragile("", tmp_path), workers=2, say=said.append) == read(Fragile("", tmp_path), workers=0)
    assert not said, "the processes were lost by the warning"


@pytest.mark.parametrize("fault", ["killed", "raising"])
def test_the_third_time_ends_it_with_the_samples(tmp_path, fault):
    with pytest.raises(WorkerError, match=r"lost 3 times in one epoch .*--num-workers=0") as told:
        read(Fragile(fault, mark(tmp_path, 99)), workers=2)
    whole = read(Fragile(fault, tmp_path / "none"), workers=0)
    batch = next(indices for indices, _ in whole if 9 in indices)
    named = f"the last time at the samples {', '.join(f'sample-{i}' for i in batch)}; "
    assert named in str(told.value), "the batch that kills them, and no other"
    assert ("SIGKILL" if fault == "killed" else "the share is gone") in str(told.value)


def test_one_that_dies_as_it_asks_whether_to_end_holds_nobody_up(tmp_path, monkeypatch):
    """Torch's own event has a lock, which the dead one would keep: telling the others to end would last for ever."""
    whole, marks, owner = read(Fragile("none", tmp_path), workers=0), mark(tmp_path, 1), os.getpid()
    stuck = threading.Event()

    def die(event):
        with getattr(event, "_cond", nullcontext()):
            if os.getpid() != owner and (left := list(marks.glob("*.mark"))):
                with suppress(FileNotFoundError):  # the other one took the mark: it dies, this one goes on
                    left[0].unlink()
                    os.kill(os.getpid(), signal.SIGKILL)

    def free(*_):
        stuck.set()
        raise TimeoutError

    for kind in (multiprocessing.synchronize.Event, workers._LockFreeEvent):
        monkeypatch.setattr(kind, "is_set", lambda self, own=kind.is_set: (die(self), own(self))[1])
    before = signal.signal(signal.SIGUSR1, free)
    timer = threading.Timer(20, os.kill, (owner, signal.SIGUSR1))
    timer.start()
    said: list[str] = []
    try:
        assert read(Fragile("none", tmp_path), workers=2, say=said.append) == whole
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)
    assert len(said) == 1 and "SIGKILL" in said[0] and not stuck.is_set()


def test_a_death_within_a_lock_is_told_outside_of_it(tmp_path, monkeypatch):
    """Raised between taking and giving back, the error would leave the lock of a queue taken for ever."""
    cfg = Data(batch_size=4, num_workers=2, worker_timeout=5, shuffle=True)
    said: list[str] = []
    batches = Loader(Fragile("none", tmp_path), cfg, seed=1, training=True, say=said.append)
    own, victims, raised = threading.Condition.__exit__, [], []

    def slow_exit(self, *error):
        putting = sys._getframe(1).f_code is multiprocessing.queues.Queue.put.__code__
        if victims and putting and threading.current_thread() is threading.main_thread():
            os.kill(victims.pop(), signal.SIGKILL)
            try:
                time.sleep(0.5)  # the signal of the death comes here, as it may before the first line
            except RuntimeError as late:
                raised.append(late)
        return own(self, *error)

    monkeypatch.setattr(threading.Condition, "__exit__", slow_exit)
    seen = []
    for indices, batch in batches.epoch(5):
        seen.append((indices, batch.tolist()))
        if len(seen) == 1:
            victims.append(batches._workers.processes[0].pid)
    batches.close()
    assert seen == read(Fragile("none", tmp_path), workers=0)
    assert not victims and not raised
    assert len(said) == 1 and "SIGKILL" in said[0], "it was never told of"


def test_a_handler_that_came_meanwhile_does_not_end_the_program(tmp_path):
    """As a library that uses alarms leaves it: the watch's own alarm would then end the process without a word."""
    read(Fragile("none", tmp_path), workers=1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    read(Fragile("none", tmp_path), workers=1)
    assert isinstance(signal.getsignal(signal.SIGALRM), workers._Watch)


@pytest.mark.slow
def test_a_frozen_process_does_not_hold_up_the_end(tmp_path):
    cfg = Data(batch_size=4, num_workers=2, shuffle=False)
    batches = Loader(Fragile("none", tmp_path), cfg, seed=1, training=True)
    reading = batches.epoch(0)
    next(reading)
    frozen = batches._workers.processes[1]
    os.kill(frozen.pid, signal.SIGSTOP)
    del reading
    batches.close()
    frozen.join(10)
    assert frozen.exitcode == -signal.SIGKILL


def test_a_batch_that_cannot_be_sent_is_told_of(tmp_path, monkeypatch):
    """As in a container with too small a /dev/shm: it was dropped without a word, and awaited until a timeout."""

    class Full:
        def __reduce__(self):
            raise RuntimeError(
                "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
            )

    class Unsendable(Fragile):
        @staticmethod
        def collate(samples):
            return Full()

    said: list[str] = []
    with pytest.raises(WorkerError, match=r"lost 3 times .*No space left on device .*docker run --shm-size"):
        read(Unsendable("none", tmp_path), workers=2, say=said.append, timeout=60)  # it would be told instead
    assert len(said) == 2 and all("No space left on device" in line for line in said)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what python takes is right")
def test_processes_are_forked_whatever_python_starts_them_with(tmp_path, monkeypatch):
    """From python 3.14 on it asks a server to fork: the parent of all processes, and no sign of their death."""
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    multiprocessing.set_start_method("forkserver")
    said: list[str] = []
    assert len(read(Fragile("none", tmp_path), workers=1, say=said.append)) == SAMPLES // 4 and not said


def test_a_mistake_in_a_dataset_is_no_loss(tmp_path):
    """Read again, it would be made again: it comes with its file, line and sample."""

    class Mistaken(Fragile):
        def __getitem__(self, index):
            return {}["label"]

    said: list[str] = []
    with pytest.raises(CodeError, match=r"test_workers.py:\d+: in __getitem__: KeyError: 'label' \(sample \d"):
        read(Mistaken("none", tmp_path), workers=1, say=said.append)
    assert not said


def test_no_process_is_left_behind(tmp_path):
    before = _children(os.getpid())
    read(Fragile("frozen", mark(tmp_path, 1)), workers=2)
    for _ in range(100):
        if _children(os.getpid()) <= before:
            return
        time.sleep(0.1)
    raise AssertionError(_children(os.getpid()) - before)


def test_a_death_elsewhere_disturbs_nothing(tmp_path):
    """Between two batches, or of a process that loads nothing: no error comes up in the middle of a step."""
    cfg = Data(batch_size=4, num_workers=1, shuffle=False)
    batches = Loader(Fragile("killed", tmp_path), cfg, seed=1, training=True, say=lambda text: None)
    seen = []
    before = _children(os.getpid())
    for indices, _ in batches.epoch(0):
        seen += indices
        if len(seen) == 4:
            for pid in _children(os.getpid()) - before:
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["true"], check=True)
            time.sleep(0.3)  # the signal of their death comes now
    assert seen == list(range(SAMPLES))


@pytest.mark.slow
def test_a_training_whose_workers_are_killed_is_the_same_training(start, tmp_path):
    args = [a for a in TOY if "max-epoch" not in a]
    assert start("train", "--run=whole", *args, "--max-epoch=12").wait(120) == 0
    process = start("train", "--run=a", *args, "--num-workers=2", "--max-epoch=12")
    journal = tmp_path / "checkpoints/a/log.jsonl"
    for size in (4000, 30000):
        while not (journal.exists() and journal.stat().st_size > size):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.kill(max(_children(process.pid)), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out
    assert "data workers lost (process" in out and "SIGKILL" in out
    assert rows("a", tmp_path) == rows("whole", tmp_path)
    assert same_run(state("a", folder=tmp_path), state("whole", folder=tmp_path))


def _children(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the signal")
@pytest.mark.parametrize("late", [False, True])
def test_a_worker_ends_with_the_training_process_however_early_that_is_killed(late):
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        parent = os.getpid()
        if os.fork():
            os.kill(parent, signal.SIGKILL)
        while late and os.getppid() == parent:
            time.sleep(0.001)
        _start_worker(parent, 0)
        os.write(writing, b"." * late)  # when the parent was dead already, nothing more is done
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    os.waitpid(parent, 0)
    assert os.read(reading, 1) == b""  # the end of the pipe: nobody is left to write
    os.close(reading)
