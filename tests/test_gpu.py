"""What only a GPU can show; run with `pytest -m gpu`."""

import pytest
import torch
from conftest import PLAIN, rows, same_run, state

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
ARGS = ["--model=ResNet34", "--max-epoch=2", "--print-freq=5", *PLAIN]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_and_its_checkpoint_opens_on_a_cpu(run, precision):
    assert run("train", "--run=a", *ARGS, "--use-gpu", f"--train.precision={precision}").code == 0
    assert rows("a", phase="train")[-1]["loss"] < rows("a", phase="train")[0]["loss"]
    given = run("val", "checkpoints/a", "--use-gpu=false")
    assert given.code == 0, given.err
    said = dict(line.split() for line in given.out.splitlines()[1:])
    assert float(said["accuracy"]) == pytest.approx(max(r["accuracy"] for r in rows("a", phase="val")), abs=0.02)


def test_a_resumed_run_is_the_same_when_deterministic(run):
    args = [*ARGS, "--use-gpu", "--train.deterministic"]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=33").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))
    assert rows("cut") == rows("whole")


def test_out_of_memory_is_a_sentence(run):
    given = run("train", "--run=a", "--model=MLP", "--model.hidden=[2000000000]", "--use-gpu", *PLAIN)
    assert given.code == 8
    assert "--batch-size=16" in given.err
