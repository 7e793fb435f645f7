"""What `auto` stands for on a machine; memory layouts and compilation, which change no result."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PLAIN, TOY, rows, same_run, state

from configs import load
from trainer.setup import resolve_auto
from utils.device import autocast, choose_device, runs_on

NET = ["--model=LeNet", "--schedule=null", *(argument for argument in TOY if "model" not in argument)]


def stored(name: str) -> dict:
    return yaml.safe_load(Path("checkpoints", name, "config.yaml").read_text())["train"]


def close(one: dict, other: dict) -> bool:
    return all(torch.allclose(tensor, other[name], atol=1e-3) for name, tensor in one.items())


def numbers(told: str) -> dict:
    return {name: torch.tensor(float(value)) for name, value in map(str.split, told.splitlines()[1:])}


@pytest.mark.parametrize("able", [False, True])
def test_auto_is_what_the_machine_computes_in_and_is_stored(run, monkeypatch, able):
    monkeypatch.setattr("trainer.setup.has_bf16", lambda where: able)
    given = run("train", "--run=a", *NET, "--train.precision=auto", "--train.max_steps=4")
    assert given.code == 0
    assert ("bf16, channels last" if able else "fp32") in given.out and ("bf16" in given.out) == able
    train = stored("a")
    assert (train["precision"], train["channels_last"]) == (("bf16", True) if able else ("fp32", False))
    monkeypatch.setattr("trainer.setup.has_bf16", lambda where: not able)  # the run goes on as it was, wherever it is
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=6").code == 0
    assert stored("a")["precision"] == train["precision"]


@pytest.mark.parametrize(("able", "kind", "due"), [(0, "cuda", "fp16"), (1, "cuda", "bf16"), (0, "cpu", "fp32")])
def test_auto_is_fp16_on_a_gpu_without_bf16(monkeypatch, able, kind, due):
    monkeypatch.setattr("trainer.setup.has_bf16", lambda where: bool(able))
    train = resolve_auto(load("default", {"train.precision": "auto"}), torch.device(kind)).train
    assert (train.precision, train.channels_last) == (due, due != "fp32")


BUILT = ["sm_75", "sm_80", "sm_90a", "sm_120"]  # of a torch of today


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((6, 0), BUILT, False),
        ((7, 0), BUILT, False),
        ((7, 5), BUILT, True),
        ((8, 9), BUILT, True),
        ((9, 0), BUILT, True),
        ((10, 0), BUILT, False),
        ((12, 1), BUILT, True),
        ((10, 0), [*BUILT, "compute_90"], True),
        ((8, 9), ["compute_90"], False),
        ((9, 4), ["gfx90a", "gfx942"], True),
        ((6, 0), [], True),
    ],
)
def test_kernels_run_on_the_gpus_they_were_made_for(capability, built, runs):
    assert runs_on(capability, built) == runs


@pytest.mark.parametrize("asked", [[], ["--use-gpu"]])
def test_a_gpu_without_kernels_is_one_sentence(run, monkeypatch, asked):
    fakes = {"is_available": True, "device_count": 1, "get_arch_list": BUILT, "get_device_name": "Tesla P100"}
    for name, value in {**fakes, "get_device_capability": (6, 0)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *given, value=value: value)
    given = run("train", "--run=a", "--model=MLP", *PLAIN, *asked)
    assert given.code == 2 and given.err.count("\n") == 1, given
    assert "has no kernels for the GPU Tesla P100 (sm_60), only for sm_75, sm_80, sm_90a, sm_120; " in given.err
    assert choose_device(False) == torch.device("cpu"), "as the sentence says"


def test_channels_last_gives_the_same_run_and_its_weights_lie_so(run):
    assert run("train", "--run=a", *NET, "--train.channels_last=false").code == 0
    assert run("train", "--run=b", *NET, "--train.channels_last=true").code == 0
    assert state("b")["model"]["features.0.weight"].is_contiguous(memory_format=torch.channels_last)
    assert close(state("a")["model"], state("b")["model"])
    assert [r["loss"] for r in rows("a")] == pytest.approx([r["loss"] for r in rows("b")], abs=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is told")
def test_what_the_algorithms_may_be_is_the_runs_own(run):
    """val and test compute as the training did, and the next run of the same process as its config says."""
    assert run("train", "--run=a", *TOY, "--train.max_steps=2", "--train.deterministic").code == 0
    torch.use_deterministic_algorithms(False)
    try:
        assert run("val", "checkpoints/a").code == 0 and torch.are_deterministic_algorithms_enabled()
        assert run("train", "--run=b", *TOY, "--train.max_steps=2").code == 0
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_memory_that_is_kept_is_the_same_run_and_costs_no_page_twice(start, tmp_path):
    """Page faults are counted in processes of their own: once told, the C library stays so."""
    faults = {}
    for kept in ("true", "false"):
        flags = ["--model=LeNet", "--batch-size=512", "--max-epoch=20", "--train.val_steps=1000", *PLAIN]
        process = start("train", f"--run={kept}", *flags, f"--train.keep_memory={kept}")
        faults[kept] = os.wait4(process.pid, 0)[2].ru_minflt
        process.returncode = 0
    assert same_run(*(state(kept, folder=tmp_path) for kept in faults))
    assert faults["true"] < faults["false"] - 10_000


@pytest.mark.parametrize("optimizer", [["SGD", "momentum=0.9"], ["Adam"], ["AdamW"], ["Adagrad"]])
def test_a_fused_optimizer_gives_the_same_run(run, optimizer):
    name, *arguments = optimizer
    flags = [f"--optim={name}", "--lr=1e-2", *(f"--optim.{argument}" for argument in arguments)]
    args = [*(argument for argument in TOY if not argument.startswith(("--optim", "--lr"))), *flags]
    assert run("train", "--run=fused", *args).code == 0
    assert run("train", "--run=plain", *args, "--optim.fused=false").code == 0
    assert close(state("fused")["model"], state("plain")["model"])
    losses = [[row["loss"] for row in rows(name)] for name in ("fused", "plain")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.learns
def test_bf16_learns_as_well_as_fp32(run):
    """Over three seeds: within what the seed alone makes of it."""
    best: dict[str, list[float]] = {"fp32": [], "bf16": []}
    args = [*(argument for argument in TOY if "max-epoch" not in argument), "--max-epoch=6"]
    for precision, found in best.items():
        for seed in range(3):
            name, flags = f"{precision}{seed}", [f"--seed={seed}", f"--train.precision={precision}"]
            assert run("train", f"--run={name}", *flags, *args).code == 0
            found.append(max(row["accuracy"] for row in rows(name, phase="val")))
    assert min(best["fp32"]) > 0.85
    assert sum(best["bf16"]) == pytest.approx(sum(best["fp32"]), abs=3 * 0.02)


def test_in_bf16_a_step_is_seen_by_what_follows_it_in_the_same_batch():
    """As a generator's step must see the discriminator that has just learned."""
    layer, one = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    with autocast(torch.device("cpu"), "bf16"):
        layer(one)
        with torch.no_grad():
            layer.weight.fill_(2.0)
        assert layer(one).item() == 2.0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_gives_the_same_run_and_an_ordinary_checkpoint(run):
    assert run("train", "--run=a", *NET, "--train.max_steps=20").code == 0
    assert run("train", "--run=b", *NET, "--train.max_steps=20", "--train.compile=true", "--train.ema=0.9").code == 0
    assert state("a")["model"].keys() == state("b")["model"].keys() == state("b")["ema"].keys()
    assert close(state("a")["model"], state("b")["model"])
    told = {given.out for given in (run("val", "checkpoints/a", f"--train.compile={on}") for on in ("true", "false"))}
    assert len(told) == 1 or close(*map(numbers, told)), "constant weights, too, change no result"


def test_threads_of_the_cpu_are_limited_and_are_part_of_a_run(run):
    threads = torch.get_num_threads()
    try:
        assert run("train", "--run=a", *TOY, "--max-steps=2", "--train.threads=3").code == 0
        assert torch.get_num_threads() == 3 and state("a")["fingerprint"]["threads"] == 3
        torch.set_num_threads(1)
        assert run("val", "a", "--data.num_workers=0").code == 0 and torch.get_num_threads() == 3
        assert run("val", "a", "--train.threads=2").code == 0 and torch.get_num_threads() == 2
        refused = run("train", "--resume=checkpoints/a", "--train.threads=2", "--max-steps=3")
        assert refused.code == 2 and "a resumed run keeps its train.threads 3" in refused.err
        resumed = run("train", "--resume=checkpoints/a", "--max-steps=3")
        assert resumed.code == 0 and "not the same set-up" not in resumed.out and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert "must be from 1 to 1024, got 0" in run("check", "--train.threads=0").err
