"""A loss or a gradient that is not finite: the run stops, leaves the batch out, or goes back; no weight is touched."""

import pytest
import torch
from conftest import PLAIN, rows, same, state

from trainer.tasks.classification import Classification

ARGS = [
    "--model=MLP",
    "--model.dropout=0.2",
    "--optim=Adam",
    "--lr=1e-2",
    "--train.ema=0.9",
    "--print-freq=1",
    "--max-epoch=2",
    "--batch-size=100",
    *PLAIN,
]
BAD = 17  # the step whose loss is spoilt: of the second epoch


@pytest.fixture
def spoilt(monkeypatch):
    """Spoil the losses of some steps, or their gradients."""
    original, left = Classification.train_step, {"steps": {BAD}, "gradient": False}

    def train_step(self, batch, update):
        def call(loss, role="model"):
            bad = update.step + 1 in left["steps"]
            if bad and left["gradient"]:
                loss.register_hook(lambda grad: grad * float("nan"))
            update(loss * float("nan") if bad and not left["gradient"] else loss, role)

        call.step = update.step
        return original(self, batch, call)

    monkeypatch.setattr(Classification, "train_step", train_step)
    return left


@pytest.mark.parametrize("gradient", [False, True])
def test_stop_says_where_and_saves_nothing_of_it(run, spoilt, gradient):
    spoilt["gradient"] = gradient
    given = run("train", "--run=a", *ARGS, "--train.clip=5", "--train.save_steps=1")
    assert given.code == 6 and len(given.err.strip().splitlines()) == 1, given.err
    assert f"step {BAD}: the {'gradient' if gradient else 'loss'}" in given.err
    assert "lr 0.01, gradient norm " in given.err and "samples " in given.err
    spoilt["steps"] = set()
    assert run("train", "--run=b", *ARGS, "--train.clip=5", f"--train.max_steps={BAD - 1}").code == 0
    one, other = state("a"), state("b")
    assert same(one["model"], other["model"]) and same(one["ema"], other["ema"])
    assert state("a", "best.pth")["progress"]["step"] == 13, "the best is that of before"


def test_skip_leaves_the_batch_out_and_nothing_else(run, spoilt):
    given = run("train", "--run=a", *ARGS, "--train.on_nonfinite=skip")
    assert given.code == 0, given.err
    assert f"step {BAD}: the loss is nan; its batch is left out (1 of at most 10 in an epoch)" in given.out
    taken = state("a")["update"]["model"]["taken"]
    assert taken == 25 and state("a")["progress"]["step"] == 26 and state("a")["progress"]["skipped"] == [[1, 3]]
    train = rows("a", phase="train")
    assert [row["step"] for row in train] == list(range(1, 27))
    assert "loss" not in train[BAD - 1] and all("loss" in row for row in train if row["step"] != BAD)
    assert all(value.isfinite().all() for value in state("a")["model"].values())


def test_skip_puts_back_what_batch_norm_learned_from_the_bad_batch(run, monkeypatch):
    from data.digits import Digits

    read, count = Digits.read, []

    def spoilt(self, indices, seeds=()):
        images, labels = read(self, indices, seeds)
        count.append(1)
        return (images * float("inf") if len(count) == 3 else images), labels

    monkeypatch.setattr(Digits, "read", spoilt)
    args = [
        "--model=ResNet34",
        "--optim=SGD",
        "--lr=0.01",
        *PLAIN,
        "--print-freq=1",
        "--batch-size=16",
        "--train.rehearse=false",
    ]
    given = run("train", "--run=a", *args, "--train.on_nonfinite=skip", "--train.max_steps=4")
    assert given.code == 0, given.err
    assert "step 3" in given.out
    assert all(value.isfinite().all() for value in state("a")["model"].values() if value.is_floating_point())


@pytest.mark.parametrize("save_steps", [4, 100])
def test_rollback_goes_back_to_the_last_save_and_then_leaves_the_batch_out(run, spoilt, save_steps):
    given = run("train", "--run=a", *ARGS, "--train.on_nonfinite=rollback", f"--train.save_steps={save_steps}")
    assert given.code == 0, given.err
    back = 16 if save_steps == 4 else 13
    assert f"step {BAD}: the loss is nan; back to step {back}, without its batch" in given.out
    assert [row["step"] for row in rows("a", phase="train")] == list(range(1, 27))
    assert run("train", "--run=b", *ARGS, "--train.on_nonfinite=skip").code == 0
    # the same batches, but the random numbers of the bad one's dropout were drawn in b alone
    assert state("a")["update"]["model"]["taken"] == state("b")["update"]["model"]["taken"] == 25
    before = [row for row in rows("b") if row["step"] < BAD]
    assert [row for row in rows("a") if row["step"] < BAD] == before


@pytest.mark.parametrize("save_steps", [1, 4, 100])
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_of_a_summed_gradient_all_its_batches_are_left_out(run, spoilt, policy, save_steps):
    """Which of them is to blame is not known; a save between them does not keep what they have gathered."""
    spoilt["gradient"] = True
    args = [*ARGS, "--train.accumulate=3", "--train.check_gradients", f"--train.save_steps={save_steps}"]
    given = run("train", "--run=a", *args, f"--train.on_nonfinite={policy}")
    assert given.code == 0, given.out + given.err
    assert given.out.count("gradient's norm is nan") == 1 and "(3 of at most 30 in an epoch)" in given.out
    assert state("a")["progress"]["skipped"] == [[1, 3], [1, 4], [1, 5]], "of steps 17 to 19"
    assert all(value.isfinite().all() for value in state("a")["model"].values())


def test_a_window_around_a_batch_that_is_left_out_already(run, spoilt):
    """After the batch of step 18 is gone, the window of steps 17 to 20 has three; 17 is the one to blame."""
    spoilt["gradient"] = True
    args = [*ARGS, "--train.accumulate=3", "--train.check_gradients", "--train.on_nonfinite=rollback"]
    spoilt["steps"] = {17}
    from trainer.trainer import Trainer

    own, done = Trainer.train_epoch, []

    def train_epoch(self):
        if not done:
            done.append(self.state.progress.skipped.append([1, 4]))
        return own(self)

    Trainer.train_epoch = train_epoch
    try:
        given = run("train", "--run=a", *args)
    finally:
        Trainer.train_epoch = own
    assert given.code == 0 and given.out.count("gradient's norm is nan") == 1, given.out + given.err
    assert state("a")["progress"]["skipped"] == [[1, 4], [1, 3], [1, 5], [1, 6]]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_what_was_left_out_stays_so_in_a_resumed_run(run, spoilt, policy):
    args = [*ARGS, f"--train.on_nonfinite={policy}"]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, f"--train.max_steps={BAD + 2}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("cut") == rows("whole")
    assert same(state("cut")["model"], state("whole")["model"])


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_too_many_end_the_run(run, spoilt, policy):
    spoilt["steps"] = set(range(2, 100))
    given = run("train", "--run=a", *ARGS, f"--train.on_nonfinite={policy}")
    assert given.code == 6, given.out
    assert given.out.count("left out (") + given.out.count("without its batch (") == 10
    assert all(value.isfinite().all() for value in state("a")["model"].values())


def test_gradients_are_looked_at_when_asked(run, spoilt):
    spoilt["gradient"] = True
    given = run("train", "--run=a", *ARGS, "--train.check_gradients")
    assert given.code == 6 and f"step {BAD}: the gradient's norm is nan" in given.err
    unseen = run("train", "--run=b", *ARGS)
    assert unseen.code == 6 and "gradient's norm" not in unseen.err, "the next loss tells"
    assert all(value.isfinite().all() for value in state("b")["model"].values())


def test_a_metric_that_is_no_number_is_never_the_best():
    from configs.schema import Train
    from trainer.progress import Progress

    progress = Progress()
    assert not progress.update_best(float("nan"), Train()) and progress.best is None
    assert (
        progress.update_best(2.0, Train()) and not progress.update_best(float("nan"), Train()) and progress.best == 2.0
    )


def test_an_infinite_gradient_changes_no_weight():
    from configs import load
    from trainer.optim.step import OptimizerStep
    from utils.errors import NonFiniteError

    net = torch.nn.Linear(2, 1)
    before = [p.clone() for p in net.parameters()]
    cfg = load("default", [])
    object.__setattr__(cfg.train, "clip", 1.0)
    step = OptimizerStep(net, torch.optim.SGD(net.parameters(), lr=1.0), cfg, None)
    with pytest.raises(NonFiniteError, match="gradient's norm is (inf|nan)"):
        step(net(torch.tensor([[float("inf"), 1.0]])).sum(), 1.0, 1.0, None)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
