"""The rehearsal of two processes: both play their part, one tells, and the state of each is as before."""

import json

import pytest
from conftest import PLAIN, rows, same_run, state
from test_ddp import torchrun, two_probed
from test_rehearsal import FC, dataset, network

pytestmark = pytest.mark.slow
FLAGS = ["--train.max_steps=6", "--max-epoch=1", "--print-freq=1", "--batch-size=8", "--optim=Adam", *PLAIN]
NETWORK = network(
    "self.bn = nn.BatchNorm1d(64); self.drop = nn.Dropout(0.5); self.fc = nn.Linear(64, num_classes)",
    "return self.fc(self.drop(self.bn(x)))",
)


def plant(folder, room: str, text: str) -> None:
    (folder / room).mkdir()
    (folder / room / "mine.py").write_text(text)


@pytest.mark.parametrize("more", [["--train.sync_batchnorm"], ["--train.accumulate=2", "--train.ema=0.9"]])
def test_with_and_without_it_two_ranks_are_the_same_run(tmp_path, more):
    plant(tmp_path, "models", NETWORK)
    facts = {}
    for rehearse in ("true", "false"):
        flags = [f"run={rehearse}", f"--train.rehearse={rehearse}", "--model=Mine", *FLAGS, *more]
        given = two_probed(tmp_path, "train", *flags)
        assert given.returncode == 0, given.stderr[-3000:]
        assert given.stdout.count("rehearsed in") == (rehearse == "true"), given.stdout
        facts[rehearse] = [json.loads((tmp_path / f"rank{r}.json").read_text())["weights"] for r in (0, 1)]
    assert facts["true"] == facts["false"] and facts["true"][0] == facts["true"][1]
    assert same_run(state("true", folder=tmp_path), state("false", folder=tmp_path))
    assert rows("true", tmp_path) == rows("false", tmp_path)
    assert not (tmp_path / "checkpoints/true/rehearsal").exists()


def test_only_ends_both_and_tells_once_what_is_wrong(tmp_path):
    given = two_probed(tmp_path, "train", "run=a", "--model=MLP", "--train.rehearse=only", *FLAGS)
    assert given.returncode == 0 and given.stdout.count("rehearsed in") == 1, given
    assert not list((tmp_path / "checkpoints").iterdir())
    plant(tmp_path, "models", network(FC, "return self.fc(x).softmax(1)"))
    given = torchrun(tmp_path, "train", "run=a", "--model=Mine", "--train.rehearse=only", *FLAGS)
    assert given.returncode != 0 and given.stderr.count("as after softmax") == 1, given.stderr[-3000:]
    assert "exitcode  : 2" in given.stderr or "exitcode: 2" in given.stderr, given.stderr[-3000:]


def test_a_fault_that_one_rank_alone_meets_is_told_by_it(tmp_path):
    """The other one waits for its gradients: it must not be waited for."""
    sample = "(torch.rand(1, 8, 8), i % 10 if os.environ.get('RANK') == '0' else [1, 2][i * 1000])"
    plant(tmp_path, "data", dataset(sample))
    given = two_probed(
        tmp_path, "train", "run=a", "--model=MLP", "--data.dataset=Mine", "--train.rehearse=true", *FLAGS
    )
    assert given.returncode != 0 and "data/mine.py:" in given.stderr and "IndexError" in given.stderr, given


def test_divided_networks_say_that_they_are_not_rehearsed(start):
    flags = ["--model=MLP", "--train.shard=full", "--train.processes=2", *FLAGS]
    only = start("train", "--run=a", "--train.rehearse=only", *flags)
    out, told = only.communicate(timeout=240)
    assert only.returncode == 2 and told.count("cannot be copied; rehearse in one process") == 1, (out, told)
    wanted = start("train", "--run=b", "--train.rehearse=true", *flags)
    out, told = wanted.communicate(timeout=240)
    assert wanted.returncode == 0 and out.count("the run begins without a rehearsal") == 1, (out, told)
