"""Two ranks: one run, one set of weights, each sample once, one writer."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import PLAIN, ROOT, TOY, dogcats, rows, state
from warm import ranks_of

PROBE = """
import hashlib, json, os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from trainer import trainer as module
close = module.Trainer.close

def note(self, failed=False):
    weights = torch.cat([t.float().flatten() for t in self.state.task.state_dict().values()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    facts = dict(weights=digest, rows=len(self.logger.sinks), step=self.state.progress.step)
    open(f"rank{{os.environ['RANK']}}.json", "w").write(json.dumps(facts))
    close(self, failed)

module.Trainer.close = note
import main
sys.exit(main.main(sys.argv[1:]))
"""


def two_probed(folder, *arguments: str) -> subprocess.CompletedProcess:
    """Two ranks of one run, without torchrun; each leaves its facts in rank0.json and rank1.json."""
    (folder / "probe.py").write_text(PROBE.format(root=str(ROOT)))
    return ranks_of(folder, *arguments, script=folder / "probe.py")


def torchrun(folder, *arguments: str) -> subprocess.CompletedProcess:
    probe = folder / "probe.py"
    probe.write_text(PROBE.format(root=str(ROOT)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(probe)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, env=env, timeout=240)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    args = [arg for arg in TOY if "--optim" not in arg and "--lr" not in arg]
    args += ["--optim=SGD", "--lr=0.1", "--batch-size=40"]
    given = two_probed(folder, "train", "run=two", *args)
    assert given.returncode == 0, given.stderr[-3000:]
    return folder, args, given


def test_both_ranks_end_with_the_same_weights_and_one_writes(two_ranks):
    folder, _, given = two_ranks
    facts = [json.loads((folder / f"rank{r}.json").read_text()) for r in (0, 1)]
    assert facts[0]["weights"] == facts[1]["weights"]
    assert facts[0]["step"] == facts[1]["step"] == 64
    assert (facts[0]["rows"], facts[1]["rows"]) == (2, 0)
    assert given.stdout.count("done:") == 1
    assert [row["step"] for row in rows("two", folder, "train")] == list(range(1, 65))


@pytest.mark.slow
def test_running_statistics_are_shared_too(tmp_path):
    """Batch norm moves on each rank's own samples; what is saved and measured must be of all."""
    args = ["--model=torchvision:resnet18", "--batch-size=8", "--train.max_steps=3", *PLAIN]
    given = two_probed(tmp_path, "train", "run=norm", *args)
    assert given.returncode == 0, given.stderr[-3000:]
    facts = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1)]
    assert facts[0]["weights"] == facts[1]["weights"]


def test_two_ranks_are_one_with_the_same_batch(two_ranks, run):
    """Also the last batch, whose 18 samples fall 9 and 9."""
    folder, args, _ = two_ranks
    assert run("train", "--run=one", *args).code == 0
    one, two = state("one")["model"], state("two", folder=folder)["model"]
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    left, right = rows("one"), rows("two", folder)
    assert [row["step"] for row in left] == [row["step"] for row in right]
    assert all(a["loss"] == pytest.approx(b["loss"], abs=1e-4) for a, b in zip(left, right, strict=True))


def test_validation_sees_each_sample_once(two_ranks, run):
    folder, _, _ = two_ranks
    given = run("val", str(folder / "checkpoints/two/last.pth"))
    said = dict(line.split() for line in given.out.splitlines()[1:])
    row = rows("two", folder, "val")[-1]
    assert float(said["accuracy"]) == row["accuracy"], "269 samples on two ranks: a doubled one would show"
    assert float(said["loss"]) == pytest.approx(row["loss"], rel=1e-6)


@pytest.mark.slow
def test_mistakes_are_told_once(tmp_path):
    given = torchrun(tmp_path, "train", "--model=ResNet43")
    assert given.returncode != 0
    assert given.stderr.count("no 'ResNet43'") == 1


@pytest.mark.slow
def test_what_one_rank_alone_finds_ends_both_with_its_sentence(tmp_path):
    """The other one waits for its gradients: it must not be waited for."""
    dogcats(tmp_path / "photos", 12)
    (tmp_path / "photos" / "dog.3.jpg").write_bytes(b"garbage")
    args = ["dogcat_small", "--train-data-root=photos", "--model=LeNet", "--batch-size=2", "--num-workers=0", *PLAIN]
    given = two_probed(tmp_path, "train", "run=two", *args, "--data.dataset.val_fraction=0.1")
    assert given.returncode != 0 and "cannot read the picture" in given.stderr, given.stderr[-3000:]


def test_a_rank_without_a_group_is_no_rank(run, monkeypatch):
    """Some schedulers set RANK for other ends; it trains, says so, and saves."""
    monkeypatch.setenv("RANK", "3")
    given = run("train", "--run=a", *TOY, "--train.max_steps=2")
    assert given.code == 0 and "done: 2 steps" in given.out and state("a")["progress"]["step"] == 2
    assert "no key 'foo'" in run("train", "--foo=3").err
