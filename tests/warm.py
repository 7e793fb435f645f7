"""Processes of a group that are forked from one that has torch already: importing it takes longer than what they do."""

import functools
import multiprocessing.context
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMPORTED = ["torch", "torchvision", "torch.distributed.fsdp", "torch.distributed.checkpoint", "torch._dynamo", "main"]
IMPORTED += ["trainer.trainer", "trainer.build", "trainer.parallel.fsdp", "commands.train"]

__all__ = ["Group", "ranks_of"]


def _be(number: int, script: str, arguments: tuple[str, ...], folder: str, env: dict[str, str]) -> None:
    """Be a rank: `python script arguments` in a folder; stdout and stderr are files there."""
    os.setsid()
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, code = [script, *arguments], 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


@functools.cache
def _server() -> multiprocessing.context.BaseContext:
    """Start the process that ranks are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    return context


class Group:
    """The processes of a launch, as torchrun would start them; without ranks, one process alone."""

    def __init__(self, folder: Path, *arguments: str, ranks: int = 2, script: Path = ROOT / "main.py"):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        world = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
        world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        world["TORCHELASTIC_RUN_ID"] = f"warm-{time.time_ns()}"
        self.folder, self.processes = folder, []
        for rank in range(ranks or 1):
            env = {**os.environ, **(world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks else {})}
            given = (rank, str(script), arguments, str(folder), env)
            self.processes.append(_server().Process(target=_be, args=given))
            self.processes[-1].start()

    def wait(self, timeout: float = 240) -> subprocess.CompletedProcess:
        """Return the first exit code that is not 0, and what all said. As torchrun does, end all once one fails."""
        end, failed = time.monotonic() + timeout, False
        while any(process.is_alive() for process in self.processes) and time.monotonic() < end:
            time.sleep(0.02)
            if not failed and any(process.exitcode for process in self.processes):
                failed, end = True, min(end, time.monotonic() + 10)
                for process in self.processes:
                    process.terminate()
        self.kill()
        codes = [process.exitcode for process in self.processes]
        said = [
            "".join((self.folder / f"{name}{n}").read_text() for n in range(len(codes)))
            for name in ("stdout", "stderr")
        ]
        return subprocess.CompletedProcess([], next((code for code in codes if code), 0), *said)

    def kill(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.kill()
            process.join()


def ranks_of(
    folder: Path, *arguments: str, ranks: int = 2, script: Path = ROOT / "main.py"
) -> subprocess.CompletedProcess:
    """Run `python main.py arguments` as so many processes of one group in a folder, to their end."""
    return Group(folder, *arguments, ranks=ranks, script=script).wait()
