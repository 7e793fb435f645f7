"""The labels of samples: how many each class has, classes that a split lacks, ids that stand twice."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.looking.findings import Finding, Sample
from utils.words import count_of

__all__ = ["class_weights", "label_findings"]

UNEQUAL = 10  # times more samples in one class than in another
FEW = 10  # training samples of a class

Splits = Mapping[str, Sequence[Sample]]


def label_findings(splits: Splits, classes: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings about the labels of all splits."""
    every = {split: Counter(s.label for s in samples if s.label is not None) for split, samples in splits.items()}
    counts = {split: found for split, found in every.items() if found}
    yield from _twice(splits)
    train = counts.get("train")
    if train is None:
        return
    for split, found in counts.items():
        if unknown := [name for name in found if name not in train]:
            told = f"in {split} and not in train: {_counted(unknown, found)}"
            remedy = "move some to train, or data.dataset.classes names the classes"
            yield Finding("class in one split", split, len(unknown), told, unknown, True, remedy)
        if absent := [name for name in train if name not in found]:
            told = f"in train and not in {split}: {_counted(absent, train)}"
            yield Finding("class in one split", split, len(absent), told, absent, remedy="data.dataset.seed, splits")
    if empty := [name for name in classes if name not in train]:
        yield Finding("empty class", "train", len(empty), f"no sample of {_listed(empty)}", empty)
    (common, most), (_, least) = train.most_common(1)[0], train.most_common()[-1]
    if few := [name for name, count in train.items() if count < min(FEW, most)]:
        told = f"fewer than {FEW} of a class: {_counted(few, train)}"
        yield Finding("few samples", "train", len(few), told, few)
    if most >= UNEQUAL * least:
        rare = [name for name, count in train.items() if most >= UNEQUAL * count]
        told = f"a tenth of the {most:,} samples of {common}, or fewer: {_counted(rare, train)}"
        yield Finding(
            "balance", "train", len(rare), told, rare, remedy="data.sampler=ClassBalanced, or weights of classes"
        )


def _twice(splits: Splits) -> Iterator[Finding]:
    """Yield ids that stand twice in a split; with two labels they spoil a run."""
    for split, samples in splits.items():
        labels: dict[str, set[str | None]] = {}
        for sample in samples:
            labels.setdefault(sample.name, set()).add(sample.label)
        counts = Counter(sample.name for sample in samples)
        twice = [name for name, count in counts.items() if count > 1]
        if differ := [name for name in twice if len(labels[name]) > 1]:
            yield Finding(
                "doubled id",
                split,
                len(differ),
                f"{count_of(len(differ), 'id')} twice, with different labels",
                differ,
                True,
            )
        if same := [name for name in twice if len(labels[name]) == 1]:
            yield Finding(
                "doubled id",
                split,
                len(same),
                f"{count_of(len(same), 'id')} twice",
                same,
                remedy="remove one of the two",
            )


def _counted(names: Sequence[str], counts: Mapping[Any, int]) -> str:
    return _listed([f"{name} {counts[name]:,}" for name in names])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:6]) + ", …" * (len(words) > 6)


def class_weights(samples: Sequence[Sample], classes: Sequence[str]) -> list[float]:
    """Return a weight for each class so that all weigh the same in sum; empty unless each has a sample."""
    counts = Counter(sample.label for sample in samples)
    if len(classes) < 2 or not all(counts[name] for name in classes):
        return []
    return [sum(counts.values()) / len(classes) / counts[name] for name in classes]
