"""Children of a study on a Ray cluster: an actor for each, which starts the process and holds it."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from logging import ERROR
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.optional import installed
from utils.runs.children import MAIN, Pool, Process

__all__ = ["ray_pool"]

LOST = 137  # the exit code of a child whose machine is gone, as of one that was killed


def ray_pool(jobs: int | None) -> Pool:
    """Return a pool of at most `jobs` children on the cluster: by default one for each GPU, or for each machine.

    Its machines share this folder. Raises ConfigError without the package ray, or without a cluster.
    """
    if not installed("ray"):
        raise ConfigError("--on=ray: ray is not installed; pip install 'deeptrain[ray]' installs it")
    import ray

    address = os.environ.get("RAY_ADDRESS", "auto")
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, (str(MAIN.parent), _python_path())))}}
    try:
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=ERROR)
    except (ConnectionError, ValueError) as error:
        told = "ray start --head begins one on this machine, RAY_ADDRESS names another"
        raise ConfigError(f"--on=ray: there is no Ray cluster at {address}; {told}") from error
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    count = jobs or gpus or len(machines)
    processors = sum(machine.get("CPU", 0) for machine in machines)
    share = min(processors // count, max(machine.get("CPU", 0) for machine in machines))
    actor = ray.remote(num_cpus=max(1, int(share)), num_gpus=min(1, gpus))(Holder)
    return Pool(count, partial(Remote, actor))


def _python_path() -> str:
    return os.environ.get("PYTHONPATH", "")


class Holder:
    """A child process on a machine of the cluster; it ends with this actor, and the actor with its study."""

    def __init__(self, folder: str, arguments: Sequence[str], output: str):
        os.chdir(folder)
        self.process = Process(arguments, Path(output), {})

    def poll(self) -> int | None:
        return self.process.poll()

    def send(self, number: int) -> None:
        self.process.send(number)


class Remote:
    """A child as the pool sees it: an actor that is asked, and never waited for."""

    def __init__(self, actor: Any, arguments: Sequence[str], output: Path, environment: Mapping[str, str]):
        """Start the actor; it waits for a place on the cluster. Ray shares processors and GPUs itself."""
        self.actor = actor.remote(os.getcwd(), list(arguments), str(output))
        self.asked: Any = None

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        self.actor.send.remote(number)

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs or waits for a place."""
        import ray

        self.asked = self.asked or self.actor.poll.remote()
        if not ray.wait([self.asked], timeout=0)[0]:
            return None
        try:
            code = ray.get(self.asked)
        except ray.exceptions.RayError:  # the machine, or the actor, is gone
            code = LOST
        self.asked = None
        if code is not None:
            ray.kill(self.actor)
        return code
