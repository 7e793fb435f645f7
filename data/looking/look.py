"""Look at all samples of the splits, and collect the findings."""

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._folders import list_images
from data._stores import Pixels
from data.looking.duplicates import copies, duplicates, leaks, two_labels
from data.looking.files import look_at
from data.looking.findings import SMALL, SMALL_TABLE, Finding, Look, Sample
from data.looking.labels import class_weights, label_findings
from data.looking.masks import Counted, count_pixels, mask_findings
from data.looking.pictures import odd_files, statistics, unreadable
from data.looking.progress import Progress
from data.looking.tables import hashes, table_findings
from data.protocol import cells_of, files_of, ids_of, labels_of, masks_of, meta_of, read_one, store_of, takes_exclude
from utils.errors import DataError, LinesError
from utils.randomness import same_random_state
from utils.words import count_of

__all__ = ["Asked", "Looked", "look"]

MOST = 20_000  # samples of a split of another kind, which are made one by one
OTHERS = "other files"  # pictures beside a split that cannot be built


@dataclass(frozen=True)
class Asked:
    """The data of a config: the datasets, the errors of the splits without one, and the keys that matter here."""

    splits: Mapping[str, Dataset]
    refused: Mapping[str, DataError]
    root: str | None  # looked through for pictures where a split cannot be built
    keys: Mapping[str, Any]  # arguments of the dataset in the config
    own_test: bool  # whether the config names a folder for the split test


@dataclass
class Looked:
    """The result of a look."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)  # by path
    findings: list[Finding] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    memory: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    read: int = 0  # files that were read now, and not known from an earlier look


def look(asked: Asked, folder: Path, progress: Progress) -> Looked:
    """Look at every sample. `folder` keeps what is known of files; raises StorageError when it cannot be written."""
    found = Looked(findings=[*_refusals(asked.refused)])
    files = {split: _pictures(dataset) for split, dataset in asked.splits.items()}
    known = {path for paths in files.values() for path in paths}
    if asked.refused.keys() - {*asked.splits, "a sample"} and asked.root and (others := _others(asked.root, known)):
        files[OTHERS] = others
    every = [path for paths in files.values() for path in paths]
    if every:
        found.looks, found.read = look_at(every, folder, progress)
    for dataset in asked.splits.values():  # one whose first picture is broken tells no classes
        found.classes = found.classes or list(map(str, _meta(dataset).get("classes", [])))
    for split, dataset in asked.splits.items():
        found.samples[split] = [*_samples(split, dataset, files[split], found, progress)]
    if OTHERS in files:
        good = [path for path in files[OTHERS] if not found.looks[path].error]
        found.samples[OTHERS] = [
            _of_file(OTHERS, os.path.relpath(path, asked.root), None, path, found.looks[path]) for path in good
        ]
    told: set[str] = set()  # without a folder of its own the split test has the files of the others
    for split, paths in files.items():
        looks = {path: found.looks[path] for path in paths if path not in told}
        told.update(paths)
        ids = [] if split == OTHERS else list(map(str, ids_of(asked.splits[split])))
        names = dict(zip(paths, ids, strict=True)) if len(ids) == len(paths) else {}
        found.findings += [*unreadable(split, looks, names), *odd_files(split, looks)]
    _judge(asked, found)
    _measure(asked, files, found, progress)
    if not any(map(takes_exclude, asked.splits.values())):
        found.findings = [_without_exclude(finding) for finding in found.findings]
    found.findings.sort(key=lambda finding: not finding.spoils)
    return found


def _without_exclude(finding: Finding) -> Finding:
    """Return the finding without the key that this dataset does not have."""
    kept = [part for part in finding.remedy.split(", or ") if "data.dataset.exclude" not in part]
    return dataclasses.replace(finding, remedy=", or ".join(kept))


def _meta(dataset: Dataset) -> dict[str, Any]:
    try:
        return meta_of(dataset)
    except DataError:  # of the first picture, which is looked at anyway
        return {}


def _refusals(refused: Mapping[str, DataError]) -> Iterator[Finding]:
    """Yield the errors for which splits cannot be built, each once; of a text file a finding for each kind of fault."""
    by_error: dict[str, list[str]] = {}
    for split, error in refused.items():
        by_error.setdefault(str(error), []).append(split)
    for text, splits in by_error.items():
        where, error = " and ".join(splits), refused[splits[0]]
        if not isinstance(error, LinesError):
            yield Finding("refused", where, 1, text, [], True)
            continue
        kinds: dict[str, list[tuple[int, str]]] = {}
        for line, message in error.found:
            kinds.setdefault(re.sub(r"'.*?'|[\d,]*\d", "", message), []).append((line, message))
        for faults in kinds.values():
            names = [f"{error.path}:{line}: {message}" for line, message in faults]
            told = f"{count_of(len(faults), 'line')} of {error.path}"
            yield Finding("refused lines", where, len(faults), told, names, True)


def _pictures(dataset: Dataset) -> list[str]:
    masks = {path for path in masks_of(dataset)[0] if path}
    return [path for path in files_of(dataset) if path not in masks]


def _others(root: str, known: set[str]) -> list[str]:
    try:
        return [path for name in list_images(root, nested=True) if (path := f"{root}/{name}") not in known]
    except DataError:
        return []


# Samples


def _samples(split: str, dataset: Dataset, files: Sequence[str], found: Looked, progress: Progress) -> Iterator[Sample]:
    """Yield the samples of a split that can be read, with a hash of each."""
    names, labels = [str(name) for name in ids_of(dataset)], _labels(dataset, found.classes)
    if files and len(files) == len(names):
        for name, label, path in zip(names, labels, files, strict=True):
            if not found.looks[path].error:
                yield _of_file(split, name, label, path, found.looks[path])
        return
    if (cells := cells_of(dataset)) is not None:
        digests = hashes(cells)
    elif isinstance(store := store_of(dataset), Pixels):
        digests = [_digest(picture.tobytes()) for picture in store.values.cpu().numpy()]
        scale = 255 // store.white if store.white else 1
        found.memory |= {(split, name): store.values[i] * scale for i, name in enumerate(names)}
    else:
        digests = [*progress.of(_made(dataset, split, found), min(len(names), MOST), split)]
    for name, label, digest in zip(names, labels, digests, strict=False):
        yield Sample(split, name, label, digest)


def _of_file(split: str, name: str, label: str | None, path: str, look: Look) -> Sample:
    return Sample(split, name, label, look.digest, path, look)


def _labels(dataset: Dataset, classes: Sequence[str]) -> list[str | None]:
    labels = labels_of(dataset)
    if labels is None:
        return [None] * len(dataset)  # type: ignore[arg-type]
    return [classes[label] if 0 <= label < len(classes) else str(label) for label in labels.tolist()]


def _made(dataset: Dataset, split: str, found: Looked) -> Iterator[str]:
    """Yield a hash of each sample of a dataset without files, as it is made; one of its own for a refused one."""
    refused: dict[str, str] = {}
    for index in range(min(len(dataset), MOST)):  # type: ignore[arg-type]
        try:
            with same_random_state():
                digest = _digest(_bytes(read_one(dataset, index)))
        except DataError as error:
            digest, refused[str(index)] = f"{split} {index}", str(error)
        yield digest
    if refused:
        found.findings.append(Finding("refused", split, len(refused), next(iter(refused.values())), [*refused], True))


def _bytes(part: Any) -> bytes:
    if isinstance(part, Tensor):
        return part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(part, (tuple, list)):
        return b"\0".join(map(_bytes, part))
    return part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode("utf-8", "replace")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# Findings


def _judge(asked: Asked, found: Looked) -> None:
    """Add the findings about copies, labels and columns."""
    totals = {split: len(samples) for split, samples in found.samples.items()}
    twins = copies([sample for samples in found.samples.values() for sample in samples], list(totals))
    cells = {split: found_cells for split, one in asked.splits.items() if (found_cells := cells_of(one)) is not None}
    excuses = {}
    if asked.keys.get("val_fraction") == 0:
        excuses["val"] = "as data.dataset.val_fraction=0 asks for"
    pictures = bool(found.looks or found.memory)
    of_test = {sample.digest for sample in found.samples.get("test", ())}
    whole = all(sample.digest in of_test for sample in found.samples.get("train", ()))
    tables = {split: one.table.path for split, one in cells.items()}  # its test split has a file of its own
    if not asked.own_test and tables.get("test") == tables.get("train") and (whole or not (pictures or cells)):
        excuses["test"] = "since no folder is named for the test (data.test_data_root)"
    train = Counter(sample.digest for sample in found.samples.get("train", ()))
    if not pictures and len(train) < 0.9 * sum(train.values()):
        excuses = dict.fromkeys(totals, "which may be chance: samples repeat within train, too")
    small = SMALL_TABLE if cells else SMALL
    found.findings += [*leaks(twins, totals, excuses, small), *two_labels(twins, totals), *duplicates(twins, totals)]
    found.findings += [*label_findings(found.samples, found.classes), *table_findings(cells)]


def _measure(asked: Asked, files: Mapping[str, Sequence[str]], found: Looked, progress: Progress) -> None:
    """Compute mean and deviation of the training pictures, and the weights of the classes; look at the masks."""
    for split, dataset in asked.splits.items():
        masks, table = masks_of(dataset)
        if not table or not any(masks):
            continue
        counted = count_pixels(files[split], masks, table, progress)
        named = bool({"classes", "mask_values"} & asked.keys.keys())
        found.findings += mask_findings(split, counted, found.classes, named)
        if split == "train":
            found.weights = _pixel_weights(counted, len(found.classes))
    if (train := asked.splits.get("train")) is None:
        return
    store = store_of(train)
    if isinstance(store, Pixels):
        values = store.values.double().div(store.white).transpose(0, 1).flatten(1)
        found.mean, found.std = values.mean(1).tolist(), values.std(1, correction=0).tolist()
    elif files["train"]:
        found.mean, found.std = statistics([found.looks[path] for path in files["train"]])
        if _meta(train).get("in_channels") == 1:
            found.mean, found.std = found.mean[:1], found.std[:1]
    found.weights = found.weights or class_weights(found.samples["train"], found.classes)


def _pixel_weights(counted: Sequence[Counted], classes: int) -> list[float]:
    pixels = np.sum([one.pixels for one in counted], 0)[:classes]
    return (pixels.sum() / classes / pixels).tolist() if len(pixels) and pixels.all() else []
