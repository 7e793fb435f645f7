"""runs, diff and plot: commands that read run folders, damaged ones too, and train nothing."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN, ROOT, TOY
from filelock import FileLock
from PIL import Image

import utils.figures.compare
from commands.runs import width
from configs import COMPONENTS
from trainer.watchers.watcher import Watcher
from utils.config.yaml_text import dump_yaml
from utils.errors import CheckpointError
from utils.figures.compare import draw_comparison
from utils.runs.folder import newest_unfinished
from utils.runs.reading import best_value, read_curves, read_last_rows

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def a_terminal_of_200_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def make(tmp_path):
    """Make a run folder of some state, config and journal."""

    def folder(name, state="finished", best=0.9, age=0.0, rows=(), **config):
        path = tmp_path / "checkpoints" / name
        path.mkdir(parents=True)
        whole = {"task": "Classification", "model": "MLP", "data": {"dataset": "Digits"}, "train": {"max_epoch": 3}}
        (path / "config.yaml").write_text(dump_yaml(whole | config), encoding="utf-8")
        facts = {"epoch": 2, "step": 80, "monitor": "accuracy", "best": best, "seconds": 61.4, "time": NOW - age}
        (path / "status.json").write_text(json.dumps({"state": state, "pid": 1, **facts}))
        (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return folder


def row(phase, step, epoch=0, at=NOW, **metrics):
    return {"time": at, "phase": phase, "epoch": epoch, "step": step, **metrics}


def journal(count=4, gain=0.1):
    """Train rows each 10 steps, of which each second is followed by a validation; the one before last is the best."""
    rows = []
    for number in range(1, count + 1):
        rows.append(row("train", 10 * number, loss=2.0 / number, lr=0.1))
        if number % 2 == 0:
            accuracy = gain * (number if number < count else number - 3)
            rows.append(row("val", 10 * number, accuracy=accuracy, loss=1.0 / number))
    return rows


def table(result):
    """The cells of each line under the heading's names; no name here has two blanks in it."""
    assert (result.code, result.err) == (0, "")
    head, *lines = [line.split() for line in result.out.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def size(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


# Every command


@pytest.mark.parametrize(
    "command, allowed", [("runs", set()), ("diff a b", set()), ("plot a b", {"matplotlib", "numpy", "PIL"})]
)
def test_nothing_heavy_is_loaded(tmp_path, make, command, allowed):
    for name in ("a", "b"):
        make(name, rows=journal(), state="running")
    heavy = "{'torch', 'torchvision', 'numpy', 'PIL', 'matplotlib', 'visdom', 'tensorboardX', 'sklearn'}"
    code = f"import sys, main; c = main.main(sys.argv[1:]); print(sorted({heavy} & set(sys.modules))); sys.exit(c)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", code, *command.split()]
    result = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert set(ast.literal_eval(result.stdout.splitlines()[-1])) <= allowed


@pytest.mark.parametrize(
    "typed, message",
    [
        ("runs --stat=finished", "--stat=finished: no option 'stat'; did you mean 'state'?"),
        ("runs --state=finishd", "--state=finishd: no state of that name; did you mean 'finished'?"),
        ("runs --model=ResNet43", "--model=ResNet43: no model of that name; did you mean 'ResNet34'?"),
        ("runs --task=Clasification", "--task=Clasification: no task of that name; did you mean 'Classification'?"),
        ("runs --data=Digit", "--data=Digit: no data of that name; did you mean 'Digits'?"),
        ("runs --sort=bset", "--sort=bset: no such order; did you mean 'best'?"),
        ("runs --sort", "--sort: needs a value: --sort=…"),
        ("diff a", "diff takes two runs, got a; e.g. python main.py diff checkpoints/ONE checkpoints/OTHER"),
        ("diff a b --out=c.png", "--out=c.png: no option 'out'"),
        ("plot", "plot: which runs? e.g. python main.py plot checkpoints/NAME"),
        ("plot a --out=b.jpg", "--out=b.jpg: curves are drawn as PNG; give a name that ends in .png"),
    ],
)
def test_a_slip_of_the_finger_is_told_in_a_line(run, typed, message):
    assert run(*typed.split()) == (2, "", message + "\n")


@pytest.mark.parametrize("command", ["plot {}", "plot dogcat1 {}", "diff dogcat1 {}", "diff {} dogcat1"])
def test_a_run_that_is_not_there(run, make, tmp_path, command):
    make("dogcat1", rows=journal())
    (tmp_path / "empty").mkdir()
    for typed, message in (
        ("dogcta1", "dogcta1: there is no such run folder; did you mean 'dogcat1'?"),
        ("checkpoints/dogcat", "checkpoints/dogcat: there is no such run folder; did you mean 'dogcat1'?"),
        ("empty", "empty: holds no run: neither config.yaml nor log.jsonl is there"),
        ("nowhere.yaml", "nowhere.yaml: there is no such run folder; there is dogcat1"),
    ):
        assert run(*command.format(typed).split()) == (4, "", message + "\n")


# runs


def test_no_run_yet_is_a_sentence(run, tmp_path):
    assert run("runs") == (0, "no run in checkpoints yet; python main.py train begins one\n", "")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "README.md").write_text("here are runs")
    assert run("runs").out.startswith("no run in checkpoints yet")


def test_a_run_in_a_line(run, make):
    make("dogcat1", model={"name": "ResNet34", "stem": "small"}, data={"dataset": {"name": "DogCat", "root": "photos"}})
    make("faces", best=None, model={"generator": "G", "discriminator": {"name": "D"}}, age=1.0)
    assert run("runs").out.splitlines() == [
        "run      config  task            data    model     metric      best  epochs  steps  time  state",
        "dogcat1  -       Classification  DogCat  ResNet34  accuracy  0.9000     2/3     80  1:01  finished",
        "faces    -       Classification  Digits  G+D       -              -     2/3     80  1:01  finished",
    ]


@pytest.mark.parametrize(("told", "config"), [("configs/dogcat.yaml", "dogcat"), ("checkpoints/x/config.yaml", "x")])
def test_a_run_tells_its_config(run, make, told, config):
    file = make("a") / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"config": told}))
    assert table(run("runs"))[0]["config"] == config


def test_orders(run, make):
    make("b", best=0.5, age=3.0)
    make("c", best=None, age=1.0)
    make("a", best=0.7, age=2.0)
    facts = json.loads((make("d", age=9.0) / "status.json").read_text())
    facts |= {"monitor": "loss", "best": 0.3, "epoch": 9, "seconds": 3700.0}
    make("e", age=8.0).joinpath("status.json").write_text(json.dumps(facts | {"best": 0.2, "time": NOW - 8}))
    (make("f", age=7.0).parent / "d" / "status.json").write_text(json.dumps(facts))

    def order(*flags):
        return "".join(line["run"] for line in table(run("runs", *flags)))

    assert order() == order("--sort=newest") == "cabfed"
    assert order("--sort=run") == "abcdef"
    assert order("--sort=best") == "fabedc"  # more accuracy is better, less loss is
    assert order("--sort=epochs") == order("--sort=time") == "edcabf"
    assert {line["run"]: line["time"] for line in table(run("runs"))}["d"] == "1:01:40"


def test_filters_and_words(run, make):
    make("dogcat1", model="ResNet34")
    make("dogcat2", model="torchvision:resnet18", state="failed")
    make("poems", task="LanguageModel")

    def names(*arguments):
        return {line["run"] for line in table(run("runs", *arguments))}

    assert (
        names("--state=failed") == names("--model=torchvision") == names("--model=torchvision:resnet18") == {"dogcat2"}
    )
    assert names("DOG", "--model=ResNet34", "--state=finished") == {"dogcat1"}
    assert names("--task=LanguageModel") == names("oem") == {"poems"}
    assert names("1", "2") == {"dogcat1", "dogcat2"}
    result = run("runs", "dog", "--model=LeNet", "--sort=best")  # there is a LeNet, but no run has it
    assert (result.code, result.out) == (0, "none of the 3 runs in checkpoints fits dog --model=LeNet\n")


def test_a_folder_may_have_any_name(run, make, tmp_path):
    make("a\n\x1b[31m\udcff")
    (tmp_path / "checkpoints" / "link").symlink_to("a\n\x1b[31m\udcff")
    (tmp_path / "checkpoints" / ".ipynb_checkpoints").mkdir()
    assert [line["run"] for line in table(run("runs", "--sort=run"))] == ["a??[31m?", "link"]


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_table_fits_the_terminal(run, make, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    make("poetry-CharRNN-1121-083028", task="LanguageModel", data={"dataset": "Poems"}, model="CharRNN", best=173.3125)
    make("image_folder-SqueezeNet-1121-083029", model="SqueezeNet", data={"dataset": "ImageFolder"}, age=1.0)
    make("猫狗-" + 20 * "x", model="ResNet34", age=2.0)
    lines = run("runs").out.splitlines()
    assert len(lines) == 4 and max(map(width, lines)) <= columns
    assert len({width(line) for line in lines[1:]}) == 1  # aligned; each ends in "finished"
    assert all(text in "".join(lines) for text in ("173.3", "083028", "083029", "ResNet34"))
    assert all(text in "".join(lines) for text in ("-SqueezeNet-", "LanguageModel")) == (columns == 200)


def test_names_are_whole_where_there_is_no_terminal(start, make, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    make("r" * 100, model="M" * 100)
    out, err = start("runs").communicate(timeout=60)
    assert f"{'r' * 100}  -       Classification  Digits  {'M' * 100}  " in out and not err


@pytest.mark.parametrize(
    "file, text, reason",
    [
        ("config.yaml", None, "cannot be read: No such file or directory"),
        ("config.yaml", "task: [", ":1: expected the node content"),
        ("config.yaml", "- a\n- b\n", "is damaged: it names no task"),
        ("config.yaml", "\0", "unacceptable character"),
        ("status.json", None, "status.json: is missing"),
        ("status.json", "", "status.json: is damaged"),
        ("status.json", "[1]", "status.json: is damaged"),
        ("status.json", '{"state": "finished"}', "status.json: is damaged"),
        ("status.json", '{"state": "odd", "epoch": 1, "step": 1, "seconds": 1, "time": 1}', "status.json: is damaged"),
    ],
)
def test_a_damaged_folder_is_named_and_the_others_are_listed(run, make, file, text, reason):
    make("whole")
    path = make("broken") / file
    path.unlink() if text is None else path.write_text(text)
    result = run("runs")
    *listed, last = result.out.splitlines()
    assert (result.code, result.err) == (0, "") and len(listed) == 2 and "whole" in listed[1]
    assert last.startswith("passed over checkpoints/broken/") and reason in last


def test_a_run_that_holds_no_lock_has_crashed(run, make):
    from filelock import FileLock

    rows = [*journal(), row("val", 90, epoch=3, at=NOW + 38.6, accuracy=0.25)]
    path = make("one", state="running", best=None, age=0.0, rows=rows)
    with (path / "log.jsonl").open("ab") as file:
        file.write('{"time": 1, "phase": "val", "accuracy": 1, "note": "猫'.encode()[:-1])
    assert not (path / ".lock").exists()
    (line,) = table(run("runs"))
    assert not (path / ".lock").exists()  # reading leaves nothing behind
    seen = [line[name] for name in ("state", "best", "epochs", "steps", "time")]
    assert seen == ["crashed", "0.2500", "3/3", "90", "1:40"]
    with FileLock(path / ".lock"):
        assert table(run("runs", "--state=running"))[0]["run"] == "one"
    assert table(run("runs"))[0]["state"] == "crashed"


def test_a_true_run_from_its_start_to_its_death(run, start, tmp_path):
    flags = ["--model=MLP", "--max-epoch=2000", "--print-freq=1", *PLAIN]
    process = start("train", *flags, "--run=one")
    log = tmp_path / "checkpoints" / "one" / "log.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and b'"val"' in log.read_bytes()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    while time.monotonic() < until and table(run("runs"))[0]["best"] == "-":  # told by the save behind the row
        time.sleep(0.05)
    (line,) = table(run("runs"))
    assert line["state"] == "running" and int(line["steps"]) > 0 and 0 < float(line["best"]) <= 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    (line,) = table(run("runs"))
    assert (line["state"], line["metric"], line["model"], line["data"]) == ("crashed", "accuracy", "MLP", "Digits")
    assert line["config"] == "default"
    best = max(points := read_curves(log)["accuracy"]["val"].values())
    assert line["best"] == f"{best:.4f}" and line["epochs"].endswith("/2000") and int(line["steps"]) >= 40 * len(points)
    assert run("plot", "one").code == 0 and size(log.with_name("curves.png"))


# diff


def test_diff_shows_what_differs_beside_what_was_measured(run, make):
    make("a", rows=journal(6), model={"name": "MLP", "hidden": [64, 32]}, schedule={}, train={"seed": 0, "clip": None})
    optim = {"name": "SGD", "lr": 0.1}
    make("b", rows=journal(4), optim=optim, schedule={"name": "StepLR", "step_size": 3}, train={"seed": 0, "ema": None})
    result = run("diff", "a", "checkpoints/b")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "                    a                  b",
        "",
        "model.hidden        [64, 32]           -",
        "optim.name          -                  SGD",
        "optim.lr            -                  0.1",
        "schedule.name       -                  StepLR",
        "schedule.step_size  -                  3",
        "",
        "val accuracy, best  0.4000 at step 40  0.2000 at step 20",
        "val accuracy, last  0.3000 at step 60  0.1000 at step 40",
        "val loss, best      0.1667 at step 60  0.2500 at step 40",
        "val loss, last      0.1667 at step 60  0.2500 at step 40",
        "train loss, best    0.3333 at step 60  0.5000 at step 40",
        "train loss, last    0.3333 at step 60  0.5000 at step 40",
    ]


def test_diff_goes_into_lists_of_components(run, make):
    crop = {"name": "RandomCrop", "size": 24}
    make("a", data={"dataset": "Digits", "transform": {"train": [crop, "RandomHorizontalFlip"]}})
    other = [crop | {"size": 28}, {"name": "RandomHorizontalFlip", "p": 0.3}]
    make("b", data={"dataset": "Digits", "transform": {"train": other}})
    assert [line.split() for line in run("diff", "a", "b").out.splitlines()[2:]] == [
        ["data.transform.train[0].size", "24", "28"],
        ["data.transform.train[1].p", "-", "0.3"],
    ]


def test_diff_of_the_same(run, make):
    make("a", rows=[row("train", 1, g_loss=0.5, loss=None), row("show", 1, name="samples", picture="s.png")])
    make("b", model={"name": "MLP"})
    assert run("diff", "a", "b").out.splitlines() == [
        "a and b have the same config",
        "                    a                 b",
        "",
        "train g_loss, last  0.5000 at step 1  -",
    ]
    for name in "cd":
        make(name)
    assert run("diff", "c", "d").out == "c and d have the same config\n"


def test_diff_with_a_yaml(run, make, tmp_path):
    path = make("a", rows=journal())
    resolved = run("check", "default", "--print")
    assert resolved.code == 0
    (tmp_path / "my.yaml").write_text("base: default\nmodel: MLP\noptim: {lr: 0.5}\n")
    lines = run("diff", "a", "my.yaml").out.splitlines()
    assert lines[0].split() == ["a", "my.yaml"] and ["optim.lr", "-", "0.5"] in [line.split() for line in lines]
    assert not [line for line in lines if line.startswith(("task", "model"))]
    assert run("diff", str(path), "my.yaml").code == run("diff", "my.yaml", str(path / "config.yaml")).code == 0
    (tmp_path / "my.yaml").write_text("modle: MLP\n")
    assert run("diff", "a", "my.yaml") == (2, "", "my.yaml:1: no key 'modle'; did you mean 'model'?\n")


def test_diff_wraps_what_is_long_and_cuts_nothing(run, make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    make("a", note="深" * 60)
    make("b", note="/a/long/path" * 9 + "/one")
    out = run("diff", "a", "b").out
    assert max(map(width, out.splitlines())) <= 80
    assert out.count("深") == 60 and out.replace(" ", "").replace("深", "").replace("\n", "").endswith("/one")


# plot


def test_plot_of_one_run_is_its_curves(run, make, tmp_path):
    path = make("a", rows=journal())
    assert run("plot", "a", "checkpoints/a/").out == "checkpoints/a/curves.png: the curves of a\n"
    assert size(path / "curves.png") == (3 * 480, 380)
    assert run("plot", "a", "--out=mine.png").code == 0 and size(tmp_path / "mine.png")
    make("b")
    assert run("plot", "b") == (4, "", "checkpoints/b: log.jsonl holds no numbers to draw\n")


def test_plot_of_several_runs(run, make, tmp_path):
    for name in ("a", "b"):
        make(name, rows=[*journal(), row("show", 40, name="samples", picture="s.png")])
    make("c")
    result = run("plot", "a", "b", "c")
    assert result == (
        0,
        "c is left out: its log.jsonl holds no numbers to draw\ncheckpoints/comparison.png: the curves of a, b\n",
        "",
    )
    width, height = size(tmp_path / "checkpoints" / "comparison.png")
    assert width == 3 * 480 and height > 2 * 340  # accuracy, loss, train loss; learning rate; and the legend
    assert run("plot", "a", "b", "--out=pictures/both.PNG").code == 0 and size(tmp_path / "pictures" / "both.PNG")
    assert run("plot", "c", str(make("d"))).code == 4


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a comparison; the axes of its panels by title, and its legend."""
    figures = []

    def draw(runs):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            labels = draw_comparison(runs, tmp_path / "comparison.png")
        figure = figures[-1]
        assert size(tmp_path / "comparison.png")
        return {axes.get_title(): axes for axes in figure.axes}, figure.legends[0], labels

    write = utils.figures.compare.write_figure
    monkeypatch.setattr(
        utils.figures.compare, "write_figure", lambda figure, path: (figures.append(figure), write(figure, path))
    )
    return draw


def test_a_panel_a_metric_and_a_line_a_run(drawn, make):
    gan = [row("train", step, d_loss=0.5, g_loss=1.5, lr_generator=2e-4) for step in range(1, 4)]
    runs = {
        "a": read_curves(make("a", rows=journal()) / "log.jsonl"),
        "gan": read_curves(make("gan", rows=gan) / "log.jsonl"),
    }
    panels, legend, labels = drawn(runs)
    assert list(panels) == [
        "val loss",
        "val accuracy",
        "train loss",
        "train d_loss",
        "train g_loss",
        "learning rate",
        "learning rate of generator",
    ]
    assert {(axes.get_xlabel(), len(axes.lines)) for axes in panels.values()} == {("step (batches)", 2)}
    assert panels["val accuracy"].get_ylabel() == "accuracy (0 to 1)"
    assert panels["val accuracy"].lines[0].get_xydata().tolist() == [[20, 0.2], [40, pytest.approx(0.1)]]
    assert panels["learning rate"].get_ylim()[0] == 0  # where a constant rate is no zigzag of rounding
    assert labels == [text.get_text() for text in legend.get_texts()] == ["a", "gan"]


def test_runs_are_told_apart_without_colour_and_the_legend_covers_nothing(drawn, make):
    curves = read_curves(make("a", rows=journal()) / "log.jsonl")
    panels, legend, _ = drawn({f"a_run_with_quite_a_long_name_{number}": curves for number in range(28)})
    lines = panels["val loss"].lines
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 28
    assert len({line.get_linewidth() for line in lines}) == 28  # equal curves are seen below one another
    box = legend.get_window_extent()
    assert all(not box.overlaps(axes.get_tightbbox()) for axes in panels.values()) and box.x0 >= 0 and box.y0 >= 0
    assert all(axes.get_window_extent().height > 240 for axes in panels.values())  # nor does it take their room


def test_many_points_are_smoothed_and_an_explosion_hides_nothing(drawn):
    noisy = {step: 1.0 + (-1) ** step * 0.5 for step in range(1000)}
    exploded = {1: 50_000.0, 2: 1.5, 3: 1.0, 4: 0.5, 5: float("nan")}
    runs = {"a": {"loss": {"train": noisy, "val": exploded}, "lr": {"train": {step: 0.1**step for step in range(9)}}}}
    panels, _, _ = drawn(runs)
    line = panels["train loss, smoothed"].lines[0].get_xydata()
    assert len(line) <= 60 and np.allclose(line[:-1, 1], 1.0, atol=0.05) and line[-1, 0] == 999
    assert panels["val loss"].get_yscale() == "log" and panels["learning rate"].get_yscale() == "linear"


@pytest.mark.parametrize("name", ["猫狗", "$\\frac{$", "a_b^c", "x" * 80])
def test_awkward_names(drawn, name):
    _, _, labels = drawn({name: {"loss": {"val": {1: 1.0}}}, "b": {"loss": {"val": {1: 2.0}}}})
    assert labels[1] == "b" and (labels[0] in (name, "#1") or len(labels[0]) == 32)


def test_a_name_that_no_font_has_is_told_in_a_sentence(run, make):
    for name in ("\U00013000", "b"):  # a hieroglyph
        make(name, rows=journal())
    told = "#1 is \U00013000: no font here has its characters; install one, as by apt-get install fonts-noto-cjk\n"
    assert run("plot", "\U00013000", "b").out.endswith(told)


def test_the_best_of_some_values():
    assert best_value([3.0, float("nan"), 1.0, float("inf")], "min") == 1.0
    assert best_value([3.0, 1.0], "max") == 3.0
    assert best_value([float("nan")], "min") is best_value([], "max") is best_value([1.0], None) is None


# Removing


def test_failed_runs_are_removed_and_no_others(run, make):
    folders = {state: make(state, state=state) for state in ("failed", "finished", "stopped")}
    given = run("runs", "--remove=failed")
    assert given.code == 2 and "add --yes" in given.err and folders["failed"].exists(), "nobody was asked"
    given = run("runs", "--remove=failed", "--yes")
    assert given.code == 0 and given.out.endswith("removed: 1\n"), given
    assert "checkpoints/failed: failed, 80 steps" in given.out
    assert [state for state, folder in folders.items() if folder.exists()] == ["finished", "stopped"]
    assert run("runs", "--remove=failed", "--yes").out == "no such run: nothing is removed\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("", 2), ("no", 2)])
def test_one_is_asked_before_a_run_is_removed(run, make, tmp_path, monkeypatch, answer, left):
    make("one", state="stopped"), make("two")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert run("runs", "--remove=stopped").code == 0
    assert len(list((tmp_path / "checkpoints").iterdir())) == left


def test_a_running_run_is_never_removed(run, make):
    folder = make("a", state="running")
    given = run("runs", "--remove=running", "--yes")
    assert given.code == 2 and "failed" in given.err and folder.exists()
    assert "did you mean 'finished'" in run("runs", "--remove=finish", "--yes").err


def test_the_last_rows_are_read_without_the_first(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row("train", step, loss=0.5)) + "\n" for step in range(5000)))
    assert [one["step"] for one in read_last_rows(path, 4998)] == [4998, 4999]
    assert len(read_last_rows(path, 0)) == 5000 and not read_last_rows(path, 5000)
    assert not read_last_rows(tmp_path / "absent", 0)


# What others do to a run's files meanwhile


def test_a_bare_resume_passes_over_a_run_in_progress(run, tmp_path):
    done = run("train", "--run=stopped", *TOY, "--train.max_steps=3")
    assert done.code == 0, done.err
    for name in ("stopped", "busy"):
        path = tmp_path / "checkpoints" / name
        if name == "busy":
            shutil.copytree(tmp_path / "checkpoints/stopped", path)
        status = json.loads((path / "status.json").read_text())
        (path / "status.json").write_text(json.dumps(status | {"state": "stopped"}))
    os.utime(tmp_path / "checkpoints/busy/last.pth")
    with FileLock(tmp_path / "checkpoints/busy/.lock"):
        assert newest_unfinished() == Path("checkpoints/stopped")
        shutil.rmtree(tmp_path / "checkpoints/stopped")
        with pytest.raises(CheckpointError, match="that is not being trained .busy is."):
            newest_unfinished()
    assert newest_unfinished() == Path("checkpoints/busy")


@pytest.mark.parametrize("pid", [10**30, -1, "x", None])
def test_a_strange_owner_in_the_status_is_no_crash(run, make, pid):
    path = make("a", state="running")
    (path / "last.pth").touch()
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"pid": pid}))
    with FileLock(path / ".lock"):
        given = run("train", "--resume=checkpoints/a")
    assert given.code in (2, 4) and "Traceback" not in given.err, given


def remove(path):
    """Remove a file or a folder, in which a save may still be writing."""
    for _ in range(200):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if not path.exists():
            return
        time.sleep(0.02)


class Vandal(Watcher):
    """Removes a part of the run's folder after the third step."""

    def after_step(self, run, batch, scalars):
        if run.progress.step == 3:
            for path in run.folder.parent.glob("*" if self.all else "*/log.jsonl"):
                remove(path)


@pytest.mark.parametrize("everything", [True, False])
def test_a_folder_or_journal_that_is_removed_meanwhile(run, tmp_path, monkeypatch, everything):
    vandal = type("Vandal", (Vandal,), {"all": everything})
    registry = COMPONENTS["watcher"]
    monkeypatch.setattr(registry, "_unknown", lambda known: "")
    monkeypatch.setattr(registry, "get", lambda known, key="": vandal)
    saves = [] if everything else ["--train.save_steps=2"]  # none is being written while the folder goes
    given = run("train", "--run=a", *TOY, "--log.watchers=[Vandal]", *saves)
    if everything:
        # A save that is going on meanwhile may find its own file gone first.
        assert given.code == 5 and given.err.startswith("checkpoints/a"), given
        assert "removed while its run went on" in given.err or "No such file" in given.err
        assert not (tmp_path / "checkpoints/a").exists(), "a ghost of the run blocks its name"
        return
    assert given.code == 0 and "log.jsonl was removed while its run goes on; it is written anew" in given.out, given
    steps = list(read_curves(Path("checkpoints/a/log.jsonl"))["loss"]["train"])
    assert steps == list(range(1, steps[-1] + 1)) and len(steps) > 50
