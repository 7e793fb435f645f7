"""What saving and loading ResNet34 with its momentum costs a run, beside what torch does with the same tensors.

python -m benchmarks.checkpoint FILE SIDE FOLDER      loads once, in a process of its own, as a resumed run does
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.processes import answer, ask
from benchmarks.ready import make_trainer
from benchmarks.rows import Options, Row, Sample, alternate, fact, paired, timed
from models import ResNet34
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import Store, read_newest
from trainer.trainer import Trainer

__all__ = ["measure"]

FLAGS = ("--model=ResNet34", "--optim=SGD", "--optim.lr=0.01", "--optim.momentum=0.9", "--schedule=null")


def measure(options: Options) -> Iterator[Row]:
    """The stall of a save: how long the training thread stands still; then loading."""
    times = options.times(9)
    with tempfile.TemporaryDirectory() as name:
        ours, plain = Path(name) / "ours", Path(name) / "plain.pth"
        ours.mkdir()
        trainer = _trainer()
        trainer.saver = Saver(Store(ours), background=True)
        net, optimizer = _by_hand()
        save = partial(_save_plain, net, optimizer, plain)
        sides = [partial(_stall, trainer), partial(timed, save), partial(timed, partial(save, sync=True))]
        saved, torch_saved, synced = alternate(sides, times)
        size = f"{os.path.getsize(plain) / 1e6:.0f} MB"
        row = partial(paired, "checkpoint", scale=1e3, unit="ms on the wall", clock="wall")
        yield row(f"the stall of a save, {size}, checked, atomic and synced; torch.save", sides=(saved, torch_saved))
        yield row(f"the stall of a save, {size}; torch.save and fsync", sides=(saved, synced))
        loads = [partial(_loaded, side, name) for side in ("ours", "plain")]
        yield row(f"loading {size} with its checksum; torch.load and load_state_dict", sides=alternate(loads, times))


def _trainer() -> Trainer:
    """A trainer of ResNet34 after a step."""
    torch.manual_seed(0)
    trainer = make_trainer(*FLAGS, "--train.max_steps=1")
    trainer.train_epoch()
    return trainer


def _fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """The same network and optimizer."""
    net = ResNet34(num_classes=10, in_channels=1, image_size=(8, 8))
    return net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def _by_hand() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """After a step."""
    net, optimizer = _fresh()
    F.cross_entropy(net(torch.rand(2, 1, 8, 8)), torch.tensor([0, 1])).backward()
    optimizer.step()
    optimizer.zero_grad()
    return net, optimizer


def _stall(trainer: Trainer) -> Sample:
    """The time until the training may go on; what is still being written is waited for afterwards."""
    sample = timed(partial(trainer.save, []))
    trainer.saver.wait()
    return sample


def _save_plain(net: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path, sync: bool = False) -> None:
    with open(path, "wb") as file:
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _loaded(side: str, folder: str) -> Sample:
    """The time that a new process takes to load, once everything is built that it loads into."""
    wall = ask("benchmarks.checkpoint", side, folder)[0].ours
    assert wall is not None
    return Sample(wall, wall)


def _load(trainer: Trainer, folder: Path) -> None:
    """What a resume does with the file: read, check, put back."""
    trainer.state.load_state_dict(read_newest(folder)[0])


def _load_plain(net: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


def _main(file: str, side: str, folder: str) -> None:
    torch.set_num_threads(1)
    if side == "ours":
        load = partial(_load, make_trainer(*FLAGS), Path(folder, "ours"))
    else:
        load = partial(_load_plain, *_fresh(), Path(folder, "plain.pth"))
    answer(file, [fact("checkpoint", side, "s", timed(load).wall)])


if __name__ == "__main__":
    _main(*sys.argv[1:])
