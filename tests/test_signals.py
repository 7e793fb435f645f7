"""Signals: several processes agree by time."""

import signal
import time
from itertools import pairwise

import pytest

from trainer import signals
from utils import dist


def test_ranks_agree_by_time_and_not_by_rows(monkeypatch):
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "largest", lambda *own: [max(pair) for pair in zip(own, (15, 0, -100), strict=True)])
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched, agreed = signals.Signals(), []
    for step in range(1, 200):
        now[0] += 0.5  # s a step
        if watched.due(step):
            assert watched.across_ranks(step) == (15, 0)
            agreed.append(step)
    assert agreed[0] == 1 and {b - a for a, b in pairwise(agreed[1:])} == {int(signals.AGREE / 0.5)}


def test_ranks_of_a_resumed_run_agree_soon(monkeypatch):
    """The steps before it were taken in no time, as far as its own clock knows."""
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "largest", lambda *own: [*own])
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched, agreed = signals.Signals(), []
    for step in range(5001, 5100):
        now[0] += 0.5
        if watched.due(step):
            watched.across_ranks(step)
            agreed.append(step)
    assert agreed[:2] == [5001, 5002] and max(b - a for a, b in pairwise(agreed)) <= signals.AGREE / 0.5


def test_one_process_looks_after_each_step():
    watched = signals.Signals()
    watched.stop = signal.SIGTERM
    assert watched.due(1) and watched.across_ranks(1) == (signal.SIGTERM, 0)


def test_ranks_break_off_a_validation_together(monkeypatch):
    """They agree by time, and a signal of one of them counts for all."""
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    heard, asked = [0], []
    monkeypatch.setattr(dist, "largest", lambda own, pace: asked.append(own) or [max(own, heard[0]), pace])
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched = signals.Signals()
    for _ in range(200):
        now[0] += 0.5  # s a batch
        watched.raise_if_stopping()
    assert 200 / 6 <= len(asked) <= 200 / 6 + 3 and not watched.stop
    heard[0] = signal.SIGTERM
    taken = 0
    with pytest.raises(signals.Stopped):
        while taken < 7:
            now[0], taken = now[0] + 0.5, taken + 1
            watched.raise_if_stopping()
