"""kfold and sweep: runs made of runs, each in a process of its own; what they leave, and what a kill does not lose."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import PLAIN, ROOT, rows
from filelock import FileLock

from commands._leaderboard import leaderboard
from commands.sweep import _name
from utils.config.choices import Draw, choices, combinations, drawn
from utils.config.cli import Flag
from utils.errors import CheckpointError, ConfigError
from utils.runs.folder import refuse_name
from utils.runs.study import Child, Study, read_study

TINY = ["--model=MLP", "--model.hidden=[8]", "--optim=Adam", "--max-epoch=1", "--data.fraction=0.2", *PLAIN]


def flag(text: str, key: str = "optim.lr") -> Flag:
    return Flag(key, text, f"--{key}={text}")


# Values


def test_commas_at_the_top_level_list_values():
    assert choices(flag("1e-2,1e-3")) == ["1e-2", "1e-3"]
    assert choices(flag("0..2")) == ["0", "1", "2"] and choices(flag("-1..1,5")) == ["-1", "0", "1", "5"]
    assert choices(flag("[1,2],[3]")) == ["[1,2]", "[3]"]
    assert choices(flag("{name: SGD, lr: 1},Adam")) == ["{name: SGD, lr: 1}", "Adam"]
    assert choices(flag("'a,b'")) == ["'a,b'"] and choices(flag("0.5")) == ["0.5"] and choices(flag("a..b")) == ["a..b"]
    grid = combinations([(flag("", "a"), ["1", "2"]), (flag("", "b"), ["3", "4"])])
    assert [tuple(keys.values()) for keys in grid] == [("1", "3"), ("1", "4"), ("2", "3"), ("2", "4")]


def test_ranges_are_drawn_from():
    assert drawn(flag("log(1e-4,1e-1)")) == Draw(1e-4, 0.1, log=True)
    assert drawn(flag("uniform(-1, 2)")) == Draw(-1, 2, log=False) and drawn(flag("logistic")) is None


@pytest.mark.parametrize("text", ["log(0,1)", "log(1)", "uniform(2,1)", "uniform(a,b)", "uniform(0,inf)"])
def test_a_range_that_is_none_is_told(text):
    with pytest.raises(ConfigError, match="of which a is the lower one"):
        drawn(flag(text))


@pytest.mark.parametrize("text, told", [("2..0", "no numbers"), ("1,1", "listed twice"), ("1,,2", "is empty")])
def test_a_list_that_is_none_is_told(text, told):
    with pytest.raises(ConfigError, match=told):
        choices(flag(text))


def test_names_of_children_are_short_and_safe(tmp_path):
    study = Study(tmp_path / "s", "sweep", [], "Classification")
    assert _name(study, {"optim.lr": "1e-2", "seed": "1"}) == "lr=0.01-seed=1"
    assert _name(study, {"a.lr": "1", "b.lr": "x/y z"}) == "a.lr=1-b.lr=x_y_z"
    assert _name(study, {"lr": "1e30"}) == "lr=1e30" and _name(study, {"p": "-0.5"}) == "p=-0.5"
    study.children.append(Child("lr=0.01", {}))
    assert _name(study, {"lr": "0.01001"}) == "lr=0.01-2"
    assert len(_name(study, {"key": "x" * 500})) <= 90


def test_mistakes_are_told_before_anything_is_made(run, tmp_path):
    for typed, told in (
        (["sweep", *TINY], "nothing is swept"),
        (["sweep", *TINY, "--lr=log(1e-3,1)"], "--trials=N says how often"),
        (["sweep", *TINY, "--lr=1,2", "--sampler=TPE"], "needs --trials=N"),
        (["sweep", *TINY, "--lr=1,x"], "--lr=x: optim.lr: expected a number"),
        (["sweep", *TINY, "--lr=1,2", "--jobs=0"], "at least one child"),
        (["kfold", *TINY, "--folds=1"], "two folds"),
        (["kfold", *TINY, "--data.fold=[0,2]"], "kfold sets it"),
        (["kfold", *TINY, "--data.dataset=StraightLine"], "does not divide its samples itself"),
        (["kfold", *TINY, "--folds"], "needs a value"),
        (["kfold", *TINY, "--on=moon"], "there are ray and slurm"),
    ):
        result = run(*typed)
        assert result.code == 2 and told in result.err, (typed, result)
    assert not (tmp_path / "checkpoints").exists()
    result = run("kfold", "--resume=nowhere")
    assert result.code == 4 and "there is no study" in result.err


def test_a_slash_in_a_runs_name_is_for_children_of_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="letters, digits"):
        refuse_name("s/fold0")
    Study(tmp_path / "checkpoints" / "s", "kfold", [], "Classification").save()
    refuse_name("s/fold0")
    refuse_name("s/lr=0.1")
    for wrong in ("s/../x", "s/a/b", "s/", "../s/a", "s/.x", "lr=0.1"):
        with pytest.raises(ConfigError, match="letters, digits"):
            refuse_name(wrong)


def test_a_damaged_study_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="holds no study"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"children": [{"nme": 1}]}')
    with pytest.raises(CheckpointError, match="is damaged"):
        read_study(tmp_path)


def made(path, **best) -> Study:
    """A study whose children have these best values."""
    study = Study(path, "sweep", [], "Classification")
    for name, (keys, value) in best.items():
        study.children.append(Child(name, keys))
        (path / name).mkdir(parents=True)
        told = {"state": "finished", "monitor": "accuracy", "best": value, "epoch": 3, "seconds": 1}
        (path / name / "status.json").write_text(json.dumps(told))
    study.save()
    return study


def test_the_leaderboard_has_the_best_first_and_means_over_seeds_and_folds(tmp_path):
    keys = {f"{lr}{seed}": {"lr": lr, "seed": seed} for lr in "ab" for seed in "01"}
    values = {"a0": 0.5, "a1": 0.7, "b0": 0.9, "b1": 0.8}
    study = made(tmp_path / "s", **{name: (keys[name], values[name]) for name in keys})
    lines = leaderboard(study)
    assert [line.split()[0] for line in lines[1:5]] == ["b0", "b1", "a1", "a0"]
    assert lines[0].split() == ["run", "lr", "seed", "accuracy", "epochs", "state"]
    assert [line.split() for line in lines[-2:]] == [
        ["b", "0.8500", "±", "0.0707", "2", "runs"],
        ["a", "0.6000", "±", "0.1414", "2", "runs"],
    ]
    assert read_study(tmp_path / "s").children == study.children


# Whole studies


def typed_in(folder, *typed) -> str:
    """The output of a command in a folder."""
    command = [sys.executable, str(ROOT / "main.py"), *typed]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert told.returncode == 0, told
    return told.stdout


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of four children, two at a time, as typed."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, typed_in(folder, "sweep", *TINY, "--lr=1e-2,1e-3", "--seed=0..1", "--jobs=2", "--run=sw")


@pytest.mark.slow
def test_a_sweep_trains_every_combination(swept):
    folder, told = swept
    names = [f"lr={lr}-seed={seed}" for lr in ("0.01", "0.001") for seed in (0, 1)]
    assert {path.name for path in (folder / "checkpoints/sw").iterdir() if path.is_dir()} == set(names)
    assert [f"{name}: finished" in told for name in names] == [True] * 4
    assert "± " in told and "next: python main.py plot checkpoints/sw" in told
    assert all((folder / "checkpoints/sw" / name / "best.pth").exists() for name in names)
    children = json.loads((folder / "checkpoints/sw/study.json").read_text())["children"]
    assert [child["state"] for child in children] == ["finished"] * 4


@pytest.mark.slow
def test_its_leaderboard_and_its_picture_are_made_again(swept, run, monkeypatch):
    folder, told = swept
    run("help")  # it goes to an empty folder
    monkeypatch.chdir(folder)
    assert run("runs", "sw").out.strip() in told
    assert "sw: sweep of 4 runs" in run("runs").out
    result = run("plot", "sw")
    assert result.code == 0 and "accuracy over lr, seed" in result.out, result
    assert (folder / "checkpoints/sw/study.png").stat().st_size > 5000
    result = run("val", "checkpoints/sw/lr=0.01-seed=1")
    assert result.code == 0, result


@pytest.mark.slow
def test_a_finished_sweep_trains_nothing_again(swept, run, monkeypatch):
    folder, _ = swept
    run("help")
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "checkpoints/sw").rglob("*.pth")}
    result = run("sweep", "--resume=checkpoints/sw")
    assert result.code == 0 and "started" not in result.out and "lr=0.01-seed=0" in result.out
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "checkpoints/sw").rglob("*.pth")}
    assert run("sweep", *TINY, "--lr=1e-2,1e-3", "--seed=0..1", "--run=sw", "--resume=checkpoints/sw").code == 0
    result = run("sweep", *TINY, "--lr=1,2", "--resume=checkpoints/sw")
    assert result.code == 2 and "goes on as it began" in result.err
    assert run("kfold", "--resume=checkpoints/sw").code == 2
    with FileLock(folder / "checkpoints/sw/.lock"):
        result = run("sweep", "--resume=checkpoints/sw")
    assert result.code == 2 and "another process runs this study" in result.err


def test_an_array_job_for_a_cluster(run, tmp_path):
    result = run("sweep", *TINY, "--lr=1e-2,1e-3", "--on=slurm", "--run=far")
    assert result.code == 0 and "an array job of 2" in result.out, result
    job = (tmp_path / "checkpoints/far/job.sh").read_text()
    assert "#SBATCH --array=0-1" in job and "children=(lr=0.01 lr=0.001)" in job
    assert (tmp_path / "checkpoints/far/lr=0.01.yaml").exists()


def test_a_cluster_that_is_not_there_is_one_sentence_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr("commands._ray.installed", lambda name: False)
    result = run("sweep", *TINY, "--lr=1e-2,1e-3", "--on=ray", "--run=far")
    assert result == (2, "", "--on=ray: ray is not installed; pip install 'deeptrain[ray]' installs it\n")
    assert run("sweep", *TINY, "--lr=1e-2,1e-3", "--on=moon").code == 2
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_children_train_on_a_ray_cluster_and_end_with_their_parent(tmp_path):
    """On a cluster that ray starts in this machine; a parent that is killed takes its children along."""
    pytest.importorskip("ray")
    command = [sys.executable, str(ROOT / "main.py"), "sweep"]
    options = {"cwd": tmp_path, "env": {**os.environ, "RAY_ADDRESS": "local"}, "stdout": subprocess.DEVNULL}
    begin = [*TINY, "--lr=1e-2,1e-3", "--on=ray", "--jobs=2", "--run=far", "--max-epoch=100000", "--train.save_steps=1"]
    with subprocess.Popen([*command, *[word for word in begin if word != "--max-epoch=1"]], **options) as parent:
        files = [tmp_path / f"checkpoints/far/lr={rate}/last.pth" for rate in ("0.01", "0.001")]
        wait_for(lambda: all(file.exists() for file in files), parent, 120)
        parent.kill()
    study = read_study(tmp_path / "checkpoints/far")
    wait_for(lambda: all(study.state(child) in ("stopped", "crashed") for child in study.children))
    short = [*command, *TINY, "--lr=1e-2,1e-3", "--on=ray", "--jobs=2", "--run=near"]
    assert subprocess.run(short, timeout=300, **options).returncode == 0
    near = read_study(tmp_path / "checkpoints/near")
    assert [near.state(child) for child in near.children] == ["finished"] * 2


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Two folds, as typed."""
    folder = tmp_path_factory.mktemp("folded")
    return folder, typed_in(folder, "kfold", *TINY, "--folds=2", "--jobs=2", "--run=kf", "--lr=1e-2")


@pytest.mark.slow
def test_folds_give_each_row_once(folded, run, monkeypatch):
    folder, told = folded
    run("help")
    monkeypatch.chdir(folder)
    with open(folder / "checkpoints/kf/oof.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len({row["id"] for row in table}) == 1527  # 85 % of the digits
    assert Counter(row["child"] for row in table) == {"fold0": 764, "fold1": 763}
    right = sum(max("0123456789", key=lambda name: float(row[name])) == row["truth"] for row in table)
    assert all(abs(sum(float(row[name]) for name in "0123456789") - 1) < 1e-5 for row in table)
    score = read_study(folder / "checkpoints/kf").options["oof"]["accuracy"]
    assert abs(right / 1527 - score) < 0.003 and f"accuracy {score:.6g}" in told
    found = run("val", "checkpoints/kf/fold0").out
    held = [row for row in table if row["child"] == "fold0"]
    own = sum(max("0123456789", key=lambda name: float(row[name])) == row["truth"] for row in held) / len(held)
    assert abs(float(found.splitlines()[1].split()[1]) - own) < 0.003  # of equal probabilities either is right


@pytest.mark.slow
def test_the_folds_are_averaged_into_one_submission(folded, run, monkeypatch):
    folder, _ = folded
    run("help")
    monkeypatch.chdir(folder)
    result = run("test", "checkpoints/kf")
    assert result.code == 0 and "out-of-fold: accuracy 0." in result.out, result
    with open("checkpoints/kf/submission.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 270 and abs(sum(float(table[0][name]) for name in "0123456789") - 1) < 1e-5


# Trials


@pytest.mark.slow
def test_trials_are_drawn_and_told_to_optuna(run, tmp_path):
    optuna = pytest.importorskip("optuna", reason="the extra sweep is not installed")
    result = run("sweep", *TINY, "--lr=log(1e-3,1e-1)", "--trials=2", "--sampler=random", "--run=tr")
    assert result.code == 0, result
    trials = optuna.load_study(study_name="tr", storage=f"sqlite:///{tmp_path}/checkpoints/tr/optuna.db").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    study = read_study(tmp_path / "checkpoints/tr")
    assert [-trial.value for trial in trials] == [study.best(child) for child in study.children]
    assert [float(child.keys["lr"]) for child in study.children] == [trial.params["lr"] for trial in trials]


def test_a_sampler_that_is_none_is_told(run):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    result = run("sweep", *TINY, "--lr=log(1e-3,1e-1)", "--trials=2", "--sampler=Rndom")
    assert result.code == 2 and "did you mean 'Random'" in result.err
    result = run("sweep", *TINY, "--lr=log(1e-3,1e-1)", "--trials=2", "--pruner=Meedian")
    assert result.code == 2 and "did you mean 'Median'" in result.err


def test_a_pruner_that_needs_more_than_a_name_is_told(run, tmp_path):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    result = run("sweep", *TINY, "--lr=log(1e-3,1e-1)", "--trials=2", "--pruner=Percentile")
    assert result.code == 2 and "cannot be made from its name alone" in result.err
    assert not (tmp_path / "checkpoints").exists()


def test_without_optuna_one_sentence_says_so(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = run("sweep", *TINY, "--lr=log(1e-3,1e-1)", "--trials=2")
    assert result.code == 2 and "pip install 'deeptrain[sweep]'" in result.err


# Kills

LONG = ["--model=MLP", "--optim=Adam", "--max-epoch=6", "--print-freq=1", *PLAIN]


def wait_for(condition, process=None, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().split()[2] == "Z"


def children_of(path) -> list[int]:
    found = [json.loads(file.read_text()).get("pid") for file in path.glob("*/status.json")]
    return [pid for pid in found if pid]


@pytest.mark.slow
def test_children_end_with_a_parent_that_is_killed_and_a_resume_gives_the_same(start, run, tmp_path):
    typed = ["kfold", *LONG, "--folds=2", "--jobs=2"]
    assert start(*typed, "--run=whole").wait(120) == 0
    parent = start(*typed, "--run=cut")
    folder = tmp_path / "checkpoints/cut"
    wait_for(lambda: len(list(folder.glob("*/last.pth"))) == 2, parent)
    pids = children_of(folder)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert len(pids) == 2
    end = time.monotonic() + 30
    while not all(map(gone, pids)):
        assert time.monotonic() < end, "a child outlived its parent"
        time.sleep(0.1)
    again = start(*typed, "--resume=checkpoints/cut")
    assert again.wait(120) == 0
    for child in ("fold0", "fold1"):
        assert rows(f"cut/{child}", tmp_path) == rows(f"whole/{child}", tmp_path)
    assert (folder / "oof.csv").read_text() == (tmp_path / "checkpoints/whole/oof.csv").read_text()


@pytest.mark.slow
def test_an_interrupt_is_passed_on_and_each_child_saves(start, tmp_path):
    parent = start("sweep", *LONG[:2], "--max-epoch=500", *PLAIN, "--lr=1e-2,1e-3", "--jobs=2", "--run=cut")
    folder = tmp_path / "checkpoints/cut"
    wait_for(lambda: len(list(folder.glob("*/last.pth"))) == 2, parent)
    parent.send_signal(signal.SIGINT)
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == 130 and "go on with: python main.py sweep --resume=checkpoints/cut" in out, (out, err)
    states = [json.loads(file.read_text())["state"] for file in folder.glob("*/status.json")]
    assert states == ["stopped", "stopped"] and "Traceback" not in err


@pytest.mark.slow
def test_a_child_that_fails_does_not_end_the_others(start, tmp_path):
    parent = start("sweep", "--model=MLP", "--optim=SGD", "--max-epoch=2", *PLAIN, "--lr=1e30,1e-3", "--run=bad")
    out, err = parent.communicate(timeout=120)
    assert parent.returncode == 6, (out, err)
    assert "failed (exit code 6)" in out and "lr=0.001: finished" in out
