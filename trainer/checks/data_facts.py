"""How a run understood its data, in words: printed before the first step, and kept as data.txt in its folder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs import Transforms
from data._broken import broken_named
from data.loading.collate import read_sample
from data.loading.transforms import told_apart
from data.protocol import (
    batch_reader,
    draws,
    facts_of,
    files_of,
    first_sample,
    label_table_of,
    labels_of,
    meta_of,
    own_generators,
    read_one,
)
from utils.blame import place_of_attribute
from utils.randomness import random_mark, same_random_state
from utils.words import count_of, shortened

__all__ = ["FILE", "SCREEN", "data_facts", "on_screen"]

FILE = "data.txt"
SCREEN = 24  # lines that are printed; the file has all
PLAIN = Transforms()
RESIZING = ("Crop", "Resize", "Pad", "Scale")  # in names of transforms after which training may see other sizes
NAMED = 12  # classes that are listed with their counts on one line


def data_facts(name: str, splits: Mapping[str, Dataset], transform: Transforms = PLAIN) -> list[str]:
    """Return the lines about the datasets of a run by split, from the training set on; `name` is the dataset's class.

    Reads the first sample of each split. Raises the dataset's errors.
    """
    lines = [f"data: {name}"]
    for split, dataset in splits.items():
        source = facts_of(dataset).source
        lines.append(f"  {split}: {count_of(len(dataset), 'sample')}{f', {source}' if source else ''}")  # type: ignore[arg-type]
    told = [line for part in (_classes, _understood, _shared, _generators) for line in part(splits)]
    apart = told_apart(transform) if {"val", "test"} & splits.keys() else ()
    return [*lines, *(f"  {line}" for line in _unique([*told, *_samples(splits, transform), *apart]))]


def on_screen(lines: Sequence[str], where: str) -> list[str]:
    """Return at most a screenful of the lines; the last one says where the others are."""
    if len(lines) <= SCREEN:
        return list(lines)
    return [*lines[: SCREEN - 1], f"  … {len(lines) - SCREEN + 1} more lines in {where}"]


def _unique(lines: Sequence[str]) -> list[str]:
    """Return each line once: two splits of one file say the same of it."""
    return list(dict.fromkeys(lines))


def _classes(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """Yield the classes and how many samples of each split they have."""
    counts = {split: found for split, dataset in splits.items() if (found := _counts(dataset))}
    if not counts:
        return
    names = list(dict.fromkeys(name for found in counts.values() for name in found))
    told = [f"{name}: {' + '.join(f'{found.get(name, 0):,}' for found in counts.values())}" for name in names]
    more = ", …" * (len(names) > NAMED)
    several = any(label_table_of(dataset) is not None for dataset in splits.values())
    where, listed = " + ".join(counts), ", ".join(told[:NAMED])
    if several:
        yield f"{len(names)} labels, samples in {where}: {listed}{more}"
    else:
        yield f"{len(names)} classes, samples in {where}: {listed}{more}"
    for start in range(NAMED, len(names), NAMED):
        yield f"  … {', '.join(told[start : start + NAMED])}"
    for split, found in counts.items():
        if absent := [name for name in names if not found.get(name)]:
            listed = ", ".join(absent[:NAMED]) + ", …" * (len(absent) > NAMED)
            yield f"note: {split} holds no sample of {listed}"


def _counts(dataset: Dataset) -> dict[str, int]:
    """Return the number of samples of each class or label, by its name; empty for a dataset without class numbers."""
    labels, names, table = labels_of(dataset), meta_of(dataset).get("classes", []), label_table_of(dataset)
    if table is not None and len(names) == table.shape[1]:
        return dict(zip(map(str, names), table.sum(0).long().tolist(), strict=True))
    if labels is None or not len(labels) or int(labels.min()) < 0:
        return {}
    found = torch.bincount(labels, minlength=len(names)).tolist()
    return {str(names[i]) if i < len(names) else str(i): count for i, count in enumerate(found)}


def _understood(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """Yield the facts that each dataset read from its files: columns, masks, files that are left out or odd."""
    for dataset in splits.values():
        facts = facts_of(dataset)
        yield from facts.lines
        for reason, names in facts.left_out.items():
            yield f"left out: {len(names):,}, {reason}; the first is {shortened(str(names[0]), 80)}"
        for reason, names in facts.odd.items():
            yield f"odd: {len(names):,}, {reason}; the first is {shortened(str(names[0]), 80)}"


def _shared(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """Yield a line about files of both splits, such as two lists that overlap."""
    train, val = (files_of(splits[name]) if name in splits else () for name in ("train", "val"))
    known = set(train)
    if both := [file for file in val if file in known]:
        yield f"note: {len(both):,} of {count_of(len(val), 'file')} of val are in train, too; the first is {both[0]}"
        yield "  validation then tells too good a number"


def _generators(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """Yield a line for each random generator that a dataset keeps for itself."""
    for dataset in splits.values():
        for name in own_generators(dataset):
            place = place_of_attribute(dataset, name)
            told = f"{place + ': ' if place else ''}{type(dataset).__name__}.{name} is a random generator of its own"
            yield f"note: {told}: its numbers change with num_workers and after a resume; those of random, numpy.random"
            yield "  and torch, drawn by their functions in __getitem__, do not"


def _samples(splits: Mapping[str, Dataset], transform: Transforms) -> Iterator[str]:
    """Yield size and range of the first sample of each split, and which splits besides training change by chance."""
    told: dict[str, list[str]] = {}
    sizes: dict[str, str] = {}
    changing = []
    for split, dataset in splits.items():
        if len(dataset):  # type: ignore[arg-type]
            with same_random_state(), broken_named(dataset):
                before, reader = random_mark(), batch_reader(dataset)
                sample = first_sample(dataset, read_one if reader else read_sample)
                told.setdefault(_described(sample), []).append(split)
                sizes[split] = _size(sample)
                # Such a reader takes seeds even where it needs none; it knows crops, flips and sizes by their names.
                by_name = any(spec.name.startswith("Random") for spec in transform.eval)
                if split != "train" and (by_name if draws(reader) else random_mark() != before):
                    changing.append(split)
    if changing:
        yield f"note: samples of {' and '.join(changing)} are read with random numbers, and the figures hang on chance;"
        yield "  random transforms belong in data.transform.train"
    for text, names in told.items():
        yield f"a sample ({', '.join(names)}): {text}"
    yield from _other_sizes(sizes, transform)


def _other_sizes(sizes: Mapping[str, str], transform: Transforms) -> Iterator[str]:
    """Yield lines about splits whose pictures are of another size than those of training, where no crop meant that."""
    if any(part in spec.name for spec in transform.train for part in RESIZING):
        return
    trained = sizes.get("train")
    others = [f"{split} {size}" for split, size in sizes.items() if trained and size and size != trained]
    if others:
        yield f"note: sizes differ ({', '.join(others)}, train {trained}), and a network for one size fails there;"
        yield "  a Resize in data.transform makes them alike"


def _size(sample: Any) -> str:
    """Return the size of a sample's input, "" where it is no picture."""
    first = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
    return " x ".join(map(str, first.shape)) if isinstance(first, Tensor) and first.ndim == 3 else ""


def _described(part: Any) -> str:
    """Return size, type and range of a part of a sample."""
    if isinstance(part, Tensor):
        size = " x ".join(map(str, part.shape))
        return f"{str(part.dtype).removeprefix('torch.')} {size or 'number'}{_range(part)}"
    if isinstance(part, (tuple, list)) and len(part) <= 8 and not all(isinstance(x, (int, float)) for x in part):
        return ", ".join(map(_described, part))
    if isinstance(part, Mapping):
        return ", ".join(f"{key}: {_described(value)}" for key, value in part.items())
    if isinstance(part, (bool, int, float)):
        return f"{type(part).__name__} {part:g}"
    return f"{type(part).__name__} {shortened(repr(part), 40)}"


def _range(values: Tensor) -> str:
    if not values.numel() or values.is_complex():
        return ""
    low, high = float(values.min()), float(values.max())
    return f" of {low:.3g}" if low == high else f" from {low:.3g} to {high:.3g}"
