"""Texts from the log-probabilities that a network learned by CTC: the best path, and a search over prefixes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BLANK", "best_path", "prefix_search"]

BLANK = 0  # the class of no character
NEVER = -math.inf
Text = tuple[int, ...]


def best_path(log_probs: Tensor, steps: Sequence[int] | None = None) -> list[list[int]]:
    """Return the characters of each of B texts from log-probabilities [T, B, C].

    The likeliest class of each step, of a run of equal ones the first, without blanks. Of text i the first `steps[i]`
    steps count, or all.
    """
    path = log_probs.argmax(2).T  # [B, T]
    before = torch.cat([torch.full_like(path[:, :1], BLANK), path[:, :-1]], 1)
    written = (path != BLANK) & (path != before)
    ends = [len(log_probs)] * len(path) if steps is None else steps
    read = zip(path.cpu(), written.cpu(), ends, strict=True)
    return [row[:end][keep[:end]].tolist() for row, keep, end in read]


def prefix_search(log_probs: Tensor, beam: int, steps: Sequence[int] | None = None) -> list[list[int]]:
    """Return the likeliest text found for each of B from log-probabilities [T, B, C].

    A text's probability is the sum over all paths that give it; the `beam` likeliest beginnings are followed, each by
    the `beam` likeliest classes of a step (Graves et al., "Connectionist Temporal Classification", 2006; Hannun et al.,
    "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014).
    """
    texts = log_probs.double().cpu().transpose(0, 1)
    ends = [len(log_probs)] * len(texts) if steps is None else steps
    return [_search(frames[:end], beam) for frames, end in zip(texts, ends, strict=True)]


def _search(frames: Tensor, beam: int) -> list[int]:
    """Return the likeliest text of frames [T, C]."""
    found: dict[Text, tuple[float, float]] = {(): (0.0, NEVER)}  # of a text: its paths that end in a blank, and others
    chosen = frames[:, 1:].topk(min(beam, frames.shape[1] - 1), 1).indices + 1
    for frame, likely in zip(frames.tolist(), chosen.tolist(), strict=True):
        after: dict[Text, tuple[float, float]] = {}

        def add(text: Text, blank: float, other: float, into: dict[Text, tuple[float, float]] = after) -> None:
            known = into.get(text, (NEVER, NEVER))
            into[text] = _sum(known[0], blank), _sum(known[1], other)

        for text, (blank, other) in found.items():
            whole = _sum(blank, other)
            add(text, whole + frame[BLANK], other + frame[text[-1]] if text else NEVER)
            for one in likely:
                add((*text, one), NEVER, (blank if text and text[-1] == one else whole) + frame[one])
        best = sorted(after, key=lambda text: -_sum(*after[text]))[:beam]
        found = {text: after[text] for text in best}
    return list(max(found, key=lambda text: _sum(*found[text])))


def _sum(one: float, other: float) -> float:
    """Return the logarithm of the sum of two numbers whose logarithms are given."""
    low, high = sorted((one, other))
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
