"""Which files of a sample in a shard are its picture and its label, and the class numbers of the labels."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from data._classes import alike
from data._folders import SUFFIXES
from data._shard_index import NO_LABEL, Index, Labels, labels_in
from utils.errors import DataError

__all__ = ["label_ending", "numbered", "picture_endings"]

NONE = "none"  # the label of samples whose files hold no class
LARGEST = 1_000_000  # classes


def picture_endings(shards: Sequence[Index], image: Sequence[str] | None) -> list[str]:
    """Return the endings of the pictures: those that are asked for, or all that are a picture's.

    Raises DataError where no sample has one.
    """
    there = _endings(shards)
    asked = [image] if isinstance(image, str) else image
    wanted = [ending.lower().lstrip(".") for ending in asked or ()]
    found = [ending for ending in there if (ending in wanted if wanted else f".{ending}".endswith(SUFFIXES))]
    if not found:
        told = f"{', '.join(list(there)[:8])}" if there else "no samples at all"
        raise DataError(
            f"{shards[0].path}{' …' * (len(shards) > 1)}: no pictures ({', '.join(wanted or SUFFIXES)}) in these "
            f"shards, which hold {told}; set data.dataset.image, as --data.dataset.image=[jpg]"
        )
    return found


def label_ending(shards: Sequence[Index], label: str | None) -> str | None:
    """Return which files hold the labels; None for samples without labels. Raises DataError for an open question."""
    there = _endings(shards)
    if label is not None:
        ending = label.partition(":")[0]
        if label != NONE and ending not in there:
            told = ", ".join(list(there)[:8])
            raise DataError(f"{shards[0].path}: no files .{ending} for data.dataset.label={label}; there are {told}")
        return None if label == NONE else label
    found = next((ending for ending in ("cls", "txt") if ending in there), None)
    if found is None and "json" in there:
        raise DataError(
            f"{shards[0].path}: which value of its json files is the label? {_keys(shards)}; set data.dataset.label, "
            f"as --data.dataset.label=json:KEY, or {NONE}"
        )
    if found == "txt":
        _refuse_texts(shards)
    return found


def numbered(
    shards: Sequence[Index], label: str | None, classes: Sequence[str] | None, split: str
) -> tuple[list[np.ndarray] | None, list[str]]:
    """Return the class number of each sample, int64 [samples] for each shard, and the names of the classes.

    A test's samples may have no label: then there are none. Raises DataError for a sample that lacks one, for a number
    without a class, and for a name that is none of `classes`.
    """
    if label is None:
        return None, list(classes or [])
    found = labels_in(shards, label)
    lacking = [int((one.codes == NO_LABEL).sum()) for one in found]
    if any(lacking) and split == "test":
        return None, list(classes or [])
    for shard, one, count in zip(shards, found, lacking, strict=True):
        if count:
            key = shard.key(int(np.argmax(one.codes == NO_LABEL)))
            raise DataError(f"{shard.path}: {count:,} of {shard.samples:,} samples have no {label}, the first {key}")
    names, of = _classes(shards, found, label, classes)
    return [np.array([of[value] for value in one.values] or [0], np.int64)[one.codes] for one in found], names


def _classes(
    shards: Sequence[Index], found: Sequence[Labels], label: str, classes: Sequence[str] | None
) -> tuple[list[str], dict[Any, int]]:
    """Return the names of the classes, and the class number of each label."""
    values = {value for one in found for value in one.values}
    numbers = [value for value in values if isinstance(value, int)]
    if numbers and len(numbers) < len(values):
        text = min(value for value in values if not isinstance(value, int))
        raise _wrong(shards, found, text, label, "is a text, and others are numbers")
    if wrong := [number for number in numbers if not 0 <= number < LARGEST]:
        raise _wrong(shards, found, wrong[0], label, "is no number of a class; they begin at 0")
    if not classes and (same := alike(sorted(values - {*numbers}))):
        raise DataError(
            f"{shards[0].path}: the labels {same} look like one class written in several ways; make them one, or name "
            "all classes in data.dataset.classes"
        )
    names = list(classes or (range(max(numbers, default=-1) + 1) if numbers else sorted(values)))
    of = {number: number for number in range(len(names))} if numbers else {name: i for i, name in enumerate(names)}
    if unknown := sorted(values - of.keys()):
        few = ", ".join(map(str, names[:5])) + ", …" * (len(names) > 5)
        raise _wrong(shards, found, unknown[0], label, f"is none of the {len(names)} classes ({few})")
    return list(map(str, names)), of


def _wrong(shards: Sequence[Index], found: Sequence[Labels], value: Any, label: str, reason: str) -> DataError:
    """Return the error for a label, with the first sample that has it."""
    shard, one = next(pair for pair in zip(shards, found, strict=True) if value in pair[1].values)
    key = shard.key(int(np.argmax(one.codes == one.values.index(value))))
    return DataError(f"{shard.path}: the sample {key} has the {label} '{value}', which {reason}; mend it")


def _endings(shards: Sequence[Index]) -> Counter[str]:
    return sum((Counter(shard.counts()) for shard in shards), Counter[str]())


def _refuse_texts(shards: Sequence[Index]) -> None:
    """Raise DataError where the texts differ from sample to sample, as captions do: they name no classes."""
    found, samples = labels_in(shards, "txt"), sum(shard.samples for shard in shards)
    texts = {value for one in found for value in one.values}
    if len(texts) * 2 > samples:
        raise DataError(
            f"{shards[0].path}: its txt files hold {len(texts):,} texts in {samples:,} samples: are these classes? If "
            f"so, set --data.dataset.label=txt; --data.dataset.label={NONE} reads no labels"
        )


def _keys(shards: Sequence[Index]) -> str:
    """Return in words which values the first JSON file has."""
    for shard in shards:
        for file in shard.files(["json"]).tolist()[:1]:
            try:
                return f"the first one holds {', '.join(list(json.loads(shard.read(file)))[:12])}"
            except (ValueError, TypeError):
                break
    return "none could be read"
