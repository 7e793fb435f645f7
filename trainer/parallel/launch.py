"""Start the processes of `train.processes` with torch's elastic launcher, start them again if one is killed."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs.schema import Train
from utils.errors import ConfigError, GroupError
from utils.runs.children import MAIN, visible_gpus
from utils.runs.folder import run_path, started
from utils.runs.group import LAUNCH
from utils.runs.saves import folder_of, time_of_save
from utils.terminal import show

__all__ = ["launch", "number_of_processes"]

ATTEMPTS = 3  # times that the processes are started again without a new checkpoint in between
SETTINGS = {
    "TORCH_CPP_LOG_LEVEL": "FATAL",  # lines of torch that name no remedy
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # its keys of the processes before would confuse those after them
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",  # s that stopping processes have to save in
}
HANDLED, IGNORED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"), signal.SIG_IGN  # as SIGHUP is under nohup
ENDED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # by the launcher, after another one failed


def number_of_processes(train: Train) -> int:
    """Return how many processes to start: as many as the GPUs for `auto`. Makes `train.devices` the visible GPUs.

    Raises ConfigError for GPUs that are not there, or too few of them.
    """
    gpus = visible_gpus() if train.use_gpu is not False else []
    if train.devices is not None and gpus:
        if wrong := [number for number in train.devices if not 0 <= number < len(gpus)]:
            raise ConfigError(f"train.devices: there is no GPU {wrong[0]}, they are 0 to {len(gpus) - 1}")
        gpus = [gpus[number] for number in train.devices]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    elif train.devices is not None and train.use_gpu is not False:
        raise ConfigError("train.devices: there is no GPU; leave it out")
    if train.processes == "auto":
        return max(1, len(gpus))
    if gpus and train.processes > len(gpus):
        raise ConfigError(
            f"train.processes={train.processes}: there are {len(gpus)} GPUs, one for each process; take fewer, or "
            "--use-gpu=false"
        )
    return train.processes


def launch(processes: int, command: Sequence[str], run: str | None) -> int:
    """Run the typed command in several processes and return its exit code.

    Where one of them is killed, all start again and go on from the run folder's last save.
    """
    identity, saved, left = uuid.uuid4().hex, 0.0, ATTEMPTS
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    with _environment({**SETTINGS, "OMP_NUM_THREADS": threads, LAUNCH: identity}):
        while True:
            codes = _run_once(processes, command, identity)
            if not (killed := {rank: code for rank, code in codes.items() if code < 0 and code not in ENDED}):
                return _told(codes, processes)
            if any(code > 0 for code in codes.values()):
                return _told({rank: code for rank, code in codes.items() if code > 0}, processes)
            newest = _time_of_save(run, command)
            saved, left = (newest, ATTEMPTS) if newest > saved else (saved, left - 1)
            rank, code = next(iter(killed.items()))
            name = signal.Signals(-code).name
            if not left:
                raise GroupError(
                    f"process {rank} of {processes} was ended by {name} {ATTEMPTS} times without a new save"
                )
            show(f"process {rank} of {processes} was ended by {name}: all start again", error=True, flush=True)


def _run_once(processes: int, command: Sequence[str], identity: str) -> Mapping[int, int]:
    """Start the processes and wait for them. Returns the codes of those that failed, by rank, the first one first.

    A signal for the launcher is passed on to them; its number is their code, behind a minus.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):  # each of them has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="launch-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=identity,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            signals_to_handle=",".join(name for name in HANDLED if signal.getsignal(getattr(signal, name)) != IGNORED),
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-u", str(MAIN), *command)
        except ChildFailedError as error:
            failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
            return {rank: failure.exitcode for rank, failure in failures}
        except SignalException as stopped:
            return {0: 128 + stopped.sigval}
    return {}


def _told(codes: Mapping[int, int], processes: int) -> int:
    """Return the exit code of the group: of the first process that failed by itself; 0 if none did."""
    own = [code for code in codes.values() if code > 0 and code != GroupError.exit_code]
    if code := next(iter([*own, *(code for code in codes.values() if code > 0)]), 0):
        return code
    for rank, code in codes.items():  # before the training, which would have saved
        show(f"process {rank} of {processes} was ended by {signal.Signals(-code).name}", error=True, flush=True)
        return 128 - code
    return 0


def _time_of_save(run: str | None, command: Sequence[str]) -> float:
    """Return when the run was saved last; 0 if it was not."""
    folder = started(run, command) or Path(run or "")
    resumed = next((word.partition("=")[2] for word in command if word.startswith("--resume=")), "")
    return time_of_save(folder_of(run_path(resumed)) if resumed else folder)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, for the processes that are started within."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
