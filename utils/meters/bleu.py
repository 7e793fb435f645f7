"""BLEU: the fraction of a sentence's word sequences that occur in one of its reference sentences."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from utils.meters.base import Meter, State

__all__ = ["Bleu"]

Sentence = Sequence[Hashable]  # words


class Bleu(Meter):
    """BLEU of a whole corpus, in [0, 1], without smoothing.

    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002: the geometric mean of the
    precisions of 1 to `order` words in a row, reduced for sentences that are shorter than their references. A sentence
    with fewer words than a sequence counts as one miss, as in nltk's corpus_bleu, which gives the same value.
    """

    def __init__(self, order: int = 4) -> None:
        if order < 1:
            raise ValueError(f"order must be at least 1, not {order}")
        self.order = order
        self._hits, self._total = [0] * order, [0] * order
        self._length = self._wanted = 0

    def add(self, sentence: Sentence, references: Sequence[Sentence]) -> None:
        """Add a sentence and its references, each a sequence of words. Raises ValueError without a reference."""
        if not references:
            raise ValueError("a sentence needs a reference at least")
        for n in range(1, self.order + 1):
            counts, allowed = _sequences(sentence, n), Counter[Sentence]()
            for reference in references:
                allowed |= _sequences(reference, n)  # the larger count of each
            self._hits[n - 1] += (counts & allowed).total()
            self._total[n - 1] += max(1, counts.total())
        self._length += len(sentence)
        # the length of the nearest reference
        self._wanted += min((abs(len(r) - len(sentence)), len(r)) for r in references)[1]

    def state(self) -> State:
        return {"hits": [*self._hits], "total": [*self._total], "length": self._length, "wanted": self._wanted}

    def merge(self, state: State) -> None:
        self._hits = [a + b for a, b in zip(self._hits, state["hits"], strict=True)]
        self._total = [a + b for a, b in zip(self._total, state["total"], strict=True)]
        self._length += state["length"]
        self._wanted += state["wanted"]

    def value(self) -> float | None:
        if not self._total[0]:
            return None
        if 0 in self._hits:
            return 0.0
        logs = [math.log(hits / total) for hits, total in zip(self._hits, self._total, strict=True)]
        return math.exp(sum(logs) / self.order + min(0.0, 1 - self._wanted / self._length))


def _sequences(sentence: Sentence, n: int) -> Counter[Sentence]:
    return Counter(tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1))
