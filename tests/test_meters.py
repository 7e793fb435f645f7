"""Meters against scikit-learn, whatever the batches, the precision and the process the samples came from."""

import io
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics

from utils.meters import AUC, F1, Accuracy, Confusion, LogLoss, Mean

CLASSES = 4
MAKERS = {
    "confusion": lambda: Confusion(CLASSES),
    "accuracy": Accuracy,
    "top2": lambda: Accuracy(k=2),
    "f1": lambda: F1(CLASSES),
    "f1_positive": lambda: F1(CLASSES, positive=1),
    "logloss": LogLoss,
    "auc": AUC,
}
SIZES = [(1, 5, 32, 7, 1), (64, 64, 1), (3,), (250, 1, 1, 130)]  # batches; several end with a batch of one


def draw(n, classes=CLASSES, seed=0, ties=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator) + torch.nn.functional.one_hot(targets, classes)
    if ties:
        logits = (logits * 2).round() / 2
    return logits.to(dtype), targets


def feed(meter, logits, targets, sizes=None):
    for x, y in zip(logits.split(sizes or len(logits)), targets.split(sizes or len(targets)), strict=True):
        meter.add(x, y)
    return meter


def reload(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def same(a, b):
    return a is b is None or np.allclose(np.asarray(a, dtype=float), np.asarray(b, dtype=float), rtol=1e-12, atol=0)


def oracle(name, logits, targets):
    y, predictions = targets.numpy(), logits.float().argmax(1).numpy()
    probabilities = logits.double().softmax(1).numpy()
    labels = list(range(CLASSES))
    if name == "confusion":
        return metrics.confusion_matrix(y, predictions, labels=labels)
    if name == "accuracy":
        return metrics.accuracy_score(y, predictions)
    if name == "f1":
        return metrics.f1_score(y, predictions, average="macro")
    if name == "f1_positive":
        return metrics.f1_score(y, predictions, labels=[1], average="macro")
    if name == "logloss":
        return metrics.log_loss(y, probabilities, labels=labels)
    if name == "auc":
        return metrics.roc_auc_score(y, probabilities, multi_class="ovr")
    return metrics.top_k_accuracy_score(y, probabilities, k=2, labels=labels)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("sizes", SIZES[:2] + SIZES[3:])
def test_agrees_with_scikit_learn(name, sizes):
    logits, targets = draw(sum(sizes), seed=len(sizes), ties=name != "top2")  # of equal scores sklearn takes the last
    value = feed(MAKERS[name](), logits, targets, sizes).value()
    assert np.allclose(value, oracle(name, logits, targets), rtol=1e-9)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("sizes", SIZES)
def test_batches_do_not_matter(name, sizes):
    logits, targets = draw(sum(sizes), seed=7)
    assert same(feed(MAKERS[name](), logits, targets, sizes).value(), feed(MAKERS[name](), logits, targets).value())


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("parts", [2, 3])
def test_merged_parts_are_the_whole(name, parts):
    logits, targets = draw(101, seed=3)
    merged = MAKERS[name]()
    for x, y in zip(logits.chunk(parts), targets.chunk(parts), strict=True):
        merged.merge(reload(feed(MAKERS[name](), x, y).state()))
    merged.merge(reload(MAKERS[name]().state()))  # a process that saw nothing
    assert same(merged.value(), feed(MAKERS[name](), logits, targets).value())


@pytest.mark.parametrize("name", MAKERS)
def test_continues_from_a_stored_state(name):
    logits, targets = draw(60, seed=5)
    first = feed(MAKERS[name](), logits[:23], targets[:23])
    second = MAKERS[name]()
    second.merge(reload(first.state()))
    before = first.state()
    feed(second, logits[23:], targets[23:])
    assert same(second.value(), feed(MAKERS[name](), logits, targets).value())
    assert all(np.array_equal(before[key], first.state()[key]) for key in before)  # nothing is shared


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions_and_gradients(name, dtype):
    logits, targets = draw(40, seed=2, dtype=dtype)
    value = feed(MAKERS[name](), logits.clone().requires_grad_(), targets).value()
    assert np.allclose(value, oracle(name, logits, targets), rtol=1e-9) or name == "top2"


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_added_is_undefined(name):
    meter = MAKERS[name]()
    meter.add(torch.empty(0, CLASSES), torch.empty(0, dtype=torch.int64))
    assert (meter.value() == 0).all() if name == "confusion" else meter.value() is None


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "outputs, targets, words",
    [
        (torch.randn(3, CLASSES), torch.tensor([0, 1, CLASSES]), "targets must be from 0 to 3, but run from 0 to 4"),
        (torch.randn(3, CLASSES), torch.tensor([0, -1, 1]), "targets must be from 0 to 3, but run from -1 to 1"),
        (torch.randn(3, CLASSES), torch.tensor([0, 1]), "3 outputs do not go with 2 targets"),
        (torch.randn(3, CLASSES), torch.tensor([[0], [1], [2]]), r"targets must be .* \[N\], not \[3, 1\]"),
        (torch.randn(3, CLASSES), torch.tensor([0.0, 1.0, 1.0]), "targets must be whole numbers, not torch.float32"),
        (torch.randn(3, CLASSES, 2), torch.tensor([0, 1, 1]), r"not \[3, 4, 2\]"),
    ],
)
def test_bad_input_is_refused_in_words(name, outputs, targets, words):
    with pytest.raises(ValueError, match=words):
        MAKERS[name]().add(outputs, targets)


def test_mean_weights_by_samples():
    mean = Mean()
    mean.add(2.0, 30)
    mean.add(torch.tensor([5.0], dtype=torch.bfloat16, requires_grad=True), 10)
    mean.add(123.0, 0)
    assert mean.value() == pytest.approx(2.75)
    assert mean.state() == {"sum": 110.0, "n": 40, "squares": 67.5}
    assert Mean().value() is None
    other = Mean()
    other.merge(reload(mean.state()))
    other.merge(Mean().state())
    other.add(2.75, 1)
    assert other.value() == pytest.approx(2.75)


@pytest.mark.parametrize("sizes", SIZES)
def test_mean_of_any_batches(sizes):
    values = torch.randn(sum(sizes), dtype=torch.float64) - 0.3
    mean = Mean()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in values.split(sizes):
            mean.add(part.mean(), len(part))
    assert mean.value() == pytest.approx(float(values.mean()), rel=1e-12)


def test_mean_is_quiet_about_torchnets_deviation():
    mean = Mean()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean.add(1.0, 10)
        mean.add(0.08, 10)
        mean.add(float("nan"), 3)
    assert np.isnan(mean.value())


@pytest.mark.parametrize("value, n", [(torch.zeros(2), 2), (1.0, -1)])
def test_mean_refuses(value, n):
    with pytest.raises(ValueError, match=r"shape|samples"):
        Mean().add(value, n)


def test_confusion_rows_are_the_truth():
    meter = Confusion(3)
    meter.add(torch.tensor([2, 2, 0]), torch.tensor([0, 0, 1], dtype=torch.uint8))
    assert meter.value().tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]
    meter.value()[:] = 9
    assert meter.value().sum() == 3


def test_confusion_refuses():
    with pytest.raises(ValueError, match=r"scores of shape \[2, 3\] for 4 classes"):
        Confusion(4).add(torch.randn(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="predictions must be from 0 to 3"):
        Confusion(4).add(torch.tensor([4, 0]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="predictions must be whole numbers"):
        Confusion(2).add(torch.tensor([0.3, 0.9]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="of 3 classes into 2"):
        Confusion(2).merge(Confusion(3).state())
    with pytest.raises(ValueError, match="at least one class"):
        Confusion(0)


def test_confusion_counts_past_32_bits():
    meter = Confusion(2)
    meter.merge({"counts": torch.tensor([[2**31, 0], [0, 1]])})
    meter.add(torch.tensor([0]), torch.tensor([0]))
    assert meter.value()[0, 0] == 2**31 + 1


def test_accuracy_of_ties_is_that_of_argmax():
    logits, targets = torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    assert feed(Accuracy(), logits, targets).value() == pytest.approx(1 / 3)
    assert feed(Accuracy(k=2), logits, targets).value() == pytest.approx(2 / 3)
    assert feed(Accuracy(k=3), logits, targets).value() == 1


def test_accuracy_details():
    meter = Accuracy()
    meter.add(torch.tensor([1, 0, 3]), torch.tensor([1, 0, 2]))  # predictions instead of scores
    assert meter.value() == pytest.approx(2 / 3)
    nan = torch.tensor([[float("nan"), 1.0], [0.0, float("nan")]])
    assert feed(Accuracy(), nan, torch.tensor([0, 0])).value() == 0
    with pytest.raises(ValueError, match="top 5 of 4 classes"):
        Accuracy(k=5).add(*draw(3))
    with pytest.raises(ValueError, match="at least 1"):
        Accuracy(k=0)


def test_f1_of_one_class_and_of_absent_classes():
    predictions, targets = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    for positive in (0, 1):
        meter = F1(2, positive=positive)
        meter.add(predictions, targets)
        assert meter.value() == pytest.approx(metrics.f1_score(targets, predictions, pos_label=positive))
    macro = F1(9)  # seven of the nine never occur
    macro.add(predictions, targets)
    assert macro.value() == pytest.approx(metrics.f1_score(targets, predictions, average="macro"))
    absent = F1(3, positive=2)
    absent.add(predictions, targets)
    assert absent.value() is None
    with pytest.raises(ValueError, match="positive class 2"):
        F1(2, positive=2)


@pytest.mark.parametrize("ties", [True, False])
def test_auc_of_two_classes(ties):
    logits, targets = draw(300, classes=2, seed=4, ties=ties)
    scores = logits[:, 1] - logits[:, 0]
    expected = metrics.roc_auc_score(targets, scores)
    assert feed(AUC(), logits, targets, (128, 128, 43, 1)).value() == pytest.approx(expected, rel=1e-12)
    assert feed(AUC(), scores, targets, (299, 1)).value() == pytest.approx(expected, rel=1e-12)


def test_auc_of_saturated_logits_has_no_ties():
    logits = torch.tensor([[0.0, 50.0], [0.0, 60.0], [0.0, 70.0]])
    assert feed(AUC(), logits, torch.tensor([0, 1, 1])).value() == 1


def test_auc_is_undefined_or_partial_where_classes_are_missing():
    assert feed(AUC(), torch.randn(5), torch.ones(5, dtype=torch.int64)).value() is None
    logits, targets = draw(80, classes=3, seed=6)
    kept = targets != 2
    probabilities = logits[kept].double().softmax(1)
    by_hand = np.mean([metrics.roc_auc_score(targets[kept] == c, probabilities[:, c]) for c in (0, 1)])
    assert feed(AUC(), logits[kept], targets[kept]).value() == pytest.approx(by_hand)
    assert np.isnan(feed(AUC(), torch.tensor([float("nan"), 1.0]), torch.tensor([0, 1])).value())


def test_auc_refuses():
    with pytest.raises(ValueError, match="from 0 to 1"):
        AUC().add(torch.randn(2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"not \[2, 1\]"):
        AUC().add(torch.randn(2, 1), torch.tensor([0, 1]))
    meter = feed(AUC(), *draw(4))
    with pytest.raises(ValueError, match="do not go with"):
        meter.add(torch.randn(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="do not go with"):
        meter.merge(feed(AUC(), torch.randn(2), torch.tensor([0, 1])).state())


def test_auc_keeps_its_own_copy():
    scores, targets = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    meter = feed(AUC(), scores, targets)
    scores.fill_(0)
    assert meter.value() == 1


def test_log_loss_of_confident_logits():
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert feed(LogLoss(), logits, torch.tensor([0, 0])).value() == pytest.approx(500)


@pytest.mark.parametrize("torchnet", [True, False])
def test_a_mean_has_the_deviation_of_numpy(torchnet, monkeypatch):
    """One by one it is that of torchnet and of numpy; of batches, that of their means, each as often as its samples."""
    from torchnet.meter import AverageValueMeter

    from utils.meters import counting

    monkeypatch.setattr(counting, "installed", lambda name: torchnet)
    values = np.random.default_rng(0).normal(1e3, 0.5, 200)
    mean, book = Mean(), AverageValueMeter()
    assert mean.std is None and mean.mean is None
    for value in values:
        mean.add(float(value), 1)
        book.add(float(value))
    assert mean.std == pytest.approx(np.std(values, ddof=1), rel=1e-9) == pytest.approx(book.value()[1], rel=1e-6)
    assert mean.mean == mean.value() == pytest.approx(values.mean(), rel=1e-12)
    sizes = np.random.default_rng(1).integers(0, 9, 200)
    parts = [Mean(), Mean(), Mean()]
    for i, (value, n) in enumerate(zip(values, sizes, strict=True)):
        parts[i % 3].add(float(value), int(n))
    whole = Mean()
    for part in parts:
        whole.merge(reload(part.state()))
    repeated = np.repeat(values, sizes)
    assert whole.std == pytest.approx(np.std(repeated, ddof=1), rel=1e-9)
    assert whole.mean == pytest.approx(repeated.mean(), rel=1e-12)
