"""task.metrics_too: each metric against scikit-learn, and in a run from the check to the best checkpoint."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PLAIN, TOY, rows, state
from sklearn import metrics
from test_ddp import two_probed

from configs import COMPONENTS, Component, ConfigError, load
from trainer.evaluate import meters_of
from trainer.metrics._collected import with_metrics
from trainer.tasks.regression import Regression
from trainer.tasks.segmentation import Segmentation
from utils.errors import DataError

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 4, 250)
SCORES = RNG.dirichlet(np.ones(4), 250) + 0.3 * np.eye(4)[CLASSES]
SCORES = SCORES / SCORES.sum(1, keepdims=True)
CHOSEN = SCORES.argmax(1)
TWO = np.stack([1 - SCORES[:, 3], SCORES[:, 3]], 1), (CLASSES == 3).astype(int)
LABELS = (RNG.random((250, 3)) < [0.5, 0.2, 0.03]).astype(int)
TOLD = 0.6 * RNG.random((250, 3)) + 0.3 * LABELS
NUMBERS = RNG.gamma(2, 3, (250, 2))
FOUND = NUMBERS + RNG.normal(0, 1, (250, 2))
ONE = [arg.replace("max-epoch=2", "max-epoch=1") for arg in TOY]
SIZES = (1, 100, 49, 100)  # batches


def first_hits(k):
    ranks = (SCORES[np.arange(250), CLASSES][:, None] < SCORES).sum(1) + 1
    return float(np.mean(np.where(ranks <= k, 1 / ranks, 0)))


KAPPA = metrics.cohen_kappa_score(CLASSES, CHOSEN, weights="quadratic")
OF_CLASSES = {
    "quadratic_kappa": KAPPA,
    "balanced_accuracy": metrics.balanced_accuracy_score(CLASSES, CHOSEN),
    "macro_f1": metrics.f1_score(CLASSES, CHOSEN, average="macro"),
    "mcc": metrics.matthews_corrcoef(CLASSES, CHOSEN),
    "average_precision": metrics.average_precision_score(CLASSES, SCORES, average="macro"),
    "roc_auc_ovr": metrics.roc_auc_score(CLASSES, SCORES, multi_class="ovr"),
    "top2": metrics.top_k_accuracy_score(CLASSES, SCORES, k=2),
    "map_at_3": first_hits(3),
    "map_at_5": metrics.label_ranking_average_precision_score(np.eye(4)[CLASSES], SCORES),
}
OF_NUMBERS = {
    "r2": metrics.r2_score(NUMBERS, FOUND),
    "mae": metrics.mean_absolute_error(NUMBERS, FOUND),
    "rmsle": metrics.root_mean_squared_log_error(NUMBERS, FOUND.clip(0)),
}
OF_LABELS = {
    "average_precision": metrics.average_precision_score(LABELS, TOLD, average="macro"),
    "roc_auc_ovr": metrics.roc_auc_score(LABELS, TOLD),
}


def measured(kind, names, scores, truth, sizes=SIZES, ranks=1, **facts):
    """The metrics of batches, which `ranks` meters share and merge in turn."""
    task = SimpleNamespace(predicted_kind=kind, **facts)
    build = COMPONENTS["metric"].build
    specs = {name: build(Component(name), name) for name in names}
    parts = [with_metrics({}, specs, task) for _ in range(ranks)]
    batches = zip(torch.as_tensor(scores).split(sizes), torch.as_tensor(truth).split(sizes), strict=True)
    for number, (some, true) in enumerate(batches):
        parts[number % ranks]["predictions"].add(some, true)
    whole = with_metrics({}, specs, task)
    for part in parts:
        for name, meter in part.items():
            whole[name].merge(meter.state())
    return {name: meter.value() for name, meter in whole.items() if name != "predictions"}


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "oracle", "scores", "truth"),
    [
        ("classes", OF_CLASSES, SCORES, CLASSES),
        ("numbers", OF_NUMBERS, FOUND, NUMBERS),
        ("labels", OF_LABELS, TOLD, LABELS),
    ],
)
def test_each_metric_is_scikit_learns_over_batches_and_ranks(kind, oracle, scores, truth, ranks):
    assert measured(kind, oracle, scores, truth, ranks=ranks) == pytest.approx(oracle, rel=1e-12)


def test_pixels_are_counted_and_not_kept():
    oracle = {name: OF_CLASSES[name] for name in ("quadratic_kappa", "balanced_accuracy", "macro_f1", "mcc")}
    assert measured("pixels", oracle, CHOSEN, CLASSES) == pytest.approx(oracle, rel=1e-12)
    specs = {"mcc": COMPONENTS["metric"].build(Component("mcc"), "mcc")}
    meters = with_metrics({}, specs, SimpleNamespace(predicted_kind="pixels"))
    meters["predictions"].add(torch.as_tensor(CHOSEN), torch.as_tensor(CLASSES))
    assert set(meters["predictions"].state()) == {"codes", "counts"}
    assert len(meters["predictions"].state()["codes"]) <= 16


@pytest.mark.parametrize("positive", [0, 1])
def test_of_two_classes_the_positive_one_is_measured(positive):
    scores, truth = TWO
    found = measured(
        "classes", ["average_precision", "roc_auc_ovr"], scores, truth, positive=positive, classes=["a", "b"]
    )
    assert found["average_precision"] == pytest.approx(
        metrics.average_precision_score(truth == positive, scores[:, positive])
    )
    assert found["roc_auc_ovr"] == pytest.approx(metrics.roc_auc_score(truth, scores[:, 1]))


def test_map_at_k_of_labels_by_hand():
    """Kaggle's: the sum of the precision at each hit of the first k, over min(k, labels)."""
    scores = [[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]]
    truth = [[1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    found = measured("labels", ["map_at_3"], torch.tensor(scores), torch.tensor(truth), sizes=3)
    assert found["map_at_3"] == pytest.approx(((1 + 2 / 3) / 3 + 0) / 2)


def test_a_class_that_never_occurs_is_left_out_and_nothing_gives_nothing():
    scores, truth = torch.as_tensor(SCORES), torch.as_tensor(CLASSES)
    seen = truth != 2
    found = measured("classes", ["average_precision"], scores[seen], truth[seen], sizes=int(seen.sum()))
    of = [metrics.average_precision_score(CLASSES[seen] == c, SCORES[seen][:, c]) for c in (0, 1, 3)]
    assert found["average_precision"] == pytest.approx(np.mean(of))
    assert measured("classes", ["mcc", "roc_auc_ovr"], scores[:0], truth[:0], sizes=1) == {
        "mcc": None,
        "roc_auc_ovr": None,
    }
    one = measured("classes", ["roc_auc_ovr"], scores[:1], truth[:1], sizes=1)
    assert one["roc_auc_ovr"] is None
    odd = measured("numbers", ["mae"], [[float("nan")]], [[1.0]], sizes=1)
    assert odd["mae"] != odd["mae"]


def test_what_the_data_cannot_have_is_one_sentence():
    with pytest.raises(DataError, match=r"rmsle: the truth goes down to -3, and it takes no numbers below 0"):
        measured("numbers", ["rmsle"], [[1.0]], [[-3.0]], sizes=1)
    with pytest.raises(DataError, match="labels of validation are not 0 and 1"):
        measured("labels", ["average_precision"], [[0.2, 0.3]], [[0.5, 0.5]], sizes=1)
    with pytest.raises(ConfigError, match="top5 needs 6 classes, and there are 4"):
        measured("classes", ["top5"], SCORES, CLASSES, classes=list("abcd"))


# In a run


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--task.metrics_too=[quadratic_kapa]"], "did you mean 'quadratic_kappa'?"),
        (["--task.metrics_too=[r2]"], "task.metrics_too[0]: r2 is of numbers, and Classification predicts classes"),
        (["--task.metrics_too=[mcc, mcc]"], "task.metrics_too[1]: mcc stands there twice"),
        (["--task.metrics_too=[{name: map_at_k, k: 0}]"], "task.metrics_too[0].k must be from 1 to 100, got 0"),
        (["--train.monitor=mcc"], "has no metric 'mcc'; --task.metrics_too=[mcc] adds it"),
        (["--task.metrics_too=[map_at_3]", "--train.monitor=map_at_5"], "has no metric 'map_at_5'"),
        (["--task=Regression", "--task.metrics_too=[mcc]"], "mcc is of classes or classes of pixels"),
        (["--config=mnist_gan", "--task.metrics_too=[mcc]"], "GAN takes no 'task.metrics_too'"),
        (["--config=poetry", "--task.metrics_too=[mcc]"], "LanguageModel takes no 'task.metrics_too'"),
    ],
)
def test_a_metric_that_does_not_fit_is_found_by_check(run, flags, told):
    given = run("check", *flags)
    assert given.code == 2 and told in given.err
    assert "Traceback" not in given.err


def test_help_lists_them(run):
    lines = run("help", "metrics").out
    assert all(name in lines for name in ("quadratic_kappa", "map_at_k", "rmsle", "roc_auc_ovr"))
    assert "from 1 to 100 [5]" in run("help", "map_at_k").out


def best_of(name):
    return json.loads(Path(f"checkpoints/{name}/status.json").read_text())["best"]


def predictions(name):
    """Probabilities and labels of a run's validation split, by torch alone."""
    from contextlib import closing

    from trainer.inference.trained import LoadedRun

    trained = LoadedRun(f"checkpoints/{name}")
    cfg, task, device = trained.load_task([])
    with closing(trained.loader(cfg, "val", task, device)) as loader, torch.no_grad():
        parts = [(task.model(x).double().softmax(1), y) for _, (x, y) in loader.epoch(0)]
    scores, truth = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return scores, truth


def test_a_run_measures_them_picks_its_best_by_one_and_val_takes_others(run):
    wanted = "--task.metrics_too=[quadratic_kappa, map_at_3, roc_auc_ovr]"
    assert run("train", "--run=a", *TOY, wanted, "--train.monitor=map_at_3").code == 0
    seen = rows("a", phase="val")
    assert max(row["map_at_3"] for row in seen) == best_of("a")
    scores, truth = predictions("a")
    best = next(row for row in seen if row["map_at_3"] == max(row["map_at_3"] for row in seen))
    kappa = metrics.cohen_kappa_score(truth, scores.argmax(1), weights="quadratic")
    assert best["quadratic_kappa"] == pytest.approx(kappa)
    assert best["roc_auc_ovr"] == pytest.approx(metrics.roc_auc_score(truth, scores, multi_class="ovr"))
    given = run("val", "checkpoints/a", "--task.metrics_too=[mcc, map_at_3]")
    assert f"mcc {metrics.matthews_corrcoef(truth, scores.argmax(1))}"[:12] in given.out
    assert "quadratic_kappa" not in given.out
    assert "map_at_3" in run("runs", "--sort=best").out
    refused = run("train", "--resume=checkpoints/a", "--task.metrics_too=[mcc]", "--max-epoch=3")
    assert refused.code == 2 and "task.metrics_too" in refused.err


def test_a_run_with_metrics_is_the_run_without(run):
    assert run("train", "--run=a", *ONE).code == 0
    assert run("train", "--run=b", *ONE, "--task.metrics_too=[mcc, top3]").code == 0
    one, two = state("a")["model"], state("b")["model"]
    assert all(torch.equal(one[name], two[name]) for name in one)
    more = {"mcc", "top3"}
    assert [{k: v for k, v in row.items() if k not in more} for row in rows("b")] == rows("a")


def test_a_smaller_number_is_better_where_it_is(run, tmp_path):
    """The best epoch, and a schedule that waits for a better one, go by the smallest mae."""
    args = ["--task.metrics_too=[mae, r2]", "--train.monitor=mae", "--max-epoch=4", *PLAIN]
    assert run("train", "linear_regression", "--run=a", *args).code == 0
    seen = [row["mae"] for row in rows("a", phase="val")]
    assert best_of("a") == min(seen) and len(set(seen)) > 1
    cfg = load("linear_regression", {"task.metrics_too": ["mae"], "train.monitor": "mae"})
    assert cfg.train.monitor == "mae"
    with pytest.raises(ConfigError, match="no metric 'maee'"):
        load("linear_regression", {"train.monitor": "maee"})


def test_numbers_are_measured_in_the_unit_of_the_file():
    """The network learns (log(1 + y) - 2) / 3, and mae is of y."""
    task = Regression(torch.nn.Identity(), outputs=[{"name": "y", "log": True, "mean": 2.0, "std": 3.0}])
    cfg = load("linear_regression", {"task.metrics_too": ["mae", "rmsle"]})
    meters = meters_of(task, cfg)
    outputs, targets = torch.rand(9, 1), torch.rand(9, 1)
    task.val_step((outputs, targets), meters)
    truth, found = (np.expm1(part.double().numpy() * 3 + 2) for part in (targets, outputs))
    assert meters["mae"].value() == pytest.approx(np.abs(truth - found).mean())
    assert meters["rmsle"].value() == pytest.approx(meters["rmse"].value(), rel=1e-5)  # of the logarithms


def test_pixels_of_a_segmentation():
    class Logits(torch.nn.Module):
        def forward(self, x):
            return torch.cat([1 - x, x], 1)

    task = Segmentation(Logits(), mask_values=[0, 255], ignored_class=9)
    cfg = load("unet", {"task.metrics_too": ["mcc", "balanced_accuracy"]})
    meters = meters_of(task, cfg)
    images, masks = torch.rand(3, 1, 8, 8), torch.randint(0, 2, (3, 8, 8))
    masks[0, :3] = 9  # without a class
    for image, mask in zip(images.split(2), masks.split(2), strict=True):
        task.val_step((image, mask), meters)
    chosen, counted = (images[:, 0] > 0.5).long(), masks != 9
    oracle = metrics.matthews_corrcoef(masks[counted], chosen[counted])
    assert meters["mcc"].value() == pytest.approx(oracle)
    assert meters["accuracy"].value() is not None


@pytest.mark.slow
def test_two_ranks_measure_as_one(tmp_path, run):
    args = [arg for arg in ONE if "--optim" not in arg and "--lr" not in arg]
    args += ["--lr=0.1", "--task.metrics_too=[quadratic_kappa, average_precision]"]
    given = two_probed(tmp_path, "train", "run=two", *args, "--batch-size=40")
    assert given.returncode == 0, given.stderr[-3000:]
    assert run("train", "--run=one", *args, "--batch-size=40").code == 0
    one, two = rows("one", phase="val")[-1], rows("two", tmp_path, "val")[-1]
    assert one["average_precision"] == pytest.approx(two["average_precision"], abs=1e-4)
    assert one["quadratic_kappa"] == pytest.approx(two["quadratic_kappa"], abs=5e-3)
