"""Each part of the state decides something: drop it or change it, and the resumed run is another, or refuses."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, rows, same_run, state

from configs.schema import Train
from trainer.progress import Progress

ARGS = [
    "--model=MLP",
    "--model.dropout=0.2",
    "--optim=Adam",
    "--lr=1",
    "--optim.weight_decay=1",  # it learns nothing: its best epoch is not the last
    "--schedule=DecayOnRise",
    "--lr-decay=0.5",
    "--train.accumulate=3",
    "--train.clip=1",
    "--train.ema=0.9",
    "--train.early_stop=9",
    "--train.keep_top=1",
    "--print-freq=5",
    "--max-epoch=3",
    "--batch-size=100",
    *PLAIN,
]
CUT = 31  # in the third epoch, in an open accumulation window, between two train rows
# What another value of is no difference, or is told in words: how long it took, where the journal is cut; and how many
# requests of ctl are behind it, in a run that had none.
FREE = {
    "config",
    "meta",
    "fingerprint",
    "data",
    "format",
    "progress/seconds",
    "progress/validation_seconds",
    "progress/journal",
    "progress/interventions",
    "progress/batch",  # follows from the samples
    "names",  # by which a resumed run says how its samples differ
    "update/model/names",  # by which another run knows whose moments the optimizer's state has
}
ADDED = ("progress/validation_seconds", "progress/interventions", "progress/samples", "names")
ADDED += ("update/model/schedule/own", "update/model/names")  # which checkpoints of earlier versions lack


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with a whole run, and one that was cut; and the cut one's state."""
    import os

    import main

    folder, before = tmp_path_factory.mktemp("runs"), os.getcwd()
    os.chdir(folder)
    assert main.main(["train", "--run=whole", *ARGS]) == 0
    assert main.main(["train", "--run=cut", *ARGS, f"--train.max_steps={CUT}"]) == 0
    os.chdir(before)
    return folder


def parts(tree, path="") -> dict[str, object]:
    """Every part that holds a value: down to leaves, lists as one part."""
    if isinstance(tree, dict) and tree and path.count("/") < 5:
        return {name: leaf for key, value in tree.items() for name, leaf in parts(value, f"{path}/{key}").items()}
    return {path[1:]: tree}


def changed(value, by: float = 1000):
    """Another value of the same kind."""
    if isinstance(value, torch.Tensor):
        return value + by if value.is_floating_point() else value.flip(0) if value.ndim else value + 1
    if isinstance(value, dict):
        return {key: changed(item, by) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(changed(item, by) for item in value) if value else [[1, 5]]
    if isinstance(value, bool):
        return not value
    return value if isinstance(value, str) else by if value is None else value + int(by)


def put(tree: dict, path: str, value, drop: bool = False) -> dict:
    """A copy of nested dicts with another value at one place, or without it."""
    key, _, rest = path.partition("/")
    key = next(k for k in tree if str(k) == key)
    if drop and not rest:
        return {k: v for k, v in tree.items() if k != key}
    return tree | {key: put(tree[key], rest, value, drop) if rest else value}


def resumed(run, runs, monkeypatch, new: dict) -> tuple[int, bool]:
    """The exit code of a run resumed from such a state, and whether it became the same run; 1: an exception."""
    folder = runs / "checkpoints" / "cut"
    saved = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    monkeypatch.chdir(runs)
    try:
        torch.save(new, folder / "last.pth")
        for name in ("last.pth.sha256", "previous.pth"):  # no digest to fit, nothing to fall back on
            (folder / name).unlink()
        try:
            given = run_in(runs, run, "train", "--resume=checkpoints/cut", "--train.max_steps=null")
        except Exception:  # as python would end with a traceback
            gc.collect()  # the lock on the folder lies in the traceback
            return 1, False
        if given.code:
            return given.code, False
        same = same_run(state("cut", folder=runs), state("whole", folder=runs))
        return 0, same and rows("cut", runs) == rows("whole", runs)
    finally:
        for path in [path for path in folder.iterdir() if path.is_file() and path not in saved]:
            path.unlink()
        for path, content in saved.items():
            path.write_bytes(content)


def run_in(folder: Path, run, *arguments: str):
    import os

    os.chdir(folder)
    return run(*arguments)


def test_the_state_as_it_is_gives_the_same_run(run, runs, monkeypatch):
    assert resumed(run, runs, monkeypatch, state("cut", folder=runs)) == (0, True)


def test_each_part_that_is_changed_is_seen(run, runs, monkeypatch):
    whole = state("cut", folder=runs)
    unseen = []
    found = [name for name, value in parts(whole).items() if not name.startswith(tuple(FREE)) and value != {}]
    assert len(found) > 30, found
    for name in found:
        others = (put(whole, name, changed(parts(whole)[name], by)) for by in (1000, -1000))
        if all(resumed(run, runs, monkeypatch, other)[1] for other in others):
            unseen.append(name)
    assert unseen == ["progress/score"], "the last score is only looked at where an epoch ends without a validation"


@pytest.mark.slow
def test_each_part_that_is_missing_is_refused_or_seen(run, runs, monkeypatch):
    whole = state("cut", folder=runs)
    names = [name for name in parts(whole) if not name.startswith(("config", "meta"))]
    names += [name for name in whole if name not in ("format",)]
    unseen, crashed = [], []
    for name in dict.fromkeys(names):
        code, same = resumed(run, runs, monkeypatch, put(whole, name, None, drop=True))
        unseen += [name] if same else []
        crashed += [(name, code)] if code not in (0, 4) else []
    unseen = [
        name for name in unseen if not name.startswith(("fingerprint", "data", *ADDED)) and parts(whole).get(name) != {}
    ]
    assert not crashed and not unseen, (crashed, unseen)


def test_the_minutes_of_a_run_hold_its_last_validation():
    train = Train(max_minutes=1.0)
    at = Progress(step=10, validated=5, seconds=45.0, validation_seconds=20.0)
    assert at.ended(train), "20 s of validation would end at 65 s"
    assert not replace(at, validated=10).ended(train), "it is done"
    assert not replace(at, validation_seconds=10.0).ended(train)
    stored = at.state_dict()
    del stored["validation_seconds"]
    assert Progress.from_state(stored) == replace(at, validation_seconds=0.0), "of an earlier version"
