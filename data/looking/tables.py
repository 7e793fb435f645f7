"""The columns and rows of tables: those that say nothing, that say too much, and that the splits share."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data._cells import parse_number
from data._table import Cells, Table
from data.looking.findings import Finding
from utils.words import count_of

__all__ = ["hashes", "table_findings"]

SURE = 0.99  # of accuracy or AUC: what a single column seldom reaches
ODD = 0.05  # of the cells: words among numbers
FEW = 30  # rows from which a column is judged
MOST = 0.2  # of the rows: a column of more different texts is a name, which predicts by heart


def hashes(cells: Cells) -> list[str]:
    """Return a hash of the cells of each row, without its target and its id; columns count in order of their names."""
    header = cells.table.header
    places = [header.index(name) for name in sorted(set(header) - {cells.target, cells.id})]
    rows = ("\0".join(row[place] for place in places) for _, row in cells.table.rows)
    return [hashlib.blake2b(row.encode("utf-8", "replace"), digest_size=16).hexdigest() for row in rows]


def table_findings(splits: Mapping[str, Cells]) -> Iterator[Finding]:
    """Yield the findings about columns; those about rows are of their hashes."""
    if "train" not in splits:
        return
    table, target, id, ignored = splits["train"]
    names = [name for name in table.header if name not in (target, id, *ignored)]
    columns = {name: _texts(table, name) for name in names}
    if constant := [name for name, texts in columns.items() if len(set(texts)) == 1]:
        told = f"{count_of(len(constant), 'column')} with one value only"
        remedy = f"data.dataset.columns.ignore=[{', '.join(constant[:3])}]"
        yield Finding("constant column", "train", len(constant), told, constant, remedy=remedy)
    yield from _telling(columns, _texts(table, target))
    for split, (other, *_) in splits.items():
        shared = [name for name in names if name in other.header and split != "train"]
        apart = [name for name in shared if _apart(columns[name], _texts(other, name))]
        if apart:
            told = f"{count_of(len(apart), 'column')} with no value and no range of numbers in common"
            remedy = f"is it another kind of rows? data.dataset.columns.ignore=[{', '.join(apart[:3])}]"
            yield Finding("drift", f"train and {split}", len(apart), told, apart, remedy=remedy)


def _texts(table: Table, name: str) -> list[str]:
    return [text for _, text in table.cells(name)]


def _telling(columns: Mapping[str, Sequence[str]], target: Sequence[str]) -> Iterator[Finding]:
    """Yield columns that are the target, or predict it alone."""
    equal = [name for name, texts in columns.items() if len(set(target)) > 1 and _equal(texts, target)]
    if equal:
        yield _leak("target column", equal, "the target under another name, or in other words")
    others = [name for name in columns if name not in equal]
    if telling := [name for name in others if len(target) >= FEW and _predicts(columns[name], target)]:
        told = f"each predicts the target alone, with an accuracy, AUC or correlation above {SURE}"
        yield _leak("telling column", telling, told)


def _leak(kind: str, names: Sequence[str], told: str) -> Finding:
    remedy = f"if it is not known before the target is: data.dataset.columns.ignore=[{', '.join(names[:3])}]"
    told = f"{count_of(len(names), 'column')}, {told}"
    return Finding(kind, "train", len(names), told, names, True, remedy)


def _equal(texts: Sequence[str], target: Sequence[str]) -> bool:
    """Return whether each value stands for one of the target and the other way round, and values repeat."""
    if list(texts) == list(target):
        return True
    pairs = set(zip(texts, target, strict=True))
    return len(pairs) == len(set(texts)) == len(set(target)) < MOST * len(target)


def _predicts(texts: Sequence[str], target: Sequence[str]) -> bool:
    numbers, wanted = _numbers(texts), _numbers(target)
    classes = Counter(target)
    if numbers is not None and wanted is not None and len(classes) > 20:
        return bool(numbers.std() and wanted.std()) and abs(np.corrcoef(numbers, wanted)[0, 1]) > SURE
    if len(classes) > MOST * len(target):
        return False
    if numbers is not None and len(classes) == 2:
        return _auc(numbers, np.asarray([text == min(classes) for text in target])) > SURE
    return _accuracy(texts, target) > max(SURE, 1 - 0.1 * (1 - max(classes.values()) / len(target)))


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """Return the numbers of a column, gaps as their mean; None for a column in which words are not rare."""
    values, words = np.full(len(texts), np.nan), 0
    for place, text in enumerate(texts):
        try:
            value = parse_number(text)
            values[place] = np.nan if value is None else value
        except ValueError:
            words += 1
    if words > ODD * len(texts) or np.isnan(values).mean() > 0.5:
        return None
    return np.nan_to_num(values, nan=float(np.nanmean(values)))


def _auc(numbers: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve of a column, or of its reverse; ties count half."""
    _, ranks, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    many = int(positive.sum())
    area = (middle[ranks][positive].sum() - many * (many + 1) / 2) / (many * (len(positive) - many))
    return float(max(area, 1 - area))


def _accuracy(texts: Sequence[str], target: Sequence[str]) -> float:
    """Return how often the second half of the rows has the commonest class of its text in the first half."""
    if len(set(texts)) > MOST * len(texts):
        return 0.0
    known: dict[str, Counter[str]] = {}
    for text, wanted in list(zip(texts, target, strict=True))[::2]:
        known.setdefault(text, Counter())[wanted] += 1
    rest = list(zip(texts, target, strict=True))[1::2]
    return sum(text in known and known[text].most_common(1)[0][0] == wanted for text, wanted in rest) / len(rest)


def _apart(ones: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two columns have no range, or without numbers no text, in common."""
    left, right = _numbers(ones), _numbers(others)
    if left is not None and right is not None:
        return bool(left.min() > right.max() or right.min() > left.max())
    if len(set(ones)) > MOST * len(ones):
        return False  # names, which are seldom the same
    return not {text for text in ones if text} & {text for text in others if text}
