"""help: an overview, and a topic for each command, list, key, component and config."""

import re

import pytest
from conftest import ROOT

import main
from commands.help import LISTS
from configs import COMPONENTS
from configs.comments import key_comments
from configs.keys import schema_keys


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",), ("help", "--help"), ("trian", "--help")])
def test_help_is_an_overview_that_fits_80_columns(run, arguments):
    result = run(*arguments)
    if arguments != ("help", "--help"):
        assert all(key in result.out for key in [*main.COMMANDS, *schema_keys(), *LISTS, "dogcat_small", "configs"])
    assert result.code == 0 and not result.err and max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize("command", list(main.COMMANDS))
@pytest.mark.parametrize("typed", [["{}", "--help"], ["{}", "dogcat", "--lr=3", "-h"], ["help", "{}"]])
def test_a_commands_help_starts_nothing(run, tmp_path, command, typed):
    result = run(*(word.format(command) for word in typed))
    assert result.code == 0 and result.out.startswith(f"python main.py {command}") and not result.err
    assert list(tmp_path.iterdir()) == [] and max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize("topic", [*LISTS, "configs"])
def test_a_list_names_each_of_its_kind(run, topic):
    names = (
        COMPONENTS[LISTS[topic]].all_names() if topic in LISTS else [p.stem for p in (ROOT / "configs").glob("*.yaml")]
    )
    result = run("help", topic)
    assert result.code == 0 and names and all(name in result.out for name in names)
    assert not {"params", "optimizer", "transform", "split", "last_epoch"} & set(result.out.replace(",", "").split())


def test_each_key_has_a_comment_and_help(run):
    comments = key_comments()
    assert comments.keys() == schema_keys().keys() and all(len(text) > 10 for text in comments.values())
    for key in schema_keys():
        for typed in {key, key.replace("_", "-")}:
            result = run("help", typed)
            assert result.code == 0 and f"{key}: {comments[key]}" in result.out and "takes " in result.out


@pytest.mark.parametrize(
    "topic, says",
    [
        ("lr", "optim.lr: learning rate, the size of a step\n  "),
        ("optim.lr", "  a number [0.001]: of Adam, AdamW, SGD, Muon, RAdam, SparseAdam\n  a number [0.01]: of ASGD"),
        ("lr_decay", "schedule.lr_decay\n  0.5 in "),
        ("schedule.lr_decay", "  a number [0.5]: of DecayOnRise"),
        ("root", "data.dataset.root\n  text; needed, unless the data provides it: of CIFAR10"),
        ("log", "log.env: visdom environment"),
        ("model", "help models lists them"),
        ("ResNet34", "stem                   one of auto, imagenet, small [auto]"),
        ("torchvision:resnet18", "weights                text or null"),
        ("Adam", "betas                  a list of 2 numbers [[0.9, 0.999]]"),
        ("StepLR", "step_size              a whole number; needed"),
        ("dogcat", "python main.py train dogcat --train-data-root="),
        ("GAN", "generate CHECKPOINT:\n  --gen-num              a whole number [64]"),
        ("StyleTransfer", "  --content-path         text; needed"),
    ],
)
def test_help_explains_arguments_components_and_configs(run, topic, says):
    result = run("help", topic)
    assert (result.code, result.err) == (0, "") and says in result.out


def test_help_on_a_key_tells_where_it_is_set(run, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/default.yaml").write_text(
        "task: Classification\nmodel: MLP\ndata: {dataset: Digits}\n\noptim: {name: SGD, lr: 0.25}\n"
    )
    assert "  0.25 in configs/default.yaml:5; set it with --optim.lr=…" in run("help", "lr").out
    assert "train.max_epoch: passes over the training set [10]\n  takes" in run("help", "max_epoch").out


def test_the_columns_of_help_align_for_long_names_too(run, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/a_config_with_a_long_name.yaml").write_text("# Long.\nbase: default\n")
    lines = [line for line in run("help", "configs").out.splitlines() if line[:3].strip()]
    assert len({len(line) - len(line[2:].partition(" ")[2].lstrip()) for line in lines}) == 1
    assert "  a_config_with_a_long_name Long." in "\n".join(lines)


def test_help_on_a_feature_that_is_not_there_says_so(run):
    for topic, says in (("prune", "networks are not pruned"), ("quantize", "not quantized"), ("onnx", "--format=onnx")):
        assert says in run("help", topic).err
    assert run("help", "infer").err == "no help on 'infer'; did you mean 'test'?\n"
    assert run("infer", "x").err == "no command 'infer'; did you mean 'test'?\n"
    assert "which format" in run("export", "x").err


def test_the_versions(run):
    result = run("--version")
    assert result.code == 0 and re.fullmatch(r"deeptrain [\d.]+, torch [\d.+a-z]+, Python [\d.]+\n", result.out)


def test_help_on_what_is_not_there(run):
    assert run("help", "optim.lrr") == (2, "", "no help on 'optim.lrr'; did you mean 'optim'?\n")
    assert run("help", "train.max_epcoh").err == "no help on 'train.max_epcoh'; did you mean 'train.max_epoch'?\n"
    assert run("help", "--lr=3").err == "--lr=3: help takes a topic: python main.py help lr\n"
    assert run("help", "a", "b").code == run("help", "zzz").code == 2
