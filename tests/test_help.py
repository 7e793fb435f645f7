"""help: an overview, and a topic for each command, list, key, component and config."""

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
        for typed in (key, key.replace("_", "-"), f"--{key}".removeprefix("--")):
            result = run("help", typed)
            assert result.code == 0 and f"{key}: {comments[key]}" in result.out and "takes " in result.out


@pytest.mark.parametrize(
    "topic, says",
    [
        ("lr", "optim.lr: a number [0.001]\n  of Adam, AdamW, RAdam, SGD"),
        ("optim.lr", "optim.lr: a number [0.002]\n  of Adamax, NAdam"),
        ("lr_decay", "schedule.lr_decay: a number [0.5]\n  of DecayOnRise"),
        ("root", "data.dataset.root: text; needed, unless the data provides it\n  of CIFAR10"),
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


def test_help_on_what_is_not_there(run):
    assert run("help", "optim.lrr") == (2, "", "no help on 'optim.lrr'; did you mean 'optim'?\n")
    assert run("help", "train.max_epcoh").err == "no help on 'train.max_epcoh'; did you mean 'train.max_epoch'?\n"
    assert run("help", "--lr=3").err == "--lr=3: help takes a topic: python main.py help lr\n"
    assert run("help", "a", "b").code == run("help", "zzz").code == 2
