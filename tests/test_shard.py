"""train.shard: full on two ranks: the bits of plain data parallelism, the same checkpoints, and what is refused."""

import json
import os
import re
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from conftest import DATA, ROOT, same, same_run, state
from torch import nn
from warm import Group, ranks_of

from configs import load
from models.gpt import GPT
from models.resnet34 import ResNet34
from trainer.parallel import divided, fsdp
from trainer.parallel.recompute import recompute
from utils.errors import ConfigError

SMALL = [
    "train",
    str(ROOT / "configs" / "shakespeare.yaml"),
    "--data.dataset.root=texts",
    "--data.dataset.length=16",
    "--model.width=32",
    "--model.layers=2",
    "--batch-size=4",
    "--data.eval_batch_size=8",
    "--schedule=null",
    "--print-freq=1",
    "--train.rehearse=false",
    "--train.ema=0.9",
    "--log.visdom=false",
    "--log.pictures=false",
]


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts").mkdir()
    lines = (f"{n} times {n + 3} is {n * (n + 3)}, said the owl.\n" for n in range(200))
    (tmp_path / "texts/input.txt").write_text("".join(lines))
    return tmp_path


def train(folder, *arguments: str):
    given = ranks_of(folder, *SMALL, *arguments)
    assert given.returncode == 0, given.stderr[-3000:]
    return given


def without_fused(found: dict) -> dict:
    for step in found["update"].values():
        for group in step["optimizer"]["param_groups"]:
            group.pop("fused", None)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [["--optim=SGD", "--optim.lr=0.1", "--optim.momentum=0.9"], []])
def test_it_has_the_bits_of_plain_data_parallelism(texts, optimizer):
    """Weights, averaged weights, optimizer state and random numbers after ten steps, by SGD and by AdamW."""
    args = [*optimizer, "--train.max_steps=10", "--train.clip=null"]
    train(texts, "run=plain", *args)
    train(texts, "run=full", "--train.shard=full", *args)
    plain, full = (without_fused(state(name, folder=texts)) for name in ("plain", "full"))
    assert same_run(plain, full)
    assert not same(plain["model"], plain["ema"])


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_any_number_of_processes(texts, run):
    """From two ranks to four, to one process and back, divided or not, and val, generate and doctor take it."""
    place = Path("checkpoints/a")
    train(texts, "run=a", "--train.shard=full", "--train.max_steps=5")
    assert {"last", "previous", "best.pth"} <= {path.name for path in (texts / place).iterdir()}
    assert not (texts / place / "last.pth").exists() and len([*(texts / place / "last").glob("__*.distcp")]) == 2
    weights = state("a", folder=texts)["model"]
    given = ranks_of(texts, "train", "--resume=checkpoints/a", "--train.max_steps=7", ranks=4)
    assert "resuming checkpoints/a/last at step 5" in given.stdout, given.stderr[-3000:]
    assert state("a", folder=texts)["progress"]["step"] == 7 and not same(weights, state("a", folder=texts)["model"])
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=8").code == 0
    assert (place / "last.pth").exists() and not (place / "last").exists()
    assert ranks_of(texts, "train", "--resume=checkpoints/a", "--train.max_steps=12").returncode == 0
    assert state("a")["progress"]["step"] == 12 and not (place / "last.pth").exists()
    os.remove(place / "best.pth")
    for command in ("val", "generate", "doctor"):
        assert run(command, "a").code == 0, command
    assert run("runs").out.count("finished") == 1
    given = ranks_of(texts, "train", "--resume=checkpoints/a/last", "--train.max_steps=14", "--train.shard=none")
    assert given.returncode == 0 and state("a")["progress"]["step"] == 14, given.stderr[-3000:]


@pytest.mark.slow
def test_parts_and_one_file_are_the_same_state(texts, run):
    """A run that went through a file and back, and over a damaged save, has the bits of one that was left alone."""
    args = ["--train.shard=full", "--train.save_steps=2", "--train.accumulate=2"]
    train(texts, "run=whole", *args, "--train.max_steps=9")
    train(texts, "run=cut", *args, "--train.max_steps=5")
    assert run("export", "checkpoints/cut", "--format=pth", "--out=checkpoints/file/last.pth").code == 0
    assert same(torch.load("checkpoints/file/last.pth", weights_only=True), state("cut"))
    longer = ["--train.max_steps=9", "--train.shard=full"]
    given = ranks_of(texts, "train", "--resume=checkpoints/file", *longer)
    assert given.returncode == 0 and Path("checkpoints/file/last/.metadata").exists(), given.stderr[-3000:]
    assert same_run(state("whole"), state("file"))
    part = Path("checkpoints/cut/last/__1_0.distcp")
    part.write_bytes(part.read_bytes()[:-1])
    given = ranks_of(texts, "train", "--resume=checkpoints/cut", *longer)
    assert "passed over checkpoints/cut/last: is damaged (__1_0.distcp" in given.stdout, given.stderr[-3000:]
    assert "resuming checkpoints/cut/previous at step 4" in given.stdout
    assert same_run(state("whole"), state("cut"))


@pytest.mark.slow
def test_killed_it_is_the_same_run_after_a_resume(texts):
    """Both ranks are killed within an epoch, with an open window of accumulated gradients."""
    args = ["--train.shard=full", "--train.max_steps=40", "--train.save_steps=3", "--train.accumulate=2"]
    train(texts, "run=whole", *args)
    group = Group(texts, *SMALL, "run=cut", *args)
    journal = texts / "checkpoints/cut/log.jsonl"
    while not (journal.exists() and journal.read_text().count("\n") >= 11):
        assert all(process.is_alive() for process in group.processes)
        time.sleep(0.02)
    group.kill()
    status = json.loads((texts / "checkpoints/cut/status.json").read_text())
    assert status["state"] == "running"
    again = ranks_of(texts, "train", "--resume=checkpoints/cut")
    assert again.returncode == 0 and re.search(r"resuming \S+ at step \d", again.stdout), again.stderr[-3000:]
    assert same_run(state("whole", folder=texts), state("cut", folder=texts))


@pytest.mark.slow
def test_an_open_window_of_a_weighted_loss_goes_on(tmp_path):
    """Each process has counted weights of its own."""
    digits = ["train", "--model=MLP", "--optim=SGD", "--lr=0.1", "--train.accumulate=4", "--train.rehearse=false"]
    digits += ["--task.loss={name: CrossEntropyLoss, weight: balanced}", "--train.shard=full", "--log.visdom=false"]
    for run, steps in (("whole", 9), ("cut", 6)):
        given = ranks_of(tmp_path, *digits, f"run={run}", f"--train.max_steps={steps}")
        assert given.returncode == 0, given.stderr[-3000:]
    window = state("cut", folder=tmp_path)["update"]["model"]["window"]
    assert window["calls"] == 2 and len({weight for weight, _ in window["ranks"]}) == 2
    given = ranks_of(tmp_path, "train", "--resume=checkpoints/cut", "--train.max_steps=9")
    assert given.returncode == 0, given.stderr[-3000:]
    assert same_run(state("whole", folder=tmp_path), state("cut", folder=tmp_path))


FREEZES = f"""
import os, runpy, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from trainer.checkpointing import sharded
from utils import dist

writes, write = [], sharded._Save._write_parts

def frozen(save):
    writes.append(1)
    if dist.rank() == 1 and len(writes) == 2:
        time.sleep(2)  # until all wait for the save
        os.kill(os.getpid(), signal.SIGSTOP)
    write(save)

sharded._Save._write_parts = frozen
runpy.run_path({str(ROOT / "main.py")!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_a_process_that_freezes_in_the_last_save_is_told(texts):
    """All the others wait for its part, on a group that has patience with slow disks."""
    (texts / "freezes.py").write_text(FREEZES)
    words = [*SMALL, "--train.shard=full", "--max-epoch=1", "--train.max-steps=3", "--train.dist-timeout=5"]
    given = ranks_of(texts, *words, script=texts / "freezes.py")
    assert given.returncode != 0
    assert re.search(r"did not answer within 5 s \(process 1 \(\d+ on .*\) was stopped\)", given.stderr), given.stderr


@pytest.mark.slow
def test_parameters_and_optimizer_state_of_a_rank_fall_with_the_number_of_ranks(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE.format(root=str(ROOT)))
    found = []
    for ranks in (1, 2, 4):
        given = ranks_of(tmp_path, ranks=ranks, script=probe)
        assert given.returncode == 0, given.stderr[-3000:]
        found.append([int(n) for n in re.findall(r"bytes (\d+)", given.stdout)])
    (whole,) = found[0]
    assert len(found[2]) == 4
    for ranks, parts in zip((2, 4), found[1:], strict=True):
        assert sum(parts) == pytest.approx(whole, rel=0.001), "each number once"
        assert max(parts) <= 1.02 * whole / ranks, (ranks, parts, whole)


PROBE = """
import sys
sys.path.insert(0, {root!r})
import torch
import torch.distributed as dist
from configs import load
from models.gpt import GPT
from trainer.parallel.fsdp import divide
from trainer.parallel.divided import part_of
from utils.dist import stop
from utils.runs.group import end_with
dist.init_process_group("gloo")
cfg = load("shakespeare", {{"train.shard": "full"}})
task = torch.nn.Module()
task.model = GPT(68)
divide(task, cfg, torch.device("cpu"))
optimizer = torch.optim.AdamW(task.parameters())
task.model(torch.randint(68, (2, 64)))[0].sum().backward()
optimizer.step()
held = [*task.parameters(), *(v for own in optimizer.state.values() for v in own.values() if v.ndim)]
found = sum(part_of(t).numel() * t.element_size() for t in held)
lines = [None] * dist.get_world_size()
dist.all_gather_object(lines, f"bytes {{found}}")
if dist.get_rank() == 0:
    print(*lines, flush=True)
stop()
end_with(lambda: 0)
"""


def test_a_pattern_for_layers_within_one_another_takes_the_outer_ones():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    assert fsdp.units(net, ("*",)) == [net[0], net[1]] and fsdp.units(net, ("0.*", "0")) == [net[0]]


def test_units_are_blocks_or_what_patterns_name():
    net = GPT(68)
    assert fsdp.units(net) == list(net.blocks)
    assert fsdp.units(net, ("blocks.*.mlp",)) == [block.mlp for block in net.blocks]
    assert fsdp.units(net, ("embedding",)) == [], "the output layer has its weights, too"
    with pytest.raises(ConfigError, match="train.shard_units: 'block' means no layer; there are embedding"):
        fsdp.units(net, ("block",))
    resnet = ResNet34(2)
    found = fsdp.units(resnet)
    assert found and not any(a is not b and a in set(b.modules()) for a in found for b in found), "none in another"


def test_what_does_not_go_together_is_told_before_the_start(monkeypatch):
    cfg = load("shakespeare", {"train.shard": "full"})
    assert not fsdp.is_sharded(cfg) and fsdp.divide(None, cfg, torch.device("cpu")) is None, (
        "one process divides nothing"
    )
    monkeypatch.setattr("utils.dist.world_size", lambda: 2)
    flags = {"optim": "Adafactor", "schedule": None, "train.precision": "fp16", "log.histograms": 5}
    wrong = load("shakespeare", {"train.shard": "full", **flags})
    told = "the optimizer Adafactor, train.precision: fp16 (take bf16), log.histograms; leave that out"
    with pytest.raises(ConfigError, match=re.escape(told)):
        fsdp.divide(None, wrong, torch.device("cpu"))


CASES = {
    "bf16": ["--train.precision=bf16", "--train.max_steps=6"],
    "clipped": ["--train.clip=0.5", "--train.max_steps=6"],
    "accumulated": ["--train.accumulate=2", "--train.max_steps=7"],
    "recomputed": ["--train.activation_checkpointing", "--model.dropout=0.2", "--train.max_steps=6"],
    "freed": ["--train.freeze=[embedding*,blocks.0.*]", "--train.unfreeze={2: [blocks.0.*], 3: [embedding*]}"],
    "swa": ["--train.swa={from: 0.3, lr: 0.01}"],
    "averaged": ["--train.average_last=2"],
}


# The norm is one of the parts' norms; a window's gradients are averaged batch by batch, not once at its end.
ROUNDED = {"clipped": 1e-6, "accumulated": 1e-6}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_else_is_asked_for_gives_the_run_of_plain_data_parallelism(texts, case):
    """Three short epochs, of a tenth of the samples: the same bits, except where sums are taken in another order."""
    args = ["--optim=SGD", "--optim.lr=0.1", "--optim.momentum=0.9", "--train.max_epoch=3"]
    args += ["--data.fraction=0.1", *CASES[case], *([] if case == "clipped" else ["--train.clip=null"])]
    small = [flag for flag in SMALL if case != "swa" or "ema" not in flag]
    for name in ("plain", "full"):
        given = ranks_of(texts, *small, *args, f"run={name}", f"--train.shard={'none' if name == 'plain' else name}")
        assert given.returncode == 0, given.stderr[-3000:]
    plain, full = (without_fused(state(name, folder=texts)) for name in ("plain", "full"))
    if case in ROUNDED:
        for name, value in plain["model"].items():
            torch.testing.assert_close(full["model"][name], value, rtol=1e-4, atol=ROUNDED[case], msg=name)
        return
    assert same_run(plain, full)
    if case in ("swa", "averaged"):
        one, two = (state(name, "averaged.pth", folder=texts) for name in ("plain", "full"))
        assert same(one["model"], two["model"]) and not same(two["model"], full["model"])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="the digits of MNIST are not here")
def test_two_networks_learn_as_with_plain_data_parallelism(tmp_path):
    """Each one's gradients are its own, though the loss of one runs through the other; the generator rests at times."""
    small = ["--model.generator.nz=8", "--model.generator.ngf=4", "--model.discriminator.ndf=4", "--batch-size=8"]
    quiet = ["--train.rehearse=false", "--log.visdom=false", "--log.pictures=false", "--schedule=null"]
    optim = "{generator: {name: SGD, lr: 0.05, momentum: 0.9}, discriminator: {name: SGD, lr: 0.02}}"
    args = [f"--data.dataset.root={DATA / 'mnist'}", "--data.fraction=0.002", f"--optim={optim}", "--train.ema=0.9"]
    args += ["--task.g_every=2", "--train.max_steps=9", "--train.save_steps=2", "--print-freq=1", *small, *quiet]
    for name, more in (("plain", ()), ("full", ("--train.shard=full",))):
        given = ranks_of(tmp_path, "train", "mnist_gan", f"run={name}", *args, *more)
        assert given.returncode == 0, given.stderr[-3000:]
    plain, full = (without_fused(state(name, folder=tmp_path)) for name in ("plain", "full"))
    for part in ("model", "ema"):
        for name, value in plain[part].items():
            torch.testing.assert_close(full[part][name], value, rtol=1e-5, atol=1e-6, msg=name)
    taken = [{role: step["taken"] for role, step in one["update"].items()} for one in (plain, full)]
    assert taken[0] == taken[1] == {"generator": 5, "discriminator": 9}


def test_activations_computed_again_give_the_same_bits():
    cfg, tokens = load("shakespeare", {"train.activation_checkpointing": True}), torch.arange(24).reshape(2, 12)
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        task = nn.Module()
        task.model = GPT(30, dropout=0.3)
        names, passes = [*task.state_dict()], []
        if again:
            recompute(task, cfg)
        task.model.blocks[0].mlp.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        task.model(tokens)[0].square().mean().backward()
        assert [*task.state_dict()] == names and len(passes) == 1 + again
        found.append([p.grad for p in task.parameters()])
    assert same(*found)
    twin = deepcopy(task)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert not twin.model.eval()(tokens)[0].any(), "a copy computes with its own weights"


def test_what_cannot_be_computed_again_is_told():
    task = nn.Module()
    for model, flags, told in (
        (ResNet34(2), {}, "the BatchNorm in .* would count each batch twice"),
        (nn.Linear(2, 2), {}, "the network has no blocks; name some with train.shard_units"),
        (GPT(30), {"train.compile": True}, "does not go together with train.compile"),
    ):
        task.model = model
        with pytest.raises(ConfigError, match=told):
            recompute(task, load("shakespeare", {"train.activation_checkpointing": True, **flags}))


def test_ordinary_tensors_pass_through():
    tensor = torch.ones(3)
    assert divided.whole({"a": [tensor], "b": 2}) == {"a": [tensor], "b": 2}
    assert divided.part_of(tensor) is tensor and divided.divided_like(tensor, tensor) is tensor
