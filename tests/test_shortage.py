"""train.oom=fit: memory that runs out at any step, and the run goes on with the same optimizer steps."""

import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from test_rehearsal import FC, dataset, network

# 32 samples a step, 40 steps an epoch of 1,258 samples, the last one of 10
FLAGS = [
    "--model=Mine",
    "--optim={name: SGD, lr: 0.1, momentum: 0.9}",
    "--max-epoch=3",
    "--print-freq=1",
    "--train.rehearse=false",
    *PLAIN,
]
FAIL = (
    "    def fail(self, size):\n"
    "        Mine.calls = getattr(Mine, 'calls', 0) + self.training\n"
    "        if self.training and size > LIMIT and Mine.calls >= FIRST:\n"
    "            raise ERROR\n"
    "    def backward_fails(self, size):\n"
    "        if size > LIMIT and Mine.calls >= FIRST:\n"
    "            raise ERROR\n"
)
BEHIND = (
    "out = self.fc(x); out.register_hook(lambda g: self.backward_fails(len(g))) if self.training else 0; return out"
)


@pytest.fixture
def hungry(run, tmp_path):
    """Train a network that from its call number `first` on has no memory for more than `limit` samples."""

    def command(*flags: str, first: int, limit: int = 16, error: str = "MemoryError('of 3 GB')", **more: str):
        (tmp_path / "models").mkdir(exist_ok=True)
        forward = "self.fail(len(x)); return self.fc(x)"
        text = network(more.get("layers", FC), more.get("forward", forward), more.get("methods", FAIL))
        for word, value in {"LIMIT": limit, "FIRST": first, "ERROR": error}.items():
            text = text.replace(word, str(value))
        (tmp_path / "models/mine.py").write_text(text)
        return run("train", *FLAGS, *flags)

    return command


def close(one: str, other: str) -> bool:
    """Whether two runs have the same weights and momentum, except for rounding."""
    left, right = state(one), state(other)
    momenta = [
        [s["momentum_buffer"] for s in run["update"]["model"]["optimizer"]["state"].values()] for run in (left, right)
    ]
    pairs = [(left["model"][name], right["model"][name]) for name in left["model"]] + list(zip(*momenta, strict=True))
    return all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize(
    ("first", "error"), [(7, "MemoryError"), (55, "torch.OutOfMemoryError('CUDA out of memory')"), (119, "MemoryError")]
)
def test_out_of_memory_in_any_epoch_goes_on_with_the_same_optimizer_steps(hungry, first, error):
    given = hungry("--train.oom=fit", "--run=a", first=first, error=error)
    assert given.code == 0, given
    told = [line for line in given.out.splitlines() if "out of memory" in line or "goes on" in line]
    assert told[0].endswith("data.batch_size 32 -> 16, train.accumulate -> 2 (32 samples an optimizer step, as before)")
    assert told[1].startswith(f"the run goes on behind step {first - 1} (epoch {(first - 2) // 40 + 1}, "), told
    assert hungry("--batch-size=16", "--train.accumulate=2", "--run=b", first=10**6).code == 0
    assert close("a", "b")
    assert state("a")["update"]["model"]["taken"] == state("b")["update"]["model"]["taken"] == 120
    assert state("a")["config"]["data"]["batch_size"] == 16 and state("a")["config"]["train"]["accumulate"] == 2
    found = rows("a", phase="train")
    assert [row["step"] for row in found] == list(range(1, len(found) + 1)), "a row is lost, or there twice"


def test_a_window_that_is_open_goes_back_to_the_last_save_and_learns_the_same(hungry, tmp_path):
    """The second shortage comes within a window of two batches."""
    given = hungry("--train.oom=fit", "--run=a", "--train.accumulate=2", "--train.save_steps=9", first=14)
    assert given.code == 0 and "the run goes on behind step 9 (epoch 1, sample 288)" in given.out, given
    assert hungry("--batch-size=16", "--train.accumulate=4", "--run=b", first=10**6).code == 0
    assert close("a", "b"), "the save lies within a window, whose gradients are those of larger batches"


def test_a_backward_pass_that_fails_leaves_nothing_behind(hungry):
    more = {"forward": BEHIND}
    more["methods"] = (
        "    def __call__(self, x):\n        Mine.calls = getattr(Mine, 'calls', 0) + self.training\n"
        "        return super().__call__(x)\n" + FAIL.partition("ERROR\n")[2]
    )
    given = hungry("--train.oom=fit", "--run=a", first=50, **more)
    assert given.code == 0 and "the run goes on behind step 49 (epoch 2," in given.out, given
    assert hungry("--batch-size=16", "--train.accumulate=2", "--run=b", first=10**6, **more).code == 0
    assert close("a", "b")


def test_statistics_of_a_failed_forward_pass_are_taken_back(hungry):
    norm = {"layers": f"self.bn = nn.BatchNorm1d(64, momentum=0.5); {FC}"}
    norm["forward"] = "x = self.bn(x); self.fail(len(x)); return self.fc(x)"
    given = hungry("--train.oom=fit", "--run=a", "--train.max_steps=31", first=31, **norm)
    assert given.code == 0 and "behind step 30" in given.out, given
    assert int(state("a")["model"]["bn.num_batches_tracked"]) == 31


def test_validation_alone_gets_smaller_batches(hungry):
    forward = {"forward": "self.training or self.fail(len(x)); return self.fc(x)"}
    forward["methods"] = FAIL.replace("self.training and size", "size").replace("+ self.training", "+ 1")
    given = hungry("--train.oom=fit", "--run=a", first=15, **forward)
    assert given.code == 0 and "out of memory in validation: data.eval_batch_size 32 -> 16" in given.out, given
    assert hungry("--run=b", first=10**6, **forward).code == 0
    assert rows("a", phase="train") == rows("b", phase="train") and close("a", "b")
    assert [row["accuracy"] for row in rows("a", phase="val")] == [row["accuracy"] for row in rows("b", phase="val")]


def test_a_run_that_went_on_resumes_to_the_last_bit(hungry, run):
    flags = ["--train.oom=fit", "--train.save_steps=7"]
    for name, steps in (("whole", 95), ("cut", 61)):
        given = hungry(*flags, f"--run={name}", f"--train.max_steps={steps}", first=50)
        assert given.code == 0 and "goes on behind step 49" in given.out, given
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=95")
    assert given.code == 0 and "out of memory" not in given.out, given
    assert rows("whole", phase="train") == rows("cut", phase="train") and same_run(state("whole"), state("cut"))


@pytest.mark.parametrize(("save", "code"), [("1000", 0), ("3", 8)])
def test_another_order_of_samples_goes_back_to_the_beginning_of_the_epoch(hungry, tmp_path, save, code):
    (tmp_path / "data").mkdir()
    lengths = "self.lengths = [i % 3 for i in range(64)]"
    (tmp_path / "data/mine.py").write_text(dataset("(torch.rand(1, 8, 8), i % 10)", lengths))
    flags = ["--data.dataset=Mine", "--data.sampler={name: Grouped, by: length}", f"--train.save_steps={save}"]
    given = hungry("--run=a", "--train.oom=fit", "--batch-size=8", *flags, first=14, limit=4)
    assert given.code == code, given
    if not code:
        assert "the run goes on behind step 9 (epoch 2, sample 0)" in given.out, given.out
