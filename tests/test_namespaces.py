"""Two machines: network namespaces with a cable between them that can be cut. It takes root, and Linux.

`make machines` also prints how long each of them took.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, rows, state

pytestmark = [pytest.mark.slow, pytest.mark.machines]
PORT = 29400
TIMEOUT = 20  # s of train.dist_timeout
ELASTIC = "last_call_timeout=8,keep_alive_interval=1,keep_alive_max_attempt=3,join_timeout=120"
RUN = ["run=a", "--model=MLP", "--optim=SGD", "--lr=0.01", "--train.save_steps=20", f"--train.dist_timeout={TIMEOUT}"]
RUN += ["--max-epoch=1000", "--train.save_in_background=false", *(word for word in PLAIN if "print" not in word)]
RUN += ["--print-freq=20"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Node:
    """A machine: a namespace with one end of the cable."""

    def __init__(self, number: int, folder: Path):
        self.number, self.folder = number, folder
        self.name, self.cable, self.address = f"node{number}-{os.getpid()}", f"dt{number}", f"10.77.31.{number + 1}"
        self.agent: subprocess.Popen | None = None

    def start(self, *options: str, steps: int) -> None:
        """Start torchrun with one process."""
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--max-restarts=5", *options]
        command += [f"--local-addr={self.address}", str(ROOT / "main.py"), "train", *RUN, f"--train.max_steps={steps}"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.cable}
        env |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}
        with open(self.folder / f"said-{self.number}", "ab") as said:
            self.agent = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                cwd=self.folder, env=env, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def plug(self, in_: bool) -> None:
        """Put the cable in, or take it out."""
        ip("-n", self.name, "link", "set", self.cable, "up" if in_ else "down")

    def switch_off(self) -> None:
        """All that runs on the machine is gone at once."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split()
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        if self.agent is not None:
            self.agent.wait()

    def said(self) -> str:
        return (self.folder / f"said-{self.number}").read_text(errors="replace")

    def code(self, seconds: float) -> int:
        assert self.agent is not None
        try:
            return self.agent.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"node {self.number} has not ended after {seconds:g} s: {self.said()[-1500:]}")


@pytest.fixture
def nodes(tmp_path) -> Iterator[list[Node]]:
    """Two machines with a disk in common, connected."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and iproute2")
    both = [Node(number, tmp_path) for number in (0, 1)]
    try:
        for node in both:
            try:
                ip("netns", "add", node.name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
        first, second = both
        ip("-n", first.name, "link", "add", first.cable, "type", "veth", "peer", "name", second.cable)
        ip("-n", first.name, "link", "set", second.cable, "netns", second.name)
        for node in both:
            ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", node.cable)
            ip("-n", node.name, "link", "set", "lo", "up")
            node.plug(True)
        yield both
    finally:
        for node in both:
            node.switch_off()
            subprocess.run(["ip", "netns", "del", node.name], capture_output=True)


def start_both(nodes: Sequence[Node], kind: str, steps: int) -> None:
    for node in nodes:
        node.start(*options(nodes, node, kind), steps=steps)


def options(nodes: Sequence[Node], node: Node, kind: str) -> list[str]:
    place = nodes[0].address
    if kind == "static":
        there = ["--rdzv-id=job", f"--master-addr={place}", f"--master-port={PORT}"]  # without an id none goes on
        return ["--nnodes=2", f"--node-rank={node.number}", *there]
    host = f"is_host={int(node.number == 0)}"  # in a namespace torchrun cannot tell whether it is the host
    how = ["--rdzv-backend=c10d", "--rdzv-id=job", f"--rdzv-endpoint={place}:{PORT}", f"--rdzv-conf={host},{ELASTIC}"]
    return ["--nnodes=1:2" if kind == "elastic" else "--nnodes=2", *how]


def step(folder: Path) -> int:
    """The last step in the journal."""
    journal = folder / "checkpoints/a/log.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def until(nodes: Sequence[Node], true, seconds: float = 180.0) -> float:
    """Wait until something is true; how long it took."""
    began = time.monotonic()
    while not true():
        took = time.monotonic() - began
        ended = all(node.agent is not None and node.agent.poll() is not None for node in nodes)
        assert took < seconds and not ended, "\n".join(node.said()[-1500:] for node in nodes)
        time.sleep(0.1)
    return time.monotonic() - began


def tell(what: str, **figures: float) -> None:
    print(f"\n{what}: " + ", ".join(f"{name} {value:.0f} s" for name, value in figures.items()))


def check_run(folder: Path, steps: int, world: int = 2) -> None:
    """All steps, each once, and a whole checkpoint."""
    assert [row["step"] for row in rows("a", folder, "train")] == list(range(20, steps + 1, 20))
    stored = state("a", folder=folder)
    assert stored["progress"]["step"] == steps and len(stored["ranks"]) == world


@pytest.mark.parametrize("kind", ["static", "c10d"])
def test_two_machines_train_one_run(nodes, tmp_path, kind):
    began = time.monotonic()
    start_both(nodes, kind, 200)
    first = until(nodes, lambda: step(tmp_path) >= 20)
    assert [node.code(120) for node in nodes] == [0, 0], nodes[1].said()[-1500:]
    check_run(tmp_path, 200)
    assert sum(node.said().count("done: 200 steps") for node in nodes) == 1
    tell(f"two machines, {kind}", begun_after=first, all=time.monotonic() - began)


@pytest.mark.parametrize("kind", ["static", "c10d", "elastic"])
def test_a_cable_that_is_cut_and_mended(nodes, tmp_path, kind):
    """The processes end after train.dist_timeout with a sentence; torchrun starts them again once it is mended."""
    steps = 2000
    start_both(nodes, kind, steps)
    until(nodes, lambda: step(tmp_path) >= 60)
    nodes[1].plug(False)
    cut = time.monotonic()
    until(nodes, lambda: any("train.dist_timeout" in node.said() for node in nodes), 60)
    told = time.monotonic() - cut
    time.sleep(5)
    there = step(tmp_path)
    nodes[1].plug(True)
    on = until(nodes, lambda: step(tmp_path) > there or all(node.agent.poll() is not None for node in nodes), 300)
    codes = [node.code(300) for node in nodes]
    tell(f"a cut cable, {kind}, codes {codes}", told_after=told, went_on_after=on)
    if codes[0] == 0:
        check_run(tmp_path, steps, len(state("a", folder=tmp_path)["ranks"]))
    assert told < TIMEOUT + 8
    assert 0 in codes, "\n".join(node.said()[-2500:] for node in nodes)


def test_a_machine_that_is_lost_and_comes_back(nodes, tmp_path):
    """Without it the other goes on alone; once it is back both start again, with two."""
    steps = 6000
    start_both(nodes, "elastic", steps)
    until(nodes, lambda: step(tmp_path) >= 60)
    nodes[1].switch_off()
    before = step(tmp_path)
    alone = until(nodes[:1], lambda: step(tmp_path) >= before + 40, 240)
    assert nodes[0].said().count("resuming") == 1
    nodes[1].start(*options(nodes, nodes[1], "elastic"), steps=steps)
    both = until(nodes, lambda: nodes[0].said().count("resuming") + nodes[1].said().count("resuming") >= 2, 240)
    codes = [node.code(400) for node in nodes]
    tell(f"a lost machine, codes {codes}", alone_after=alone, both_after=both)
    assert codes == [0, 0], "\n".join(node.said()[-2500:] for node in nodes)
    check_run(tmp_path, steps)
