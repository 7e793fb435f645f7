"""Configs: layers and their order, values, and every mistake told in one go."""

import math
import time
from pathlib import Path

import pytest
from config_text import as_flags, at

from configs import COMPONENTS, Component, Config, load, resolve
from utils.errors import ConfigError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Layers


def test_precedence_is_schema_base_file_flags():
    Path("base.yaml").write_text("train: {max_epoch: 2, seed: 2, clip: 2}\nlog: {print_freq: 2}\n")
    cfg = at("base: base.yaml\ntrain: {seed: 3, clip: 3}\n", "--train.clip=4")
    train = cfg.train
    assert (train.accumulate, train.max_epoch, train.seed, train.clip, cfg.log.print_freq) == (1, 2, 3, 4.0, 2)


def test_a_flag_for_a_splits_folder_is_never_without_effect():
    """A folder that the file gives the dataset itself, for all splits, would be taken instead of it."""
    text = "data: {dataset: {name: MNIST, root: ours}}\n"
    data = at(text, "--train-data-root=theirs").data
    assert (data.dataset.args["root"], data.train_data_root, data.test_data_root) == ("theirs", None, None)
    for flag in ("--test-data-root=theirs", "--data.test_data_root=theirs"):
        data = at(text, flag).data
        assert (data.dataset.args, data.train_data_root, data.test_data_root) == ({}, "ours", "theirs")
    data = at(text, "--test-data-root=b", "--train-data-root=a").data
    assert ("root" in data.dataset.args, data.train_data_root, data.test_data_root) == (False, "a", "b")
    data = at(text, "--train-data-root=a", "--data.dataset.root=b").data
    assert (data.dataset.args["root"], data.train_data_root) == ("b", "a"), "what is typed in full wins"
    data = at(text, "--train-data-root=a", "--data.dataset={name: MNIST, root: b}").data
    assert (data.dataset.args["root"], data.train_data_root) == ("b", "a")
    data = at(text, "--train-data-root=a", "--data.dataset=DogCat").data
    assert (data.dataset.args, data.train_data_root) == ({}, "a")


def test_a_flag_for_the_training_folder_is_for_both_where_the_file_has_one_for_both():
    text = "data: {train_data_root: ours, test_data_root: ours}\n"
    for flags, roots in (
        (["--train-data-root=a"], ("a", "a")),
        (["--test-data-root=a"], ("ours", "a")),
        (["--train-data-root=a", "--test-data-root=b"], ("a", "b")),
    ):
        data = at(text, *flags).data
        assert (data.train_data_root, data.test_data_root) == roots
    data = at(text.replace("test_data_root: ours", "test_data_root: other"), "--train-data-root=a").data
    assert (data.train_data_root, data.test_data_root) == ("a", "other")
    data = at("", "--train-data-root=a").data
    assert (data.train_data_root, data.test_data_root) == ("a", None)


def test_an_empty_file_is_the_defaults():
    assert at("") == at("# nothing\n") == Config()


def test_a_base_lies_beside_the_file_or_in_configs():
    Path("mnist.yaml").write_text("train: {max_epoch: 77}\n")
    assert at("base: mnist\n").train.max_epoch == at("base: mnist.yaml\n").train.max_epoch == 77
    assert at("base: dogcat.yaml\n").data.dataset == Component("DogCat")


def test_bases_that_go_wrong_are_named_with_their_line():
    assert at("task: Classification\nbase: dogcatt.yaml\n") == [
        "a.yaml:2: base: no config 'dogcatt.yaml'; did you mean 'dogcat'?"
    ]
    Path("b.yaml").write_text("\nbase: a.yaml\n")
    assert at("base: b.yaml\n") == ["b.yaml:2: base: a.yaml is built on this file; a config cannot be its own base"]
    for wrong in ("[dogcat]", "{a: b}", ""):
        assert at(f"base: {wrong}\n") == ["a.yaml:1: base: expected the name of one config file"]
    Path("b.yaml").write_text("a: [\n")
    assert at("base: b.yaml\n")[0].startswith("b.yaml:2: ")
    Path("b.yaml").write_text("train:\n  sed: 1\n")
    assert at("base: b.yaml\n") == ["b.yaml:2: no key 'train.sed'; did you mean 'train.seed'?"]


def test_a_name_is_looked_up_in_configs_and_a_path_is_a_path():
    Path("dogcat").write_text("data in a file of that name")
    assert load("dogcat").data.dataset.name == "DogCat"
    assert at("task: Classification", name="b.yaml") == load("./b.yaml")
    for missing in ("x" * 5000, "a\0b", ".", "", "/", "configs"):
        with pytest.raises(ConfigError, match="no config"):
            load(missing)
    Path("run").mkdir()
    Path("run/config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no config 'run'; did you mean 'run/config.yaml'\?"):
        load("run")


# Mistakes


def test_every_mistake_is_told_with_its_place_in_the_order_of_the_lines():
    text = "model: ResNet43\ntrain:\n  max_epcoh: 3\n  seed: x\ndata: {batch_size: 0}\noptim: {name: Adam, lrr: 1}\n"
    assert at(text, "--print-freq=often", "--use-gpu=maybe", "--zzz=1", "--schedule=StepLR") == [
        "a.yaml:1: model: no 'ResNet43' in models; did you mean 'ResNet34'?",
        "a.yaml:3: no key 'train.max_epcoh'; did you mean 'train.max_epoch'?",
        "a.yaml:4: train.seed: expected a whole number, got 'x'",
        "a.yaml:5: data.batch_size must be at least 1, got 0",
        "a.yaml:6: Adam takes no 'optim.lrr'; did you mean 'optim.lr'?",
        "--print-freq=often: log.print_freq: expected a whole number, got 'often'",
        "--use-gpu=maybe: train.use_gpu: expected one of auto, true, false, got 'maybe'",
        "--zzz=1: no key 'zzz'; python main.py help lists the keys",
        "--schedule=StepLR: StepLR needs 'schedule.step_size'",
    ]


@pytest.mark.parametrize(
    "text, meant",
    [
        ("max_epoch: 3", "train.max_epoch"),
        ("data: {max_epoch: 3}", "train.max_epoch"),
        ("lr: 0.1", "optim.lr"),
        ("batch-size: 3", "data.batch_size"),
        ("train: {epochs: 3}", "train.max_epoch"),
        ("train: {learning_rate: 3}", "optim.lr"),
        ("trian: {max_epoch: 3}", "train"),
        ("optimizer: SGD", "optim"),
        ("train: {max_epochs: 3}", "train.max_epoch"),
        ("task: {nam: Classification}", "task.name"),
        ("optim: {nam: SGD, lr: 0.1}", "optim.name"),
        ("schedule: {nmae: StepLR}", "name"),
        ("data: {transform: {train: [{neme: Resize, size: 3}]}}", "name"),
        ("data: {dataset: {name: DogCat, rot: x}}", "data.dataset.root"),
    ],
)
def test_an_unknown_key_suggests_the_right_one_with_its_section(text, meant):
    assert at(text) == [line for line in at(text) if f"did you mean '{meant}'?" in line]
    assert at(text)[0].startswith("a.yaml:1: ")


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("train:\n\tseed: 1\n", 2, "indent with spaces, not with tabs"),
        ("train:\n  seed: 1\n  seed: 2\n", 3, "'seed' is given twice (first at a.yaml:2)"),
        ("optim: {name: SGD, lr: 1, lr: 2}\n", 1, "'lr' is given twice"),
        ("train: &t {seed: 1}\nlog: *t\n", 2, "aliases (*name) are not supported"),
        ("log: {env: *.jpg}\n", 1, "put text that begins with * or & in quotes"),
        ("task: !!python/object:os.system x\n", 1, "tag tag:yaml.org,2002:python/object:os.system is not supported"),
        ("task: !!str x\n", 1, "tag tag:yaml.org,2002:str is not supported"),
        ("a: 1\nmodel " + "\nb: 2\n", 3, "the line above has no ': ' behind its key"),
        ("train:\n  seed:1\n  max_epoch: 2\n", 3, "the space behind the ':' above"),
        ("log: {env: a: b}\n", 1, "text with ': ' in it needs quotes"),
        ("optim: {name: SGD\n", 2, "a bracket was not closed"),
        ("log: {env: 'abc\n", 2, "a quote was not closed"),
        ("train:\n    seed: 1\n  clip: 2\n", 3, "the indent does not fit the lines above"),
        ("task: Classification\n---\nmodel: MLP\n", 2, "a config is one document"),
        ("[a]: 3\n", 1, "a key must be a word"),
        ("log:\n  env: " + "[" * 30 + "]" * 30, 2, "nested deeper than 20"),
    ],
)
def test_text_that_is_not_a_config_is_told_with_line_and_remedy(text, line, says):
    assert any(message.startswith(f"a.yaml:{line}: ") and says in message for message in at(text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optim: {lr: 1}\nmodell: X\noptim: {lr: x}\ntrian: {}\n", {2: "'modell'", 3: "given twice", 4: "'trian'"}),
        ("optim: {lr: 1, lr: x}\n", {1: "given twice"}),
        ("modell: X\noptim: {lr: 0.2\ntrian: {}\n", {1: "'modell'", 3: "a bracket was not closed"}),
        (
            "train: {max_epoch: x}\ndata:\n\tdataset: A\nmodell: X\n",
            {1: "max_epoch", 3: "not with tabs", 4: "'modell'"},
        ),
    ],
)
def test_a_doubled_key_or_a_part_that_is_no_yaml_hides_no_other_mistake(text, told):
    found = at(text, "--lr=y")
    for line, says in told.items():
        assert any(message.startswith(f"a.yaml:{line}: ") and says in message for message in found), found


def test_a_mistake_that_the_unreadable_part_may_have_caused_is_not_told():
    (only,) = at("model: {name: LeNet\n", "--model.hidden=3")  # no section is left: who knows which network it is
    assert "a bracket was not closed" in only


def test_long_words_are_shortened_wherever_they_stand(run):
    began = time.process_time()
    for typed in (f"--{'a' * 10_000}=3", f"--model={'a' * 10_000}", f"--train.{'a' * 10_000}=3"):
        assert max(map(len, run("check", typed).err.splitlines())) < 600
    assert max(map(len, run("help", "a" * 10_000).err.splitlines())) < 600
    Path("a.yaml").write_text(f"{'a b ' * 1000}: 3\n")
    assert max(map(len, run("check", "./a.yaml").err.splitlines())) < 600
    assert time.process_time() - began < 6, "looking for a similar word takes seconds"


def test_files_that_are_no_text_are_told():
    assert at(b"task: A\nmodel: \xff\xfe\n") == ["a.yaml:2: is not UTF-8 text; save the file as UTF-8"]
    assert at("a: " + "x" * 1_000_000) == ["a.yaml: is too large for a config, which has at most 1,000,000 bytes"]
    assert at("a: \0") == ["a.yaml: unacceptable character #x0000: special characters are not allowed"]
    for text in ("- a\n- b\n", "just words", "3", "task:Classification"):
        assert at(text) == ["a.yaml: a config holds keys and values, as 'model: ResNet34' with a space behind ':'"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes():
    assert at(b"\xef\xbb\xbftrain:\r\n  seed: 3\r\n").train.seed == 3


# Values


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1", -1.0),
        ("1_000", 1000.0),
        ("012", 12.0),
        (".inf", math.inf),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    noise = f"[{{name: GaussianNoise, mean: {text}}}]"  # an argument of any value
    for cfg in (at(f"data: {{transform: {{train: {noise}}}}}"), at("", f"--data.transform.train={noise}")):
        read = cfg.data.transform.train[0].args["mean"]
        assert read == value and isinstance(read, float)


def test_012_is_12_for_a_number_and_itself_for_a_text():
    cfg = at("train: {seed: 012}\nlog: {env: 012}\n", "--data.dataset={name: DogCat, root: 007}")
    assert (cfg.train.seed, cfg.log.env, cfg.data.dataset.args) == (12, "012", {"root": "007"})


@pytest.mark.parametrize(
    "text", ["NO", "yes", "on", "1:30", "0x10", "1e999", "x" * 200, "9" * 5000, "2026-01-01", "真"]
)
def test_what_yaml_1_1_takes_for_something_else_stays_text(text):
    assert at(f"log: {{env: {text}}}").log.env == text
    assert "expected a number" in at(f"optim: {{name: SGD, lr: {text}}}")[0]
    assert "expected a whole number" in at("", f"--seed={text}")[0]


def test_null_is_nothing_where_nothing_is_allowed_and_quotes_make_text():
    assert [at(f"log: {{env: {t}}}").log.env for t in ("null", "~", "", "'null'", '""')] == [
        None,
        None,
        None,
        "null",
        "",
    ]
    assert at("train: {seed: '3'}") == [
        "a.yaml:1: train.seed: expected a whole number, got '3' (without the quotes it would be one)"
    ]
    assert at("train: {seed: null}") == ["a.yaml:1: train.seed: expected a whole number, got 'null'"]
    assert at("train:\n  seed:\n") == ["a.yaml:2: train.seed: expected a whole number, got nothing"]


@pytest.mark.parametrize("text", ["yes", "ON", "1"])
def test_a_word_for_true_says_so(text):
    assert at(f"log: {{visdom: {text}}}") == [
        f"a.yaml:1: log.visdom: expected true or false, got '{text}'; did you mean 'true'?"
    ]
    assert "did you mean 'false'?" in at("", "--use-gpu=no")[0]
    assert at("log: {visdom: True}").log.visdom is True


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: 3", "train: expected a section of keys, as train.max_epoch, got '3'"),
        ("train: [seed]", "train: expected a section of keys, as train.max_epoch, got a list of 1"),
        ("train:", "train: expected a section of keys, as train.max_epoch, got nothing"),
        ("train: {seed: {a: 1}}", "train.seed: expected a whole number, got keys and values"),
        ("train: {seed: 1.5}", "train.seed: expected a whole number, got '1.5'"),
        ("train: {seed: -1}", "train.seed must be from 0 to 2147483648, got -1"),
        ("train: {seed: 2147483649}", "train.seed must be from 0 to 2147483648, got 2147483649"),
        ("train: {clip: -1}", "train.clip must be at least 0, got -1"),
        ("train: {clip: .nan}", "train.clip must be at least 0, got .nan"),
        ("train: {ema: 2}", "train.ema must be from 0 to 1, got 2"),
        ("train: {max_steps: 0}", "train.max_steps must be at least 1, got 0"),
        ("train: {precision: fp8}", "train.precision: expected one of fp32, bf16, fp16, auto, got 'fp8'"),
        ("train: {monitor: [a]}", "train.monitor: expected text or null, got a list of 1"),
        ("log: {visdom: 2}", "log.visdom: expected true or false, got '2'"),
        ("log: {visdom_host: {a: b}}", "log.visdom_host: expected text, got keys and values"),
        ("log: {visdom_port: 70000}", "log.visdom_port must be from 1 to 65535, got 70000"),
        ("data: {transform: {train: Resize}}", "data.transform.train: expected a list of components, got 'Resize'"),
        ("data: {transform: {train: [[a]]}}", "data.transform.train[0]: expected a name, got a list of 1"),
        ("data: {transform: {train: [{size: 3}]}}", "data.transform.train[0]: needs a name, as in {name: ResNet34}"),
        (
            "model: [MLP]",
            "model: expected a component (a name, or name and arguments), or several by role, got a list of 1",
        ),
        ("model: {name: [MLP]}", "model: expected a name, got a list of 1"),
        ("model: ''", "model: expected a name, got nothing"),
        ("task:", "task: expected a name, got nothing"),
        ("task: null", "task: expected a name, got 'null'"),
    ],
)
def test_a_wrong_value_is_told_for_each_kind_of_key(text, message):
    assert at(text) == [f"a.yaml:1: {message}"]


def test_the_place_of_each_value_is_known():
    at("train: {seed: 3}\n")
    tree = resolve("a.yaml", as_flags("--train.clip=2")).tree
    places = {key: tree.at(f"train.{key}").where for key in ("seed", "clip", "max_epoch")}
    assert places == {"seed": "a.yaml:1", "clip": "--train.clip=2", "max_epoch": "default"}


def test_configs_are_frozen_and_complete():
    cfg = load("dogcat")
    with pytest.raises(AttributeError):
        cfg.train.seed = 3
    assert cfg.optim["model"].args["lr"] == 1e-3 and set(COMPONENTS) >= {"model", "data", "task", "optim"}
