"""Configs from Python code: the keys, the values and the mistakes are those of the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from config_text import as_flags

from configs import Component, ConfigError, load


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mistakes(*values, **keywords) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load("default", *values, **keywords)
    return str(error.value).split("\n")


def test_dotted_keys_in_a_dict_last_names_and_sections_as_keywords():
    expected = load("default", as_flags("--optim.lr=0.5", "--model=LeNet", "--max-epoch=3", "--weight-decay=0"))
    assert load("default", {"optim.lr": 0.5}, model="LeNet", max_epoch=3, weight_decay=0) == expected
    assert load("default", {"optim.lr": 0.5, "model": "LeNet", "train.max-epoch": 3, "weight_decay": 0.0}) == expected
    assert load("default", model="LeNet", optim={"lr": 0.5, "weight_decay": 0}, train={"max_epoch": 3}) == expected
    assert load("default", as_flags("--optim.lr=0.5", "--max-epoch=3"), model="LeNet", weight_decay=0) == expected
    assert load() == load("default") == load("default", {})


def test_a_path_or_a_name():
    Path("mine.yaml").write_text("train: {seed: 5}\n")
    assert load(Path("mine.yaml"), ema=0.5).train == load("mine.yaml", {"ema": 0.5}).train
    assert load(Path("mine.yaml"), ema=0.5).train.seed == 5
    assert mistakes(name="x", options=1)[0].startswith("name='x': no key 'name'")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (0.5, 0.5),
        (1, 1.0),
        ("1e-3", 0.001),
        (".5", 0.5),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(2), 2.0),
        (10**15, 1e15),
    ],
)
def test_numbers_and_text_that_is_one(given, value):
    for cfg in (load("default", lr=given), load("default", {"optim": {"lr": given}})):
        found = cfg.optim["model"].args["lr"]
        assert found == value and type(found) is float


def test_text_stays_text_where_text_is_asked_for():
    for text in ("1e-3", "null", "true", "~", "", "[1, 2]", "{a: b}", "--x", "a=b", "a\nb"):
        assert load("default", env=text).log.env == text
    assert load("default", env=None).log.env is None
    dogcat = {"name": "DogCat", "root": Path("a/b")}
    assert load("default", {"data.dataset": dogcat}).data.dataset.args == {"root": "a/b"}
    assert load("default", {"data.train_data_root": Path("a")}).data.train_data_root == "a"


def test_true_false_none_and_words_for_them():
    cfg = load("default", {"train.clip": None}, visdom=False)
    assert (cfg.log.visdom, cfg.train.clip) == (False, None)
    cfg = load("default", {"log.visdom": "false", "train.clip": "null", "use_gpu": False, "schedule": None})
    assert (cfg.log.visdom, cfg.train.clip, cfg.train.use_gpu, cfg.schedule) == (False, None, False, {})
    assert load("default", no_visdom=True).log.visdom is False


def test_lists_dicts_components_and_sections():
    crop = {"name": "RandomCrop", "size": 8, "padding": "1"}
    adam = {"name": "AdamW", "betas": ("0.5", 1)}
    cfg = load("default", {"data.transform.train": [crop, "RandomHorizontalFlip"]}, optim=adam)
    first, second = cfg.data.transform.train
    assert (first, second) == (Component("RandomCrop", {"size": 8, "padding": 1}), Component("RandomHorizontalFlip"))
    assert cfg.optim["model"] == Component("AdamW", {"betas": (0.5, 1.0)})
    cfg = load("default", model=Component("MLP", {"hidden": (3, 4)}), train=replace(load("dogcat").train, seed=3))
    assert cfg.model["model"] == Component("MLP", {"hidden": (3, 4)}) and cfg.train.seed == 3
    roles = {"generator": "MLP", "discriminator": Component("MLP")}
    cfg = load("default", task="GAN", model=roles, optim={"generator": "SGD", "discriminator": "SGD"}, schedule=None)
    assert list(cfg.model) == list(cfg.optim) == ["generator", "discriminator"]


def test_the_mistakes_are_told_at_once_as_they_were_typed():
    given = {"optim.lr": "fast", "train.max_epcoh": 3, "optim": {"name": "Adam", "lrr": 1}, "": 1, 3: 4}
    assert mistakes(given, lr=0.1, modell="LeNet", env=[1], seed=1.5, visdom="yes", precision="fp8") == [
        "{'optim.lr': 'fast'}: optim.lr: expected a number, got 'fast'",
        "{'train.max_epcoh': 3}: no key 'train.max_epcoh'; did you mean 'train.max_epoch'?",
        "{'optim': {'name': 'Adam', 'lrr': 1}}: Adam takes no 'optim.lrr'; did you mean 'optim.lr'?",
        "{'': 1}: no key ''; python main.py help lists the keys",
        "{3: 4}: no key '3'; python main.py help lists the keys",
        "lr=0.1: is the same key as {'optim.lr': 'fast'}; leave one out",
        "modell='LeNet': no key 'modell'; did you mean 'model'?",
        "env=[1]: log.env: expected text or null, got a list of 1",
        "seed=1.5: train.seed: expected a whole number, got '1.5'",
        "visdom='yes': log.visdom: expected true or false, got 'yes'; did you mean 'true'?",
        "precision='fp8': train.precision: expected one of fp32, bf16, fp16, auto, got 'fp8'",
    ]
    gan = {"task": "GAN", "schedule": None, "optim": {"generator": "SGD", "discriminator": "SGD"}}
    assert mistakes(gan, lr=0.1, model={"generator": "MLP", "discriminator": "MLP"}) == [
        "lr=0.1: could be optim.discriminator.lr or optim.generator.lr: write it in full"
    ]
    assert mistakes(lr=True) == ["lr=True: optim.lr: expected a number, got 'true'"]


def test_what_no_config_file_can_hold_is_refused():
    class Net: ...

    told = "expected a number, text, True, False, None, a list or a dict, got"
    assert mistakes(model=Net)[0].endswith(f": {told} a class: give its name, 'Net'")
    (line,) = mistakes({"env": Net()})
    assert line.endswith(f": {told} a value of type Net")
    assert mistakes(data={"transform": {"train": [np.zeros(2)]}})[0].endswith(f"{told} a value of type ndarray")


def test_a_folder_that_code_names_is_never_without_effect():
    """As on the command line, the dataset's own folder gives way to a split's."""
    Path("a.yaml").write_text("data: {dataset: {name: MNIST, root: ours}}\n")
    data = load("a.yaml", train_data_root="theirs").data
    assert (data.dataset.args["root"], data.train_data_root) == ("theirs", None)
    data = load("a.yaml", {"data.dataset.root": "b", "data.train_data_root": "a"}).data
    assert (data.dataset.args["root"], data.train_data_root) == ("b", "a")
    data = load("a.yaml", train_data_root="a", data={"dataset": {"name": "MNIST", "root": "b"}}).data
    assert (data.dataset.args["root"], data.train_data_root) == ("b", "a")
