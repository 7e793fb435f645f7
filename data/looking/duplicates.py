"""Samples that are equal by a hash of their content, and pictures that look the same by their outlines."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from data.looking.findings import SMALL, Finding, Look, Sample, Twin, share
from utils.words import count_of

__all__ = ["copies", "duplicates", "leaks", "two_labels"]

NEAR = 3  # bits of 64 in which the outlines of like pictures differ; one of four parts of 16 bits is then equal
BLOCK = 1024  # hashes that are compared at once with all of their bucket
ALIKE = 0.985  # the least correlation of like thumbnails
APART = 10.0  # the largest mean difference of their grey values
CONTRAST = 6.0  # the least deviation of a thumbnail: flat pictures are alike without being copies

Groups = Mapping[str, list[Sample]]  # by digest


def copies(samples: Sequence[Sample], order: Sequence[str]) -> list[Twin]:
    """Return pairs of samples that are equal, then pairs that look the same; the first one is of the earlier split.

    Of each group of copies a split's first one stands for the others.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.digest, []).append(sample)
    twins: list[Twin] = []
    for group in groups.values():
        if len(group) > 1:
            parts = _by_split(group, order)
            twins += [Twin(part[0], other, False) for part in parts.values() for other in part[1:]]
            pairs = combinations(parts.values(), 2)
            twins += [Twin(one[0], other, False) for one, others in pairs for other in others]
    for one, other in _near(groups):
        twins += _between(_by_split(groups[one], order), _by_split(groups[other], order), order)
    return twins


def _by_split(group: Sequence[Sample], order: Sequence[str]) -> dict[str, list[Sample]]:
    parts: dict[str, list[Sample]] = {split: [] for split in order}
    for sample in group:
        parts[sample.split].append(sample)
    return {split: part for split, part in parts.items() if part}


def _between(
    left: Mapping[str, list[Sample]], right: Mapping[str, list[Sample]], order: Sequence[str]
) -> Iterator[Twin]:
    """Yield the pairs of two groups that look the same."""
    for a, ones in left.items():
        for b, others in right.items():
            first, second = (ones, others) if order.index(a) <= order.index(b) else (others, ones)
            yield from (Twin(first[0], other, True) for other in second)


def _near(groups: Groups) -> list[tuple[str, str]]:
    """Return the digests of pictures that look the same."""
    looks = {digest: look for digest, group in groups.items() if (look := group[0].look) is not None}
    digests = [digest for digest, look in looks.items() if look.outline.bit_count() not in (0, 64)]
    if len(digests) < 2:
        return []
    pairs = _close(np.asarray([looks[digest].outline for digest in digests], np.uint64))
    thumbs: dict[int, np.ndarray] = {}
    for number in np.unique(pairs).tolist():
        thumbs[number] = _thumb(looks[digests[number]])
    return [(digests[a], digests[b]) for a, b in pairs.tolist() if _alike(thumbs[a], thumbs[b])]


def _close(hashes: np.ndarray) -> np.ndarray:
    """Return the positions of pairs of 64-bit hashes that differ in NEAR bits or fewer, int64 [P, 2]."""
    found = [np.empty((0, 2), np.int64)]
    for part in range(4):
        bits = hashes >> np.uint64(16 * part) & np.uint64(0xFFFF)
        order = np.argsort(bits, kind="stable")
        ends = np.flatnonzero(np.diff(bits[order])) + 1
        found += [pairs for bucket in np.split(order, ends) if len(bucket) > 1 for pairs in _in_bucket(hashes, bucket)]
    return np.unique(np.concatenate(found), axis=0)


def _in_bucket(hashes: np.ndarray, bucket: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(bucket), BLOCK):
        block = bucket[start : start + BLOCK]
        differ = np.bitwise_count(hashes[block, None] ^ hashes[bucket[None, start:]])
        rows, columns = np.nonzero(differ <= NEAR)
        kept = rows < columns  # each pair once: both count from `start`
        pairs = np.stack([block[rows[kept]], bucket[start:][columns[kept]]], 1)
        yield np.sort(pairs, axis=1)


def _thumb(look: Look) -> np.ndarray:
    return np.frombuffer(base64.b64decode(look.thumb), np.uint8).astype(np.float32)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    if min(one.std(), other.std()) < CONTRAST or np.abs(one - other).mean() > APART:
        return False
    return float(np.corrcoef(one, other)[0, 1]) >= ALIKE


# Findings


def duplicates(twins: Sequence[Twin], totals: Mapping[str, int]) -> Iterator[Finding]:
    """Yield notes about copies within a split."""
    for split in totals:
        own = [twin for twin in twins if twin.one.split == twin.other.split == split and not _same_file(twin)]
        for near in (False, True):
            if found := _unique([twin for twin in own if twin.near == near]):
                what = "looking the same as another one" if near else "equal to another one in every bit"
                told = f"{len(found):,} of {count_of(totals[split], 'sample')} {what}"
                remedy = "remove one of each pair, or data.dataset.exclude names them"
                kind = "near duplicates" if near else "duplicates"
                yield Finding(kind, split, len(found), told, _names(found), remedy=remedy, twins=found)


def leaks(
    twins: Sequence[Twin], totals: Mapping[str, int], excuses: Mapping[str, str], small: float = SMALL
) -> Iterator[Finding]:
    """Yield a finding for each pair of splits that share samples; `excuses` say why those of a split may do so.

    It spoils a run if the training set holds the part `small` of the other split, or more.
    """
    for one, other in combinations(totals, 2):
        found = _unique([twin for twin in twins if (twin.one.split, twin.other.split) == (one, other)])
        if not found:
            continue
        near = sum(twin.near for twin in found)
        part = share(len(found), totals[other])
        told = f"{len(found):,} of {count_of(totals[other], 'sample')} of {other} ({part}) also in {one}"
        told += f", {near:,} of them in another size or quality" if near else ""
        measured = one == "train" and other in ("val", "test")
        spoils = measured and len(found) >= small * totals[other] and other not in excuses
        if measured and not spoils:
            told += f", {excuses.get(other, f'which is a note below {100 * small:g} %')}"
        by_design = one != "train" or other in excuses
        names, shown = ([], []) if by_design else (_names(found), found)
        remedy = "" if by_design else f"remove them from {one}, or data.dataset.exclude names them"
        yield Finding("leak", f"{one} and {other}", len(found), told, names, spoils, remedy, shown)


def two_labels(twins: Sequence[Twin], totals: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a finding about samples that are equal and have different labels."""
    differ = [t for t in twins if None not in (t.one.label, t.other.label) and t.one.label != t.other.label]
    for near in (False, True):
        if found := _unique([twin for twin in differ if twin.near == near]):
            whole = sum(totals[split] for split in {twin.other.split for twin in found})
            what = "looking the same as" if near else "equal to"
            part = f"{count_of(len(found), 'sample')} ({share(len(found), whole)})"
            told = f"{part} {what} one with another label"
            spoils = not near and len(found) >= SMALL * whole
            names = [f"{t.one.name} {t.one.label} = {t.other.name} {t.other.label}" for t in found]
            where = " and ".join(dict.fromkeys(split for twin in found for split in (twin.one.split, twin.other.split)))
            yield Finding(
                "two labels", where, len(found), told, names, spoils, "keep the right one of each pair", found
            )


def _unique(twins: Sequence[Twin]) -> list[Twin]:
    """Return one pair for each sample that is a copy; a sample's own file is meant by its name."""
    return list({(twin.other.split, twin.other.name): twin for twin in reversed(twins)}.values())[::-1]


def _same_file(twin: Twin) -> bool:
    return bool(twin.one.path) and twin.one.path == twin.other.path


def _names(twins: Sequence[Twin]) -> list[str]:
    names = [(twin.one.name, twin.other.name) for twin in twins]
    return [one if one == other else f"{one} = {other}" for one, other in names]
